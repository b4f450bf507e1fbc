"""What is counted of a candidate, and what its rule is judged by."""

from __future__ import annotations

from typing import Any, cast

import pytest

from hams_services.pipeline.candidate_tally import OPEN, Tally, rule_values, view
from hams_services.pipeline.comparison import Agreements
from hams_shared.bus.candidates import Trial, as_candidate
from hams_shared.wire.results import FrameResult
from support.build import group_record

RECORD = as_candidate(group_record(), group_record(), Trial("shadow", 0.5))


def result(latency_ms: float, **steps: float) -> FrameResult:
    nodes: dict[str, Any] = {"det": {"device": "h.b.u", "queue": 99.0, **steps}}
    return cast(FrameResult, {"latency_ms": latency_ms, "nodes": nodes, "objects": [{"label": f"{latency_ms}"}]})


@pytest.mark.parametrize("serves_first", [True, False])
def test_results_are_paired_whoever_is_first(serves_first: bool) -> None:
    tally = Tally("cam")
    tally.expect(7, compared=True)
    calls = [lambda: tally.served(7, result(10, infer=4, decode=1)), lambda: tally.tried(7, result(20, infer=8))]
    for call in calls if serves_first else calls[::-1]:
        call()
    assert [*tally.pairs] == [([{"label": "10"}], [{"label": "20"}])]
    assert (*tally.serving.latency, *tally.serving.work) == (10, 5)  # without waiting in the queue
    assert (*tally.candidate.latency, *tally.candidate.work) == (20, 8)


def test_what_has_no_result_or_is_not_to_be_compared_makes_no_pair() -> None:
    tally = Tally("cam")
    for frame in range(4):
        tally.expect(frame, compared=frame != 3)
    tally.served(0, None)
    tally.tried(0, result(1))
    tally.served(1, result(1))
    tally.tried(1, None)
    tally.served(99, result(1))  # no frame of the candidate's
    tally.served(3, result(5))
    tally.tried(3, result(6))
    assert ([*tally.pairs], tally.unpaired) == ([], 1)
    assert [*tally.candidate.latency] == [6]


def test_memory_is_bounded() -> None:
    tally = Tally("cam")
    for frame in range(3 * OPEN):
        tally.expect(frame, compared=True)
    assert (len(tally._open), tally.unpaired) == (OPEN, 2 * OPEN)


def test_values_of_a_rule() -> None:
    tally = Tally("cam", chosen=10, skipped=2, frames=6)
    tally.failed["internal"] = 2
    for latency in (10.0, 20.0):
        tally.serving.take(result(latency, infer=5))
        tally.candidate.take(result(2 * latency, infer=4))
    found = Agreements()
    found.take({"det": (0.9, 6)}, 6)
    values = rule_values(view(RECORD, [tally], found))
    assert (values["frames"], values["agreement"], values["failed"], values["skipped"]) == (8, 0.9, 0.25, 0.2)
    assert (values["latency_p50"], values["work_p99"]) == pytest.approx((2.0, 0.8))
    nothing = rule_values(view(RECORD, [], Agreements(), waits="it is not placed"))
    assert nothing.pop("frames") == 0
    assert {*nothing.values()} == {None}
