"""Events of invented tracks, and a pipeline's stream that makes them: what the way of events is tested with."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from hams_services.pipeline.event_outbox import EventOutbox, Recovered
from hams_shared.wire import codec
from hams_shared.wire.messages.events import Event, EventKind


def event(kind: EventKind, track: int, *, run: str = "r1", stream: str = "s0", number: int = 0, **more: Any) -> Event:
    """An event of the group `grey`; its id follows from run, track, kind and number."""
    return Event(
        id=f"{stream}.{run}.{track}.{kind}.{number}",
        group="grey",
        stream=stream,
        run=run,
        kind=kind,
        captured=1_700_000_000.0 + number,
        frame=number,
        track=track,
        label="person",
        score=0.9,
        box=(1.0, 2.0, 3.0, 4.0),
        age_s=float(number),
        **more,
    )


class TrackSource:
    """One life of a stream: opens, updates and ends tracks at random, as the pipeline's core does."""

    def __init__(self, outbox: EventOutbox, seed: int, run: str, stream: str = "s0") -> None:
        self._outbox = outbox
        self._random = random.Random(seed)
        self._run, self._stream = run, stream
        self._number = 0
        self._track = 0
        self.open: list[tuple[str, int]] = []

    def recover(self, found: Recovered | None) -> None:
        """End what an earlier life left open, then begin."""
        open_ = [(str(run), int(track)) for run, track in codec.unpack(found.tracks)] if found and found.tracks else []
        self.open = still_open(open_, found.events if found else ())
        for run, track in list(self.open):
            self._end(run, track, "restart")
        self._keep()

    def step(self) -> None:
        """Make a few events."""
        for _ in range(self._random.randrange(4)):
            choice = self._random.random()
            if choice < 0.3 or not self.open:
                self._track += 1
                self.open.append((self._run, self._track))
                self._put(event("new", self._track, run=self._run, stream=self._stream))
            elif choice < 0.7:
                run, track = self._random.choice(self.open)
                self._number += 1
                self._put(event("update", track, run=run, stream=self._stream, number=self._number))
            else:
                self._end(*self._random.choice(self.open), "lost")
        self._keep()

    def end(self) -> None:
        """End all tracks, as a stream that ends."""
        for run, track in list(self.open):
            self._end(run, track, "stream-ended")
        self._keep()

    def _end(self, run: str, track: int, reason: str) -> None:
        self.open.remove((run, track))
        self._put(event("end", track, run=run, stream=self._stream, reason=reason))

    def _put(self, one: Event) -> None:
        self._outbox.put([one])

    def _keep(self) -> None:
        self._outbox.keep(self._stream, codec.pack([list(one) for one in self.open]))


def still_open(open_: Iterable[tuple[str, int]], events: Iterable[Event]) -> list[tuple[str, int]]:
    """The tracks (run, track) that are open after `events`, of those `open_` before."""
    found = list(open_)
    for one in events:
        key = (one.run, one.track)
        if one.kind == "new" and key not in found:
            found.append(key)
        elif one.kind == "end" and key in found:
            found.remove(key)
    return found


def check_tracks(events: Iterable[Event], open_: Iterable[tuple[str, int]] = ()) -> int:
    """Each track has one `new`, then updates, and one `end` unless it is `open_`; return how many tracks there are."""
    once = {one.id: one for one in events}
    kinds: dict[tuple[str, str, int], list[str]] = {}
    for one in once.values():
        kinds.setdefault((one.stream, one.run, one.track), []).append(one.kind)
    for (_, run, track), said in kinds.items():
        last = [] if (run, track) in open_ else ["end"]
        middle = said[1 : len(said) - len(last)]
        assert said == ["new", *middle, *last], f"{run}/{track}: {said}"
        assert set(middle) <= {"update"}, f"{run}/{track}: {said}"
    return len(kinds)
