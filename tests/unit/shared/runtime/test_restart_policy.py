from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hams_shared.runtime.child_process import describe_exit
from hams_shared.runtime.supervise import RestartPolicy


def test_pauses_double_up_to_the_longest() -> None:
    policy = RestartPolicy(first=1, longest=5, limit=10, window=1000)
    now, pauses = 0.0, []
    for _ in range(5):
        pause = policy.record_exit(now)
        assert pause is not None
        pauses.append(pause)
        now += pause
    assert pauses == [1, 2, 4, 5, 5]


def test_a_stable_run_resets_the_pause() -> None:
    policy = RestartPolicy(first=1, longest=100, stable=30)
    assert policy.record_exit(0) == 1
    assert policy.record_exit(2) == 2
    # Restarted at 4, ran for 29 s, then (restarted at 37) for 30 s.
    assert policy.record_exit(33) == 4
    assert policy.record_exit(67) == 1


def test_it_gives_up_above_the_limit_within_the_window() -> None:
    policy = RestartPolicy(first=0.1, limit=2, window=100)
    assert policy.record_exit(0) is not None
    assert policy.record_exit(1) is not None
    assert policy.record_exit(2) is None


def test_exits_outside_the_window_are_forgotten() -> None:
    policy = RestartPolicy(first=0.1, limit=2, window=100)
    for now in (0, 60, 120, 180, 240):
        assert policy.record_exit(now) is not None


@given(st.lists(st.floats(0, 1000), max_size=200))
def test_restarts_in_a_window_never_exceed_the_limit(gaps: list[float]) -> None:
    policy = RestartPolicy(limit=5, window=50)
    now, restarts = 0.0, []
    for gap in gaps:
        now += gap
        pause = policy.record_exit(now)
        if pause is None:
            break
        assert 0 < pause <= policy.longest
        restarts.append(now)
    for at in restarts:
        assert sum(0 <= other - at <= 50 for other in restarts) <= 5


def test_exits_are_described() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "SIGKILL"
    assert describe_exit(-99) == "signal 99"
