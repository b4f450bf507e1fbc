"""When a scheduler begins and ends to decide. The lease itself: tests/property/test_lease.py."""

from __future__ import annotations

import pytest

from hams_scheduler.leader.lease import STEP_DOWN_S, Claim, Held, Lease


def held(term: int = 1, at: float = 0.0, *, led: bool = True) -> Lease:
    """A lease that was taken in `term` at time `at`."""
    lease = Lease("me")
    lease.wrote(Claim(term, 0), 1, at)
    if led:
        assert lease.change(at) == "begin"
        lease.begin()
    lease.validate()
    return lease


def test_nobody_decides_before_earlier_leaders_are_fenced_off() -> None:
    lease = held(led=False)
    assert (lease.change(0.1), lease.led, lease.writes_in(0.1)) == ("begin", 0, 0)
    assert lease.change(0.2) == "begin"  # until the shell is ready
    lease.begin()
    assert (lease.change(0.3), lease.led, lease.writes_in(0.3)) == (None, 1, 1)


@pytest.mark.parametrize(
    ("now", "change", "led"), [(STEP_DOWN_S - 0.1, None, 1), (STEP_DOWN_S, "end", 0), (10 * STEP_DOWN_S, "end", 0)]
)
def test_a_lease_that_is_not_renewed_ends(now: float, change: str | None, led: int) -> None:
    lease = held()
    assert (lease.change(now), lease.led) == (change, led)
    assert lease.change(now) is None  # once


def test_nothing_is_written_while_the_lease_has_run_out_and_the_end_is_not_seen_yet() -> None:
    lease = held()
    assert (lease.led, lease.writes_in(STEP_DOWN_S)) == (1, 0)


def test_a_late_renewal_goes_on_in_the_same_term() -> None:
    lease = held()
    claim = lease.saw(Held("me", 1, 1), STEP_DOWN_S + 1)
    assert claim == Claim(1, 1)
    lease.wrote(claim, 2, STEP_DOWN_S + 1)
    assert (lease.change(STEP_DOWN_S + 1), lease.led) == (None, 1)


def test_who_lost_the_lease_leads_in_a_later_term_or_not_at_all() -> None:
    lease = held()
    assert lease.saw(Held("other", 2, 7), 1.0) is None
    assert (lease.change(1.0), lease.led) == ("end", 0)
    claim = lease.saw(Held("", 2, 8), 2.0)  # the other gave it back
    assert claim == Claim(3, 8)
    lease.wrote(claim, 9, 2.0)
    assert lease.change(2.0) == "begin"
    lease.begin()
    assert lease.led == 3


def test_a_lease_that_is_taken_again_between_two_looks_ends_first() -> None:
    lease = held()
    lease.wrote(Claim(3, 8), 9, 1.0)
    assert (lease.change(1.0), lease.change(1.0)) == ("end", "begin")
