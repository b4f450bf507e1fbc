"""The events of one group: what its streams' tracks do goes from :mod:`events` to :mod:`event_outbox`.

A pipeline that starts ends the tracks that an earlier life of it left open, with the reason ``restart``. One that stops
leaves them to the next. It begins without waiting long for a broker that does not give them; no record of open tracks
is written over theirs before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hams_services.pipeline.best_views import BestViews, encode
from hams_services.pipeline.event_outbox import EventOutbox, Recovered
from hams_services.pipeline.events import Delivered, EventCore, Reason
from hams_services.pipeline.flight import Close
from hams_services.pipeline.open_tracks import resumed
from hams_services.pipeline.rules import Condition
from hams_services.pipeline.tracking.tracks import Track
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError
from hams_shared.group.conditions import object_values, rule_condition
from hams_shared.group.event_rules import EventsSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.wire import codec
from hams_shared.wire.frames import Pixels
from hams_shared.wire.messages.events import Event, OpenTracks, PlaceCounts
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import EventsView

log = logging.getLogger("hams.pipeline")

KEEP_OPEN_S = 10.0
"""How often the record of open tracks is kept while nothing happens to them, s."""
EARLIER_S = 10.0
"""How long a group waits, before it begins, for the end of the tracks of an earlier life, s; they end later, else."""
FLUSH_S = 3.0
"""Deadline of the last events of a group that is taken away, s."""


class GroupEvents:
    """The events of one group; without tracks it has none, and this costs nothing."""

    def __init__(self, bus: Bus, record: GroupRecord) -> None:
        self._group = record.spec.name
        self._record = record
        """As deployed."""
        self._outbox = EventOutbox(bus, self._group)
        self._cores: dict[str, EventCore] = {}
        """By stream."""
        self._by: dict[str, tuple[int, GroupRecord]] = {}
        """By stream: the record that counts for its events, and the epoch from which on it does."""
        self._views: dict[str, BestViews] = {}
        """By stream, where events have crops."""
        self._kept_at: dict[str, float] = {}
        """By stream: when its record was kept last, s of the loop's clock."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def tracks(self) -> bool:
        """Whether the group as deployed has tracks."""
        return _tracks(self._record.spec)

    async def prepare(self, record: GroupRecord, owner: asyncio.TaskGroup) -> None:
        """The group is deployed, or to be changed: if it has tracks, end what an earlier life left open, once."""
        self._record = record
        if self._tasks or not self.tracks:
            return
        self._outbox.hold()
        earlier = owner.create_task(self._end_all_earlier())
        self._tasks += [earlier, owner.create_task(self._outbox.run())]
        await asyncio.wait([earlier], timeout=EARLIER_S)

    async def _end_all_earlier(self) -> None:
        """End what an earlier life left open, once the broker gives it; records of this life are written after."""
        try:
            left = await self._outbox.recover()
        except HamsError as error:
            log.error("group %s: tracks that were open before do not end: %s", self._group, error)
            left = {}
        for stream, found in left.items():
            self._end_earlier(stream, found)
        for core in self._cores.values():  # their records are to wait for these ends, too
            self._keep(core)
        self._outbox.release()

    def open(self, stream: str, run: str, record: GroupRecord, epoch: int = 0) -> None:
        """Take the tracks of a stream in a run of it from now on, by `record`, in force since `epoch`."""
        self._by[stream] = epoch, record
        spec = record.spec
        track = spec.nodes[spec.root].track
        if track is None or stream not in spec.streams:
            return
        core = EventCore(
            self._group, stream, run, spec.streams[stream], spec.events, _conditions(spec), track.max_objects
        )
        self._cores[stream] = core
        self._keep(core)
        self._see_by(stream, spec)

    def _see_by(self, stream: str, spec: GroupSpec) -> None:
        """Keep views of tracks where events have crops."""
        track, events = spec.nodes[spec.root].track, spec.events
        if track is None or not events.crops:
            self._views.pop(stream, None)
        else:
            views = self._views.setdefault(stream, BestViews(track.max_objects, events.crop_labels))
            views.limit, views.labels = track.max_objects, events.crop_labels

    async def _change(self, stream: str, run: str, close: Close) -> None:
        """The frame is the first one under its record, or under a newer plan."""
        assert close.id is not None
        assert close.record is not None
        epoch, known = self._by.get(stream, (-1, None))
        if close.id.epoch <= epoch:
            return  # sent before the newest one that was seen
        core, record = self._cores.get(stream), close.record
        spec = record.spec
        if known is None or core is None:
            self.open(stream, run, record, close.id.epoch)
            return
        self._by[stream] = close.id.epoch, record
        track = spec.nodes[spec.root].track
        if record == known:
            return
        if track is None or stream not in spec.streams:
            await self.remove(stream, "undeployed")
            return
        found = core.change(spec.streams[stream], spec.events, _conditions(spec), track.max_objects)
        self._see_by(stream, spec)
        if found:
            await self._put(core, stream, found)

    async def remove(self, stream: str, reason: Reason) -> None:
        """The stream is taken away, or has tracks no more."""
        await self.ended(stream, reason)
        if self._cores.pop(stream, None) is not None:
            self._outbox.keep(stream, None)
        for of in (self._by, self._views, self._kept_at):
            of.pop(stream, None)

    def _end_earlier(self, stream: str, found: Recovered) -> None:
        try:
            self._outbox.put(resumed(codec.decode(OpenTracks, found.tracks), found.events))
        except HamsError as error:
            log.error("group %s: tracks of stream %s that were open before: %s", self._group, stream, error)
        if stream not in self._record.spec.streams:
            self._outbox.keep(stream, None)

    def looks(self, stream: str) -> bool:
        """Whether :meth:`see` wants the pixels of the frames of a stream."""
        return stream in self._views

    def see(self, stream: str, close: Close, image: Pixels) -> None:
        """Look at the pixels of a frame that is delivered, H×W×3, before :meth:`observe`; what is kept is copied."""
        self._views[stream].see(close.objects, image, close.shot.luma)

    async def observe(self, stream: str, run: str, close: Close, traceparent: str = "") -> None:
        """Take the tracks of a frame that is delivered; `traceparent`: of a traced one."""
        assert close.id is not None
        if run and close.record is not self._by.get(stream, (0, None))[1]:
            await self._change(stream, run, close)
        core = self._cores.get(stream)
        if core is None:
            return
        objects = {one["track"]: one for one in close.objects if "track" in one}

        def values(track: Track, zones: tuple[str, ...]) -> dict[str, Any]:
            one = objects.get(track.id, {})
            return object_values({**one, "zones": [*zones]} if core.has_zones else one, close.shot.size)

        shot = Delivered(close.frame, close.id.captured, close.shot.media_time_s, close.shot.size, traceparent)
        if found := core.observe(shot, close.tracks, values):
            await self._put(core, stream, found)
        elif core.any_open and asyncio.get_running_loop().time() - self._kept_at[stream] >= KEEP_OPEN_S:
            self._keep(core)

    async def _put(self, core: EventCore, stream: str, found: Sequence[Event]) -> None:
        """Publish events, with the crops that they are to have. Crops are encoded in a thread."""
        views, spec = self._views.get(stream), self._by[stream][1].spec.events
        crops = {} if views is None else views.of({e.track for e in found if spec.has_crop(e.kind, e.rule)})
        try:
            if any(view.jpeg is None for view in crops.values()):
                await asyncio.to_thread(encode, [*crops.values()])
        finally:  # one that is cancelled publishes its events all the same
            jpegs = {track: view.jpeg for track, view in crops.items()}
            self._outbox.put([_with_crop(event, jpegs, spec) for event in found] if crops else found)
            self._keep(core)
            if views is not None:
                views.keep(core.is_open)

    def counts(self, stream: str) -> PlaceCounts:
        """What tracks did in the zones and at the lines of a stream since its run began."""
        core = self._cores.get(stream)
        return PlaceCounts(tracks=0) if core is None else core.counts()

    def view(self) -> EventsView:
        """Where the group's events are."""
        out = self._outbox
        return EventsView(
            group=self._group,
            waiting=out.waiting,
            published=out.published,
            overflowed=out.dropped.total(),
            refused=out.refused.total(),
        )

    async def ended(self, stream: str, reason: Reason) -> None:
        """The stream has ended, or is taken away: so have its tracks."""
        if (core := self._cores.get(stream)) is not None:
            await self._put(core, stream, core.end_all(reason))

    def _keep(self, core: EventCore) -> None:
        record = core.open_tracks()
        self._kept_at[record.stream] = asyncio.get_running_loop().time()
        self._outbox.keep(record.stream, codec.encode(record))

    async def stop(self, *, for_good: bool) -> None:
        """Publish what waits; `for_good`: the group is taken away, and its tracks end."""
        if not self._tasks:
            return
        for stream, core in list(self._cores.items()):
            if for_good:
                await self.remove(stream, "undeployed")
            elif core.any_open:
                self._keep(core)
        await self._outbox.flush(FLUSH_S)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FLUSH_S)


def _with_crop(event: Event, jpegs: Mapping[int, bytes | None], spec: EventsSpec) -> Event:
    jpeg = jpegs.get(event.track)
    if jpeg is None or not spec.has_crop(event.kind, event.rule):
        return event
    return event.model_copy(update={"crop": jpeg})


def _tracks(spec: GroupSpec) -> bool:
    return spec.nodes[spec.root].track is not None


def _conditions(spec: GroupSpec) -> dict[str, Condition]:
    rules = spec.events.rules.items()
    return {name: rule_condition(one.when, spec.nodes) for name, one in rules if one.when is not None}
