"""What others are told of a stream: its counters for people, and its cost for the scheduler. Pure."""

from __future__ import annotations

from typing import Literal

from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.timings import Timings
from hams_shared.wire.messages.events import PlaceCounts
from hams_shared.wire.messages.pipeline import StreamLoad, StreamView

StreamState = Literal["waiting", "playing", "reconnecting", "paused", "ended", "failed"]


def stream_load(group: str, core: StreamCore, read_cpu_s: float = 0.0) -> StreamLoad:
    """Return what the frames have cost so far; `read_cpu_s`: CPU time of reading them."""
    ledger, selection = core.ledger, core.selection
    follower = None if selection is None else selection.follower
    return StreamLoad(
        group=group,
        stream=core.stream,
        frames=ledger.submitted,
        read_cpu_s=round(read_cpu_s, 6),
        completed=ledger.delivered + ledger.gated,
        lost=ledger.dropped.total() + ledger.failed.total(),
        agreement=() if follower is None else tuple(follower.agreement.items()),
    )


def stream_view(
    group: str, core: StreamCore, timings: Timings, places: PlaceCounts, state: StreamState, text: str, now: float
) -> StreamView:
    """Return counters and timings at monotonic time `now`, s."""
    ledger = core.ledger
    ledger.validate()
    p50, p99 = timings.percentiles_ms
    return StreamView(
        group=group,
        stream=core.stream,
        state=state,
        text=text,
        submitted=ledger.submitted,
        delivered=ledger.delivered,
        in_flight=len(ledger.open),
        gated=ledger.gated,
        places=places,
        dropped=dict(ledger.dropped),
        failed=dict(ledger.failed),
        resent=core.resent,
        fps=round(timings.fps(ledger.delivered, now, playing=state == "playing"), 3),
        p50_ms=round(p50, 3),
        p99_ms=round(p99, 3),
        latency=timings.histogram,
    )
