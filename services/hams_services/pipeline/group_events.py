"""The events of one group: what its streams' tracks do goes from :mod:`events` to :mod:`event_outbox`.

A pipeline that starts ends the tracks that an earlier life of it left open, with the reason ``restart``. One that stops
leaves them to the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from hams_services.pipeline.event_outbox import EventOutbox, Recovered
from hams_services.pipeline.events import Delivered, EventCore, Reason
from hams_services.pipeline.flight import Close
from hams_services.pipeline.open_tracks import resumed
from hams_services.pipeline.tracking.tracks import Track
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError
from hams_shared.group.conditions import object_values, rule_condition
from hams_shared.group.spec import GroupSpec
from hams_shared.wire import codec
from hams_shared.wire.messages.events import OpenTracks, PlaceCounts

log = logging.getLogger("hams.pipeline")

FLUSH_S = 3.0
"""Deadline of the last events of a group that is taken away, s."""


class GroupEvents:
    """The events of one group, whose root has tracks."""

    def __init__(self, bus: Bus, spec: GroupSpec) -> None:
        self._spec = spec
        self._outbox = EventOutbox(bus, spec.name)
        self._cores: dict[str, EventCore] = {}
        """By stream."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, owner: asyncio.TaskGroup, runs: Mapping[str, str]) -> None:
        """End what an earlier life left open, and publish events from now on. `runs` by stream."""
        try:
            left = await self._outbox.recover()
        except HamsError as error:
            log.error("group %s: tracks that were open before do not end: %s", self._spec.name, error)
            left = {}
        for stream, found in left.items():
            self._end_earlier(stream, found)
        root = self._spec.nodes[self._spec.root]
        assert root.track is not None
        rules = self._spec.events.rules.items()
        conditions = {name: rule_condition(one.when, self._spec.nodes) for name, one in rules if one.when is not None}
        for stream, run in runs.items():
            spec, events = self._spec.streams[stream], self._spec.events
            core = EventCore(self._spec.name, stream, run, spec, events, conditions, root.track.max_objects)
            self._cores[stream] = core
            self._keep(core)
        self._tasks.append(owner.create_task(self._outbox.run()))

    def _end_earlier(self, stream: str, found: Recovered) -> None:
        try:
            self._outbox.put(resumed(codec.decode(OpenTracks, found.tracks), found.events))
        except HamsError as error:
            log.error("group %s: tracks of stream %s that were open before: %s", self._spec.name, stream, error)
        if stream not in self._spec.streams:
            self._outbox.keep(stream, None)

    def observe(self, stream: str, close: Close) -> None:
        """Take the tracks of a frame that is delivered."""
        core = self._cores.get(stream)
        if core is None or close.id is None:
            return
        objects = {one["track"]: one for one in close.objects if "track" in one}

        def values(track: Track, zones: tuple[str, ...]) -> dict[str, Any]:
            return object_values({**objects.get(track.id, {}), "zones": [*zones]}, close.shot.size)

        shot = Delivered(close.frame, close.id.captured, close.shot.media_time_s, close.shot.size)
        if found := core.observe(shot, close.tracks, values):
            self._outbox.put(found)
            self._keep(core)

    def counts(self, stream: str) -> PlaceCounts:
        """What tracks did in the zones and at the lines of a stream since its run began."""
        core = self._cores.get(stream)
        return PlaceCounts() if core is None else core.counts()

    def ended(self, stream: str, reason: Reason) -> None:
        """The stream has ended, or is taken away: so have its tracks."""
        if (core := self._cores.get(stream)) is not None:
            self._outbox.put(core.end_all(reason))
            self._keep(core)

    def _keep(self, core: EventCore) -> None:
        record = core.open_tracks()
        self._outbox.keep(record.stream, codec.encode(record))

    async def stop(self, *, for_good: bool) -> None:
        """Publish what waits; `for_good`: the group is taken away, and its tracks end."""
        if for_good:
            for stream in self._cores:
                self.ended(stream, "undeployed")
                self._outbox.keep(stream, None)
        await self._outbox.flush(FLUSH_S)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FLUSH_S)
