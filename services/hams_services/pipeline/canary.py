"""Which frames a candidate gets, and how frames of a stream go to a canary and back to what serves. Pure.

A canary's frames stay frames of the stream: they are sent under the candidate's plan, and joined, tracked and delivered
in order with all others. One that the candidate fails at, or cannot get, is sent again to what serves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32

from hams_services.pipeline.flight import Flight
from hams_services.pipeline.routing import Replicas
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire.messages.plan import Plan

FAILURES = 3
"""After so many failed frames in a row a canary rests: each delays the stream."""
REST = Backoff(first=10.0, longest=320.0)
"""For so long, s, and longer each time it does not recover."""


def takes(stream: str, frame: int, share: float, run: int = 1) -> bool:
    """Whether a candidate gets `frame` of `stream`: a `share` of the runs of `run` frames each, evenly spread.

    Of any n successive runs it gets share × n, rounded down or up. Streams do not choose the same frames.
    """
    phase, number = crc32(stream.encode()) / 2**32, frame // run
    return math.floor((number + 1) * share + phase) > math.floor(number * share + phase)


@dataclass
class Canary:
    """The canary of one stream. `now` is a monotonic time, s."""

    stream: str
    share: float
    plan: Plan | None = None
    """The candidate's plan; None: it is not placed, or not ready."""
    replicas: Replicas = field(default_factory=Replicas)
    """Shared by all streams of the group."""
    chosen: int = 0
    served: int = 0
    skipped: int = 0
    """Frames that were for it while it was not placed, or rested."""
    failed: Counter[str] = field(default_factory=Counter)
    """Frames that fell back to what serves, by reason."""
    row: int = 0
    """Failures since the newest frame that it served."""
    rests_until: float = -math.inf
    rested: int = 0
    """Frames that were for it while it rested: for a rule they are as good as tried."""

    def takes(self, frame: int, now: float) -> bool:
        """Whether it gets the frame now; counts."""
        if not takes(self.stream, frame, self.share):
            return False
        self.chosen += 1
        ready = self.plan is not None and now >= self.rests_until
        self.skipped += not ready
        self.rested += now < self.rests_until
        return ready

    def serves(self) -> None:
        """A frame is complete."""
        self.served += 1
        self.row = 0

    def fall_back(self, flight: Flight, reason: str, now: float) -> None:
        """Give a frame to what serves; it is due at once."""
        flight.canary = False
        flight.release()
        flight.retry_at = now
        self.failed[reason] += 1

    def fails(self, flight: Flight, reason: str, now: float) -> None:
        """It failed at a frame, which falls back. Frames that fail while it rests were sent before."""
        self.fall_back(flight, reason, now)
        if now >= self.rests_until:
            self.row += 1
            if self.row >= FAILURES:
                self.rests_until = now + REST.pause(self.row - FAILURES + 1)

    def route(self, plan: Plan | None, flights: Iterable[Flight], now: float) -> None:
        """Its plan changed; None: it has none."""
        self.plan = plan
        if plan is None:
            self.return_all(flights, "not-placed", now)

    def return_all(self, flights: Iterable[Flight], reason: str, now: float) -> None:
        """Give all frames that it has to what serves."""
        for flight in flights:
            if flight.canary and not flight.complete:
                self.fall_back(flight, reason, now)
