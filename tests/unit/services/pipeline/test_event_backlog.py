"""The backlog of events: order, bounds, and what gives way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.event_backlog import Backlog


def waiting(backlog: Backlog) -> list[str]:
    found = []
    while (first := backlog.first()) is not None:
        found.append(first.id)
        backlog.settle(first.number)
    return found


def test_updates_give_way_first_then_the_oldest() -> None:
    backlog = Backlog(limit=3, limit_bytes=1000)
    for id, kind in (("a", "new"), ("b", "update"), ("c", "update"), ("d", "new"), ("e", "end"), ("f", "end")):
        backlog.add(id, kind, "s", b"12345")
        backlog.validate()
    assert backlog.dropped == {"update": 2, "new": 1}
    first = backlog.first()
    assert first is not None
    backlog.add("g", "new", "s", b"12345")
    assert backlog.dropped == {"update": 2, "new": 1, "end": 1}  # d is being published, so e gave way
    assert waiting(backlog) == ["d", "f", "g"]


def test_updates_that_gave_way_are_forgotten() -> None:
    """Also while the broker is away, and the first update waits to be published for hours."""
    backlog = Backlog(limit=3, limit_bytes=1000)
    backlog.add("first", "update", "s", b"")
    assert backlog.first() is not None
    for number in range(1000):
        backlog.add(str(number), "update", "s", b"")
    backlog.validate()
    assert len(backlog._updates) == 3
    assert waiting(backlog) == ["first", "998", "999"]


def test_bytes_are_bounded_but_one_event_always_fits() -> None:
    backlog = Backlog(limit=100, limit_bytes=10)
    backlog.add("large", "new", "s", bytes(50))
    assert backlog.dropped == {}
    backlog.add("next", "new", "s", bytes(5))
    assert backlog.dropped == {"new": 1}
    assert waiting(backlog) == ["next"]


def test_what_is_settled() -> None:
    backlog = Backlog(limit=10, limit_bytes=1000)
    for id in "abc":
        backlog.add(id, "new", "s", b"")
    assert backlog.settled(0)
    assert not backlog.settled(1)
    backlog.settle(1)
    assert backlog.settled(1)
    assert not backlog.settled(3)
    backlog.settle(2)
    backlog.settle(3)
    backlog.settle(3)
    assert backlog.settled(3)


@given(st.lists(st.tuples(st.sampled_from(["new", "update", "end", "store"]), st.integers(0, 40)), max_size=60))
def test_each_event_is_stored_or_dropped_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    backlog = Backlog(limit=5, limit_bytes=100)
    stored: list[int] = []
    added = 0
    for kind, size in steps:
        if kind == "store":
            first = backlog.first()
            if first is not None:
                stored.append(first.number)
                backlog.settle(first.number)
        else:
            added += 1
            backlog.add(str(added), kind, "s", bytes(size))
        backlog.validate()
        assert len(stored) + len(backlog) + backlog.dropped.total() == added == backlog.put
        assert backlog.size <= 100
    assert stored == sorted(set(stored))
