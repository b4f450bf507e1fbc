"""The paper's experiments: what is planned and counted, and the box that others measured."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hams_scheduler import offline

sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks.paper import cases, intel, intel_report
from benchmarks.paper.bench import ORDER, _row
from benchmarks.paper.report import cell, errors, markdown, verdict

CPU, GPU, VPU0, VPU1 = (f"box.emulated.{name}-sim" for name in ("cpu", "gpu", "vpu0", "vpu1"))


def test_the_services_have_the_papers_eleven_networks_and_every_number_of_vpus() -> None:
    nodes = [node.split("/")[0] for node in cases.SPEEDS]
    assert [nodes.count(group) for group in cases.SERVICES["F+P+V"]] == [6, 2, 3]
    assert sorted(ORDER) == list(cases.VPUS)


def test_the_slides_case_has_the_slides_speeds() -> None:
    data = json.loads(cases.SLIDES.read_text())
    stated = {cases.SLIDES_NODES[node]: cases.stated_fps(f"face/{node}", 1, slides=True) for node in cases.SLIDES_NODES}
    assert stated == dict(zip(data["models"], data["fps"], strict=True))
    assert cases.stated_fps("person/person", 2) == pytest.approx([4.38 * 1.2, 5.64 * 1.2, 3.02 * 1.2, 3.02 * 1.2])


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ({"a/x": {CPU: 1.0}, "a/y": {VPU1: 1.0}}, True),
        ({"a/x": {CPU: 1.0}, "a/y": {VPU1: 0.999}}, True),
        ({"a/x": {CPU: 1.0}, "a/y": {GPU: 1.0}}, False),
        ({"a/x": {VPU0: 1.0}, "a/y": {VPU0: 1.0}}, False),
        ({"a/x": {CPU: 1.0}, "a/y": {VPU0: 0.5, VPU1: 0.5}}, False),
    ],
)
def test_placements_that_differ_in_which_vpu_is_which_are_one(other: cases.Shares, alike: bool) -> None:
    one = {"a/x": {CPU: 1.0}, "a/y": {VPU0: 1.0}}
    assert (cases.signature(other) == cases.signature(one)) is alike


def test_a_placement_is_served_with_each_node_pinned_to_its_devices() -> None:
    spec = {"name": "a", "nodes": {"x": {"weight": 1.0}, "y": {"weight": 0.5}}}
    [found] = cases.pinned([spec], {"a/x": {CPU: 1.0}, "a/y": {VPU0: 0.4, GPU: 0.6}}, "replicated")
    assert found["strategy"] == "replicated"
    assert {name: node["pin"] for name, node in found["nodes"].items()} == {"x": [CPU], "y": [GPU, VPU0]}
    assert "pin" not in spec["nodes"]["x"]


def test_an_answer_names_nodes_with_their_group() -> None:
    answer = {"shares": {"x": {CPU: 1.0}}, "group_fps": {}, "fps": 5.0, "bottleneck": CPU}
    alone = _row(answer, [{"name": "a"}], "A", 1, "mfs")
    assert (alone.shares, alone.fps, alone.name) == ({"a/x": {CPU: 1.0}}, {"a": 5.0}, "A, 1 VPU, mfs")
    several = {"shares": {"a/x": {CPU: 1.0}}, "group_fps": {"a": 5.0, "b": 6.0}, "fps": 5.0, "bottleneck": CPU}
    assert _row(several, [{"name": "a"}, {"name": "b"}], "A+B", 1, "mfs").fps == {"a": 5.0, "b": 6.0}


def served(strategy: str, predicted: float, measured: float | None, void: str = "", **more: Any) -> dict[str, Any]:
    about = {"services": "F", "vpus": 1, "strategy": strategy, "group": "face", "again": False}
    figures = {} if measured is None else {"measured": measured}
    return {**about, "predicted": predicted, **figures, "void": void, **more}


def test_the_table_shows_the_group_that_has_least_and_the_verdict_every_row_above_the_bar() -> None:
    rows = [
        served("mfs", 10.0, 9.9),
        served("mfs", 12.0, 8.0, group="person"),
        served("hfs", 10.0, 9.9, again=True),
        served("optimal", 10.0, None, "not served: the time was over"),
    ]
    assert [cell(rows[:2]), cell(rows[3:]), cell([])] == ["10.00 / 8.00", "10.00 / –", "–"]
    assert "| 1 | 10.00 / 8.00 | 10.00 / 9.90 | 10.00 / – |" in markdown(rows)
    assert errors(rows) == {"F, 1 VPU, mfs: face": pytest.approx(1 / 99), "F, 1 VPU, mfs: person": 0.5}
    said = verdict(rows).splitlines()
    assert said[0] == (
        "- 2 figures of 2 placements; median error 25.5% (bar 5%: missed), worst 50.0% in F, 1 VPU, mfs: person "
        "(bar 10%: missed)."
    )
    assert said[1:] == [
        "- Above 10%: F, 1 VPU, mfs: person, +50.0%.",
        "- Not counted: F, 1 VPU, optimal: not served: the time was over.",
    ]


@cache
def scores() -> dict[str, dict[str, intel.Score]]:
    return intel_report.scores()


def test_every_row_but_one_is_predicted_without_itself() -> None:
    """No other row has the face detector on the stick."""
    known = intel.rows()
    assert len(known) == 26
    kept = {(row.service, row.places) for row, _ in intel.held_out(known, intel.BEST)}
    assert {(r.service, r.places) for r in known} - kept == {("face", ("MYR", "CPU", "CPU"))}


def test_a_loop_that_waits_and_interference_on_the_cpu_explain_intels_rows() -> None:
    best = scores()[intel.BEST]["both"]
    assert best.rank >= intel.BAR_RANK
    assert best.median <= intel.BAR_ERROR
    for name in ("sequential", "overlapped", "overlapped, with interference"):
        other = scores()[name]["both"]
        assert other.rank < intel.BAR_RANK
        assert other.median > 2 * best.median


def test_every_further_network_on_the_cpu_costs_21_ms() -> None:
    box = intel.fit(intel.rows())
    assert box.further == pytest.approx(21.3, abs=0.5)
    ms = {(row.service, "/".join(row.places)): row.ms for row in intel.rows()}
    further = [
        ms["face", "CPU/CPU/CPU"] - ms["face", "CPU/GPU/CPU"],
        ms["vehicle", "CPU/CPU"] - ms["vehicle", "CPU/GPU"],
    ]
    assert further == pytest.approx([21.8, 20.5], abs=0.1)


def alike(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same, numbers up to how they are rounded."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and alike(list(one.values()), list(other.values()))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == (pytest.approx(other, rel=1e-3) if isinstance(other, float) else other))


@pytest.mark.parametrize("service", ["face", "vehicle"])
def test_the_strategies_choose_a_row_within_one_percent_of_the_best(service: str) -> None:
    path = intel_report.INSTANCES / f"intel-{service}.json"
    assert alike(json.loads(path.read_text()), json.loads(intel_report.instance_text(service)))
    for answer in offline.plan(str(path), ["mfs", "hfs", "optimal"], [], time_limit_s=1.0):
        places = tuple(answer["assignment"][network] for network in intel.services()[service])
        lost = intel.loss(intel.rows(), service, places)
        assert lost is not None, places
        assert lost <= intel.BAR_BEST


def test_our_objective_counts_what_the_loop_waits_for_up_to_one_network_on_the_cpu() -> None:
    box = intel.fit(intel.rows())
    for row in intel.rows():
        loop, ours = (tell(box, row.service, row.places) for tell in (intel.predicted_ms, intel.instance_ms))
        if row.places.count("CPU") <= 1:
            assert ours == pytest.approx(loop, rel=1e-3)
        else:
            assert ours <= loop * 1.001


def test_our_objective_counts_interference_where_the_detector_is_on_the_cpu() -> None:
    box = intel.fit(intel.rows())
    for service, places in (("face", ("CPU", "CPU", "CPU")), ("vehicle", ("CPU", "CPU"))):
        assert intel.instance_ms(box, service, places) == pytest.approx(
            intel.predicted_ms(box, service, places), rel=1e-3
        )
