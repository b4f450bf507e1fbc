"""What each node costs on its device, as heartbeats report it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hams_shared.wire.messages.agents import NodeLoad


@dataclass
class Load:
    """What a node has cost since the agent started."""

    frames: int = 0
    inferences: int = 0
    """Images."""
    busy_s: float = 0.0
    """Time of the whole device, s. With n lanes that is the n-th part of a lane's time, which includes making the batch
    ready and finishing it."""
    spent_s: float = 0.0
    """Time that inferences took, s."""
    alone: int = 0
    """Inferences that had several lanes to themselves."""
    alone_s: float = 0.0
    batches: int = 0
    """In which the images were computed."""
    cpu_s: dict[str, float] = field(default_factory=dict)
    """By step: CPU time of the threads that did it, s."""

    def add(self, cost: Load, *, alone: bool) -> None:
        """Add what one batch cost; `alone`: it had several lanes to itself."""
        self.frames += cost.frames
        self.inferences += cost.inferences
        self.batches += cost.inferences > 0
        self.busy_s += cost.busy_s
        self.spent_s += cost.spent_s
        if alone:
            self.alone += cost.inferences
            self.alone_s += cost.busy_s

    def add_cpu(self, cpu_s: Mapping[str, float]) -> None:
        """Add the CPU time of one batch by step, s."""
        for step, seconds in cpu_s.items():
            self.cpu_s[step] = self.cpu_s.get(step, 0.0) + seconds

    def to_wire(self, group: str, node: str) -> NodeLoad:
        """The account of `node` as heartbeats carry it."""
        return NodeLoad(
            group=group,
            node=node,
            frames=self.frames,
            inferences=self.inferences,
            batches=self.batches,
            busy_s=round(self.busy_s, 6),
            alone=self.alone,
            alone_s=round(self.alone_s, 6),
            cpu_s={step: round(seconds, 6) for step, seconds in self.cpu_s.items()},
        )
