"""The record of a device's faults: quarantine, networks that are out, what a new process or runtime ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hams_agents.runtime.health_rules import (
    ABORTS,
    PROBATION,
    WINDOW_S,
    Network,
    after_failure,
    after_hang,
    after_time,
    at_start,
    empty,
    taken_out,
)
from hams_shared.wire.messages.agents import HANGS, DeviceHealth

SOUND = DeviceHealth(device="h.b.u")
NETWORK = Network("digest", "light", "runtime 1")


def test_failures_and_hangs_count_together() -> None:
    health = after_failure(after_hang(after_failure(SOUND, "a", 1.0), "b", 2.0), "node n failed", 3.0)
    assert health.quarantined
    assert health.reason == "hung 1 and failed 2 times within 15 min; last: node n failed"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e6)), max_size=20))
def test_quarantine_begins_with_the_third_within_the_window_and_never_ends_by_itself(
    faults: list[tuple[bool, float]],
) -> None:
    health, now, times, quarantined = SOUND, 0.0, [], False
    for hangs, pause in faults:
        now += pause
        times.append(now)
        health = (after_hang if hangs else after_failure)(health, "x", now)
        quarantined = quarantined or sum(now - at <= WINDOW_S for at in times) >= HANGS
        assert health.quarantined == quarantined
        assert len(health.hangs) + len(health.failures) <= 2 * HANGS


def test_a_network_is_out_for_twice_as_long_each_time_until_it_has_served() -> None:
    health, now = SOUND, 1000.0
    for strikes in (1, 2, 3):
        health = taken_out(health, NETWORK, "bad", now)
        assert health.faulty == {"digest": "bad"}
        assert taken_out(health, NETWORK, "worse", now) == health  # it is out already
        pause = PROBATION.pause(strikes)
        assert after_time(health, now + pause - 1).faulty
        now += pause
        health = after_time(health, now)
        assert not health.faulty
        assert health.networks[0].strikes == strikes
    assert after_time(health, now + WINDOW_S - 1).networks
    assert empty(after_time(health, now + WINDOW_S))


def test_a_network_that_aborts_the_process_is_tried_twice_then_stays_out_until_the_runtime_changes() -> None:
    health, now = SOUND, 5.0
    for strikes in range(1, ABORTS):
        health = taken_out(health, NETWORK, "loading light ended the process by SIGSEGV", now, aborts=True)
        assert after_time(health, now + PROBATION.pause(strikes) - 1).faulty
        now += PROBATION.pause(strikes)
        health = at_start(after_time(health, now), "runtime 1", now)  # the load that ends the process follows
        assert not health.faulty
    health = taken_out(health, NETWORK, "loading light ended the process by SIGSEGV", now, aborts=True)
    assert after_time(health, 1e9) == health
    assert at_start(health, "runtime 1", 1e9) == health
    assert empty(at_start(health, "runtime 2", now))


def test_a_new_process_tries_a_network_that_failed_and_has_its_device() -> None:
    health = taken_out(SOUND, NETWORK, "bad", 5.0).model_copy(update={"gone": "/dev/x disappeared"})
    again = at_start(health, "runtime 1", 10.0)
    assert (again.gone, again.faulty, again.networks[0].until) == ("", {}, 10.0 + WINDOW_S)
    assert taken_out(again, NETWORK, "bad", 20.0).networks[0].until == 20.0 + PROBATION.pause(2)


def test_a_clock_that_was_set_back_keeps_no_network_out() -> None:
    assert not after_time(taken_out(SOUND, NETWORK, "bad", 1e9), 5.0).faulty
