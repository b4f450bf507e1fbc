"""How often a client may ask."""

from __future__ import annotations

from hams_services.web.limits import Limits, Rate


def test_a_burst_and_then_a_rate() -> None:
    limits = Limits(Rate(per_s=2.0, burst=3))
    assert [limits.take("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limits.take("a", 0.25) == 0.25
    assert limits.take("a", 0.5) == 0.0
    assert limits.take("a", 0.5) == 0.5


def test_clients_do_not_share() -> None:
    limits = Limits(Rate(per_s=1.0, burst=1))
    assert limits.take("a", 0.0) == 0.0
    assert limits.take("b", 0.0) == 0.0
    assert limits.take("a", 0.0) > 0


def test_no_more_than_a_burst_is_saved() -> None:
    limits = Limits(Rate(per_s=1.0, burst=2))
    limits.take("a", 0.0)
    assert [limits.take("a", 1e6) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    limits = Limits(Rate(per_s=1.0, burst=1))
    assert limits.take("a", 10.0) == 0.0
    assert limits.take("a", 5.0) == 1.0


def test_clients_are_bounded() -> None:
    limits = Limits(Rate(per_s=1.0, burst=1), most=10)
    for number in range(1000):
        limits.take(str(number), 0.0)
    assert len(limits) == 10
