"""Which tracks are open, and so how many objects of each label are in each zone; from the journal of events. Pure.

Each event has the zones of its track, so one that comes twice changes nothing. Where events are missing, because the
journal no longer had them, the pipeline's own counts correct these: see :meth:`Occupancy.correct`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import Field

from hams_client import Event
from hams_shared.wire.messages.base import Wire

PICTURE = ""
"""The place that is the whole picture: no zone has an empty name."""
ANY = ""
"""All labels together."""
LABELS = 32
"""Labels of a stream that get states of their own; objects of further ones count without label only."""
TRACKS = 1024
"""Open tracks of a stream; of more, those without events for longest are forgotten."""
LOOKS = 3
"""So many looks in a row, without an event between them that changes it, must find a wrong count before it is
corrected."""


class OpenTrack(Wire):
    """A track that has not ended."""

    stream: str
    run: str
    track: int
    label: str
    zones: tuple[str, ...] = ()


class Position(Wire):
    """``<base>/<group>/bridge``: what a bridge that is started again reads first."""

    version: int = 1
    after: int = Field(0, ge=0)
    """Sequence of the last event that the MQTT broker has taken."""
    tracks: tuple[OpenTrack, ...] = ()
    labels: dict[str, tuple[str, ...]] = Field({})
    """Those that were found, by stream."""


def _places(track: OpenTrack | None) -> set[str]:
    """Return where a track counts; one that is not open counts nowhere."""
    return {PICTURE, *track.zones} if track is not None else set()


@dataclass
class _Stream:
    tracks: dict[tuple[str, int], OpenTrack] = field(default_factory=dict)
    """By run and number, the one with the newest event last."""
    labels: dict[str, None] = field(default_factory=dict)
    """In the order in which they were found."""
    wrong: Counter[str] = field(default_factory=Counter)
    """By place, looks in a row that found another count."""


class Occupancy:
    """The open tracks of all streams of one group."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def take(self, event: Event) -> None:
        """Take the next event."""
        stream = self._streams.setdefault(event.stream, _Stream())
        key = event.run, event.track
        before = stream.tracks.pop(key, None)
        label = event.label or "object"
        self._know(stream, label)
        if event.kind != "end":
            self._put(stream, key, label, event)
        for place in _places(before) ^ _places(stream.tracks.get(key)):
            stream.wrong.pop(place, None)

    @staticmethod
    def _put(stream: _Stream, key: tuple[str, int], label: str, event: Event) -> None:
        for other in [other for other in stream.tracks if other[0] != event.run]:
            del stream.tracks[other]  # a run ends all its tracks before the next one begins
        stream.tracks[key] = OpenTrack(
            stream=event.stream, run=event.run, track=event.track, label=label, zones=event.zones
        )
        if len(stream.tracks) > TRACKS:
            del stream.tracks[next(iter(stream.tracks))]

    def know(self, stream: str, labels: Iterable[str]) -> None:
        """Labels that the stream's group names in its rules have states before one is found."""
        for label in labels:
            self._know(self._streams.setdefault(stream, _Stream()), label)

    def labels(self, stream: str) -> tuple[str, ...]:
        """Return the labels of a stream, in the order in which they were found."""
        return tuple(self._streams[stream].labels) if stream in self._streams else ()

    def counts(self, stream: str) -> Counter[tuple[str, str]]:
        """Return how many tracks are open, by place and label; PICTURE and ANY are among them."""
        found: Counter[tuple[str, str]] = Counter()
        for one in self._streams[stream].tracks.values() if stream in self._streams else ():
            for place in _places(one):
                found[place, ANY] += 1
                found[place, one.label] += 1
        return found

    def correct(self, stream: str, place: str, inside: int) -> None:
        """Compare with the pipeline's count of the tracks in a place; of too many, forget those silent for longest.

        Too few correct themselves with the next event of each track.
        """
        one = self._streams.get(stream)
        if one is None:
            return
        within = [key for key, track in one.tracks.items() if place in _places(track)]
        if len(within) <= inside:
            one.wrong.pop(place, None)
            return
        one.wrong[place] += 1
        if one.wrong[place] >= LOOKS:
            for key in within[: len(within) - inside]:
                del one.tracks[key]
            del one.wrong[place]

    def keep(self, streams: Iterable[str]) -> None:
        """Forget all other streams."""
        for gone in self._streams.keys() - set(streams):
            del self._streams[gone]

    def position(self, after: int) -> Position:
        """Return what a restart needs, together with the sequence of the last event."""
        return Position(
            after=after,
            tracks=tuple(track for one in self._streams.values() for track in one.tracks.values()),
            labels={name: tuple(one.labels) for name, one in self._streams.items() if one.labels},
        )

    def restore(self, position: Position) -> None:
        """Begin with what an earlier bridge knew."""
        for stream, labels in position.labels.items():
            self.know(stream, labels)
        for track in position.tracks:
            one = self._streams.setdefault(track.stream, _Stream())
            if len(one.tracks) < TRACKS:
                one.tracks[track.run, track.track] = track

    @staticmethod
    def _know(stream: _Stream, label: str) -> None:
        if len(stream.labels) < LABELS:
            stream.labels.setdefault(label)
