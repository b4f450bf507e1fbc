"""Whether the state of a stream is one that can be; for tests. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hams_services.pipeline.flight import Flight
from hams_services.pipeline.ledger import Ledger


def check(ledger: Ledger, flights: Mapping[int, Flight], waiting: Sequence[int], held: int, *, lossless: bool) -> None:
    """Raise AssertionError unless flights, waiting frames and the ledger fit together."""
    ledger.validate()
    assert ledger.open == set(flights) | set(waiting), "the ledger has other frames than the stream"
    assert list(flights) == sorted(flights), "flights are not in frame order"
    if lossless:
        assert not waiting, "a lossless frame waits outside the window"
    else:
        assert all(frame > max(flights, default=-1) for frame in waiting), "an older frame waits"
    assert held == sum(flight.complete for flight in flights.values()), "held frames are miscounted"
    assert not flights or not next(iter(flights.values())).complete, "a frame is complete and not delivered"
    for frame, flight in flights.items():
        assert flight.frame == frame, f"flight {flight.frame} is kept as {frame}"
        flight.validate()
