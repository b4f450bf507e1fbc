"""What the prediction benchmark counts, and what its cases cover."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hams_shared.group.spec import load_group

sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks.prediction.cases import EXAMPLES, all_cases, device_sets
from benchmarks.prediction.measuring import prediction
from benchmarks.prediction.report import markdown
from benchmarks.prediction.rules import corrected, summary, verdict, void
from benchmarks.serving.cases import LIGHT, ROOT


@pytest.mark.parametrize(
    ("before", "after", "replayed", "misses", "resent", "why"),
    [
        (1000.0, 1099.0, 0, 0, 0, ""),
        (1000.0, 901.0, 990, 10, 0, ""),
        (1000.0, 1110.0, 0, 0, 0, "calibration drifted by 11.0%"),
        (1000.0, 890.0, 0, 0, 0, "calibration drifted by 11.0%"),
        (1000.0, 1000.0, 980, 20, 0, "20 of 1000 emulated images were computed"),
        (1000.0, 1000.0, 0, 0, 2, "2 frames were sent again or lost"),
    ],
)
def test_a_measurement_is_void_by_the_written_rules(
    before: float, after: float, replayed: int, misses: int, resent: int, why: str
) -> None:
    assert void(before, after, replayed, misses, resent) == why


def test_drift_is_corrected_to_the_speed_of_the_machine_while_networks_were_profiled() -> None:
    assert corrected(10.0, 1000.0, 790.0, 810.0) == pytest.approx(12.5)


CPU, GPU = "box.openvino.cpu", "box.emulated.gpu-sim"


@pytest.mark.parametrize(
    ("names", "shares", "bottleneck", "stated"),
    [
        (["face"], {"face": {GPU: 1.0}, "age": {CPU: 1.0}}, GPU, {"face"}),
        (["face"], {"face": {GPU: 1.0}, "age": {CPU: 1.0}}, CPU, set()),
        (["face"], {"face": {GPU: 1.0}}, "host box", set()),
        (["face", "v"], {"face/face": {GPU: 1.0}, "v/v": {GPU: 1.0}, "v/plate": {CPU: 1.0}}, CPU, {"face"}),
    ],
)
def test_groups_that_emulated_devices_limit_have_a_stated_pace(
    names: list[str], shares: dict[str, Any], bottleneck: str, stated: set[str]
) -> None:
    several = dict.fromkeys(names, 5.0) if len(names) > 1 else {}
    answer = {"shares": shares, "bottleneck": bottleneck, "fps": 5.0, "group_fps": several}
    found = prediction(answer, names)
    assert (found.fps, found.stated) == (dict.fromkeys(names, 5.0), stated)


def row(round_number: int, measured: float, why: str = "", **more: Any) -> dict[str, Any]:
    about = {"case": "default, F", "group": "face", "devices": "default", "placement": "rest on cpu"}
    figures = {"predicted": 10.0, "measured": measured, "corrected": measured * 1.1, "expected": 9.0}
    return {**about, "round": round_number, **figures, "void": why, **more}


def test_the_figure_is_the_median_of_the_rounds_that_count() -> None:
    failed = {key: value for key, value in row(2, 0.0, "failed").items() if key not in ("measured", "corrected")}
    [one] = summary([row(0, 8.0), row(1, 99.0, "drifted"), row(1, 12.0), row(2, 10.0), failed])
    assert (one["rounds"], one["void"], one["measured"], one["measured_error"]) == (3, 2, 10.0, 0.0)
    assert one["corrected_error"] == pytest.approx(-1 / 11)


def test_the_verdict_names_the_worst_and_what_was_not_measured() -> None:
    rows = [row(0, 10.0), row(0, 8.0, case="pinned, F"), row(0, 1.0, "drifted", case="pinned, V")]
    said = verdict(summary(rows), "measured_error")
    assert said == (
        "median error 12.5% (bar 5%: missed), worst 25.0% in pinned, F: face (bar 10%: missed), 2 figures, "
        "1 not measured"
    )
    assert "| pinned, V | face | 10.00 | – | – | – | – | – | 0 | 1 |" in markdown(rows)


def test_the_cases_are_at_least_24_and_cover_groups_devices_streams_and_sizes() -> None:
    cases = [case for case in all_cases() if case.devices != "cuda"]
    assert len(cases) >= 24
    assert {group for case in cases for group in case.groups} == {"F", "P", "V", "light"}
    assert {case.devices for case in cases} == {"default", "pinned", "cpu+emulated"}
    assert {case.streams for case in cases} == {1, 2, 4}
    assert {case.size for case in cases} == {"vga", "720p", "1080p"}


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_every_node_is_pinned_to_a_device_of_the_case(case: Any) -> None:
    nodes: set[str] = set()
    for group in case.groups:
        names = set(load_group(ROOT / "examples" / EXAMPLES[group] if group != "light" else LIGHT).nodes)
        nodes |= {"face", "head0", "head1", "head2"} if group == "light" else names
    assert nodes <= set(case.place) or "*" in case.place
    assert set(case.place) - {"*"} <= nodes
    assert set(case.place.values()) <= set(device_sets()[case.devices].ids)
