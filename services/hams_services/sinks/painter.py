"""Paints the results of a group's streams: it knows the places in their pictures, and where their tracks were."""

from __future__ import annotations

from collections.abc import Mapping

from hams_client import Result
from hams_services.sinks.draw import annotate
from hams_services.sinks.trails import Trails
from hams_shared.group.regions import Regions
from hams_shared.wire.frames import Pixels

STREAMS = 256
"""Streams with trails; of more, the one painted least recently loses its own."""


class Painter:
    """Pictures with results drawn in. `regions`: the places by stream; it may be replaced at any time."""

    def __init__(self, regions: Mapping[str, Regions] | None = None) -> None:
        self.regions: Mapping[str, Regions] = regions or {}
        self._trails: dict[str, tuple[str, Trails]] = {}
        """By stream, the one painted last at the end; and of which run they are."""

    def follow(self, result: Result) -> Trails:
        """Take a frame that is not painted: its tracks are in the trails of later ones. Return the stream's trails."""
        run = str(result.data.get("run", ""))
        before, trails = self._trails.pop(result.stream, (run, Trails()))
        if before != run:
            trails = Trails()  # ids of tracks begin again
        self._trails[result.stream] = run, trails
        if len(self._trails) > STREAMS:
            del self._trails[next(iter(self._trails))]
        time = result.captured if result.media_time_s is None else result.media_time_s
        trails.add(result.frame, time, result.objects)
        return trails

    def paint(self, result: Result, image: Pixels) -> Pixels:
        """Return a copy of `image` with its result drawn in; see :func:`annotate`."""
        trails = self.follow(result).trails()
        return annotate(image, result.objects, self.regions.get(result.stream), trails)
