"""What an agent counted between two of its heartbeats. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hams_scheduler.served_rates import Delta
from hams_shared.wire.messages.agents import Heartbeat, NodeLoad


@dataclass
class Seen:
    """One agent's counters at its newest heartbeat."""

    incarnation: str
    uptime_s: float
    cpu_s: float
    nodes: tuple[NodeLoad, ...]
    loads: dict[tuple[str, str], NodeLoad]
    disturbed: bool
    """Whether the agent also loaded or measured networks."""


def since(load: NodeLoad, last: NodeLoad | None) -> Delta | None:
    """What `load` counted since `last`; None when the counters went backwards."""
    if last is None:
        return Delta(load.frames, load.inferences, load.batches, load.busy_s, load.alone, load.alone_s)
    delta = Delta(
        load.frames - last.frames,
        load.inferences - last.inferences,
        load.batches - last.batches,
        load.busy_s - last.busy_s,
        load.alone - last.alone,
        load.alone_s - last.alone_s,
    )
    return delta if delta.frames >= 0 and delta.inferences >= 0 and delta.busy_s >= 0 else None


def resident_nodes(beat: Heartbeat) -> int:
    """Nodes loaded on the device in the newest plan of each group that it can serve."""
    newest: dict[str, tuple[int, int]] = {}
    for a in beat.assignments:
        if a.state == "ready":
            newest[a.group] = max(newest.get(a.group, (0, 0)), (a.epoch, a.loaded))
    return max(1, sum(loaded for _, loaded in newest.values()))
