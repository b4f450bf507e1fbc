"""The progress of a device's work: what each node has cost, and what does not end. Pure.

An inference, the steps before and after it, a benchmark or a load that does not end is a *hang*. The limit of an
inference is `FACTOR` times what its network was measured to take for as many images, at least `FLOOR_S` (a starved CPU
makes short inferences many times as long); before it was measured, `FIRST_S` per image, at most `LOAD_S` (some runtimes
compile at the first inference). The preparation of a batch's input and its decoding (tasks may be of other packages)
have `FIRST_S`; a benchmark's single step and an inference of a self-test `FIRST_S` per lane; a load, with the building
of its task, `LOAD_S`. A node whose network is changed begins anew: the time is that of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hams_shared.wire.messages.agents import NodeLoad

FACTOR = 20.0
FLOOR_S = 5.0
FIRST_S = 30.0
LOAD_S = 300.0
NETWORKS = 256
"""Most networks whose times are kept."""
NetworkId = tuple[str, tuple[int, ...]]
"""Digest of a network's file, and the shape of its input."""
MOST_S = 1.0
"""A tick counts for at most this much: what lies beyond, the process itself was stopped or starved."""


@dataclass
class Load:
    """What a node has cost since the agent started."""

    frames: int = 0
    inferences: int = 0
    """Images."""
    busy_s: float = 0.0
    """Time of the whole device, s. With n lanes that is the n-th part of a lane's time, which includes making the batch
    ready and finishing it."""
    alone: int = 0
    """Inferences that had several lanes to themselves."""
    alone_s: float = 0.0
    batches: int = 0
    """In which the images were computed."""
    not_finite: int = 0
    """Frames for which its network gave NaN or infinity."""
    failed: int = 0
    """Frames for which the inference failed."""
    cpu_s: dict[str, float] = field(default_factory=dict)
    """By step: CPU time of the threads that did it, s."""

    def add(self, cost: Load, *, alone: bool) -> None:
        """Add what one batch cost; `alone`: it had several lanes to itself. One that failed says nothing of speed."""
        self.failed += cost.failed
        if cost.failed:
            return
        self.frames += cost.frames
        self.inferences += cost.inferences
        self.batches += cost.inferences > 0
        self.busy_s += cost.busy_s
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
            not_finite=self.not_finite,
            failed=self.failed,
            cpu_s={step: round(seconds, 6) for step, seconds in self.cpu_s.items()},
        )


def first_limit_s(images: int) -> float:
    """How long inferences of `images` images, one after the other, may take before the network was measured, s."""
    return min(LOAD_S, FIRST_S * max(images, 1))


class Pace:
    """How long inferences of each network took, which limits the next ones.

    By network and not by node: a node that is given a slower network has it measured first. A network keeps its pace
    from one plan to the next.
    """

    def __init__(self) -> None:
        self._spent: dict[NetworkId, tuple[float, int]] = {}
        """Time, s, and images; the network that was used longest ago first."""

    def add(self, network: NetworkId, images: int, spent_s: float) -> None:
        """Take an inference that succeeded."""
        before_s, before = self._spent.pop(network, (0.0, 0))
        self._spent[network] = before_s + spent_s, before + images
        if len(self._spent) > NETWORKS:
            del self._spent[next(iter(self._spent))]

    def limit_s(self, network: NetworkId, images: int) -> float:
        """How long the next inference, of `images` images, may take, s."""
        spent_s, before = self._spent.get(network, (0.0, 0))
        return max(FLOOR_S, FACTOR * images * spent_s / before) if before else first_limit_s(images)


@dataclass(frozen=True)
class Hang:
    """Something does not end."""

    what: str
    limit_s: float

    def __str__(self) -> str:
        return f"{self.what} does not end: more than {self.limit_s:.1f} s"


class Progress:
    """The current job of one thread. That thread enters and leaves `job`; another one ticks."""

    def __init__(self) -> None:
        self._job: Hang | None = None
        self._counted: Hang | None = None
        self._spent = 0.0

    @contextmanager
    def job(self, what: str, limit: float) -> Iterator[None]:
        """What is done inside should end within `limit` s."""
        self._job = Hang(what, limit)  # a new object each time: that is how the other thread sees progress
        try:
            yield
        finally:
            self._job = None

    def tick(self, passed: float) -> Hang | None:
        """`passed` s have passed since the tick before; return what does not end."""
        job = self._job
        if job is not self._counted:
            self._counted, self._spent = job, 0.0
            return None
        self._spent += min(passed, MOST_S)
        return job if job is not None and self._spent >= job.limit_s else None
