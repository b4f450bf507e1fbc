from __future__ import annotations

from hams_shared.runtime.liveness import STALLS, Liveness
from hams_shared.wire.subjects import LOST_AFTER_S
from support.build import heartbeat


def looked(live: Liveness, start: float, end: float, step: float = 0.25) -> list[str]:
    """Look regularly; return who was lost."""
    lost: list[str] = []
    now = start
    while now <= end:
        lost += live.expire(now)
        now += step
    return lost


def test_silence_is_loss() -> None:
    live = Liveness()
    live.heard(heartbeat("h.b.u"), 0.0)
    assert looked(live, 0.0, LOST_AFTER_S) == []
    assert looked(live, LOST_AFTER_S, LOST_AFTER_S + 0.5) == ["h.b.u"]


def test_a_listener_that_was_stopped_itself_blames_nobody() -> None:
    live = Liveness()
    live.heard(heartbeat("h.b.u"), 0.0)
    assert looked(live, 0.0, 0.5) == []
    assert live.expire(60.0) == []  # its heartbeats wait to be read
    assert looked(live, 60.25, 60.0 + LOST_AFTER_S) == ["h.b.u"]  # half a second had passed before


def test_time_without_a_broker_is_nobodys_silence() -> None:
    live = Liveness()
    live.heard(heartbeat("h.b.u"), 0.0)
    looked(live, 0.0, 1.0)
    live.grant_grace(30.0, grace=2.0)
    assert looked(live, 30.0, 32.0 + LOST_AFTER_S) == []
    assert looked(live, 32.0 + LOST_AFTER_S, 34.5) == ["h.b.u"]


def test_a_listener_that_is_always_slow_notices_a_loss_too() -> None:
    live = Liveness()
    live.heard(heartbeat("h.b.u"), 0.0)
    assert looked(live, 0.0, 2 * (STALLS + 1), step=0.8) == ["h.b.u"]


def test_a_slow_listener_blames_nobody_who_is_heard() -> None:
    live = Liveness()
    live.expire(0.0)
    for second in range(0, 60, 2):
        live.heard(heartbeat("h.b.u"), second + 0.0)
        assert live.expire(second + 2.0) == []


def test_several_stops_in_a_row_are_not_counted_either() -> None:
    live = Liveness()
    live.heard(heartbeat("h.b.u"), 0.0)
    assert [live.expire(now) for now in (0.0, 60.0, 120.0, 180.0)] == [[]] * 4
    live.heard(heartbeat("h.b.u"), 180.0)
    assert [live.expire(now) for now in (240.0, 300.0)] == [[]] * 2
