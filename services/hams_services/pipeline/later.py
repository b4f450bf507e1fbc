"""Answers that no frame waits for: those of slow nodes, which have a budget. Pure.

A stream asks such a node about one object at a time. Meanwhile frames leave without the answer, and the frames of the
object's track carry it once it is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hams_shared.wire.frames import FrameId, Output
from hams_shared.wire.messages.plan import Plan

LONGEST_S = 60.0
"""An answer that is not there after so long is not waited for any more, s."""
PENDING = "pending"
"""Why a result has no answer about an object: it is being written."""
BUDGET = "budget"
"""The node is busy with another object."""
FAILED = "failed"
"""The node failed at it; it is asked again."""


@dataclass(frozen=True)
class Ask:
    """A node was asked about an object."""

    id: FrameId
    track: int
    device: str
    since: float
    """Monotonic time, s."""


@dataclass
class Later:
    """What one stream waits for of its slow nodes."""

    asks: dict[str, Ask] = field(default_factory=dict)
    """By node: the question under way."""

    def answered(self, output: Output) -> Ask | None:
        """Take an answer; return its question, None when that is not waited for (any more)."""
        ask = self.asks.get(output.node)
        if ask is None or ask.id != output.id:
            return None
        del self.asks[output.node]
        return ask

    def give_up(self, plan: Plan | None, now: float) -> dict[str, Ask]:
        """Return, by node, the questions that get no answer: too old, or at devices that `plan` has no more."""
        gone = {
            node: ask
            for node, ask in self.asks.items()
            if now - ask.since >= LONGEST_S or (plan is not None and ask.device not in plan.devices)
        }
        for node in gone:
            del self.asks[node]
        return gone
