"""Which replica takes the next frame."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.routing import Replicas
from support.build import plan

ONE, TWO = "h.b.one", "h.b.two"


def shared(first: float, epoch: int = 1) -> object:
    return plan(epoch, {"det": ONE, "age": TWO}).model_copy(
        update={"shares": {"det": {ONE: first, TWO: 1 - first}, "age": {TWO: 1.0}}}
    )


@given(st.floats(0.05, 0.95))
def test_every_run_of_frames_keeps_the_shares(first: float) -> None:
    replicas, of = Replicas(), shared(first)
    taken: Counter[str] = Counter()
    for count in range(1, 200):
        route = replicas.choose(of)  # type: ignore[arg-type]
        taken[route["det"]] += 1
        for node, device in route.items():
            replicas.answered(node, device)
        assert abs(taken[ONE] - first * count) <= 1.0 + 1e-6
    assert not replicas.owed


def test_a_stalled_replica_is_passed_over_and_taken_again() -> None:
    replicas, of = Replicas(), shared(0.5)
    routes = []
    for _ in range(40):
        device = replicas.choose(of)["det"]  # type: ignore[arg-type]
        routes.append(device)
        if device == TWO:
            replicas.answered("det", TWO)
    assert routes[10:].count(ONE) <= 2
    for _ in range(routes.count(ONE)):
        replicas.answered("det", ONE)
    routes = []
    for _ in range(20):
        device = replicas.choose(of)["det"]  # type: ignore[arg-type]
        replicas.answered("det", device)
        routes.append(device)
    assert 9 <= routes.count(ONE) <= 12  # its turns, and not those it missed


def test_another_attempt_goes_elsewhere() -> None:
    replicas, of = Replicas(), shared(0.9)
    assert [replicas.choose(of, {"det": ONE})["det"] for _ in range(3)] == [TWO] * 3  # type: ignore[arg-type]
    assert replicas.choose(of, {"age": TWO})["age"] == TWO  # type: ignore[arg-type]
