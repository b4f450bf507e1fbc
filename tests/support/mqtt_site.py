"""A site that a bridge looks at: views of scheduler and pipeline that a test sets, and events in a real journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hams_client import Event
from hams_services.pipeline.event_history import EventHistory
from hams_services.pipeline.event_outbox import EventOutbox
from hams_shared.bus.protocol import Bus, Message
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.events import Event as WireEvent
from hams_shared.wire.messages.events import EventKind, LineCounts, PlaceCounts, ZoneCounts
from hams_shared.wire.messages.pipeline import PipelineView, StreamView
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import GroupView, MatrixView, SchedulerView
from support.build import group_record
from support.events import event

SQUARE = [[0, 0], [1, 0], [1, 1]]


def yard(
    name: str = "yard", *, zones: tuple[str, ...] = ("entrance",), lines: tuple[str, ...] = ("gate",)
) -> GroupSpec:
    """A group that follows persons of one camera, with a rule."""
    stream = {
        "source": "push",
        "zones": dict.fromkeys(zones, SQUARE),
        "lines": {line: [[0, 0], [1, 1]] for line in lines},
    }
    node = {"model": "m", "input": {"size": [8, 8]}, "task": {"type": "detection_output"}, "track": {}}
    rules = {"stays": {"labels": ["person"], "min_age_s": 10}}
    return GroupSpec.model_validate(
        {"name": name, "nodes": {"find": node}, "streams": {"cam": stream}, "events": {"rules": rules}}
    )


def scheduler_view(*specs: GroupSpec) -> SchedulerView:
    def plan(spec: GroupSpec) -> Plan:
        return Plan(epoch=1, group=group_record(spec), shares={}, strategy="hfs", fps=10.0)

    groups = tuple(GroupView(name=spec.name, state="serving", active=plan(spec)) for spec in specs)
    return SchedulerView(devices=(), groups=groups, matrix=MatrixView(models=(), devices=(), fps=()))


def stream_view(
    group: str = "yard",
    stream: str = "cam",
    *,
    inside: dict[str, int] | None = None,
    ins: int = 0,
    tracks: int | None = None,
    **more: Any,
) -> StreamView:
    zones = {
        zone: ZoneCounts(inside=n, entries=n, exits=0, dwell_s=0.0) for zone, n in (inside or {}).items()
    }  # fmt: skip
    places = PlaceCounts(tracks=tracks, zones=zones, lines={"gate": LineCounts(ins=ins, outs=0)})
    more = {"state": "playing", "fps": 9.96, "p50_ms": 41.7, **more}
    return StreamView(group=group, stream=stream, places=places, **more)


def happened(
    kind: EventKind, track: int, sequence: int = 0, *, group: str = "yard", run: str = "r1", **more: Any
) -> Event:
    """An event of the camera of `yard`, now."""
    number = more.pop("number", sequence)
    made = event(kind, track, run=run, stream="cam", number=number, **more)
    return Event(**made.model_copy(update={"group": group, "captured": time.time()}).model_dump(), sequence=sequence)


class Site:
    """What answers on a bus as scheduler and pipeline do."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.specs: list[GroupSpec] = [yard()]
        self.streams: list[StreamView] = [stream_view()]
        self.away = False
        """Whether pipeline and scheduler do not answer."""

    async def begin(self) -> None:
        history = EventHistory(self.bus, lambda: {spec.name: list(spec.streams) for spec in self.specs})
        await self.bus.subscribe(subjects.events_after(), history.answer, queue="pipeline")
        await self.bus.subscribe(subjects.pipeline_status(), self._status)
        await self.bus.subscribe(subjects.scheduler_view(), self._view)
        await self.bus.flush()
        self.outbox = EventOutbox(self.bus, "yard")
        await self.outbox.recover()

    async def _status(self, message: Message) -> None:
        if not self.away:
            await message.respond(codec.encode(PipelineView(streams=tuple(self.streams))))

    async def _view(self, message: Message) -> None:
        if not self.away:
            await message.respond(codec.encode(scheduler_view(*self.specs)))

    async def happen(self, *events: Event) -> None:
        """Publish events into the journal."""
        self.outbox.put([WireEvent.model_validate(one.model_dump(exclude={"sequence"})) for one in events])
        assert await self.outbox.flush(30)


@asynccontextmanager
async def site_on(bus: Bus) -> AsyncIterator[Site]:
    """A site on `bus`."""
    site = Site(bus)
    await site.begin()
    running = asyncio.create_task(site.outbox.run())
    try:
        yield site
    finally:
        await ended([running])
