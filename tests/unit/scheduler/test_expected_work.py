"""What nodes are expected to do per frame before anything ran."""

from __future__ import annotations

from typing import Any

import pytest

from hams_scheduler.expected_work import FLOW_S, GATE_S, TRACK_S, ExpectedWorks, expected_work, follow_s, leaves_out
from hams_shared.group.spec import GroupSpec, parse_group

GATE = {"gate": {"type": "motion"}}
TILES = {"tiles": {"grid": [3, 2]}}


def group(
    root: dict[str, Any] | None = None,
    child: dict[str, Any] | None = None,
    grandchild: dict[str, Any] | None = None,
    streams: tuple[dict[str, Any], ...] = ({},),
) -> GroupSpec:
    """A detector, its child and a child of that, with these keys."""
    nodes = {
        name: {
            "model": f"/{name}.onnx",
            "input": {"size": [64, 64]},
            "task": {"type": "raw"},
            **({"parent": parent} if parent else {}),
            **(keys or {}),
        }
        for name, parent, keys in (
            ("det", None, {"track": {}, **(root or {})}),
            ("age", "det", child),
            ("text", "age", grandchild),
        )
    }
    return parse_group(
        {
            "name": "g",
            "nodes": nodes,
            "streams": {f"s{i}": {"source": "/a.mp4", **keys} for i, keys in enumerate(streams)},
        }
    )


@pytest.mark.parametrize(
    ("root", "child", "streams", "weights", "pieces"),
    [
        ({}, {}, ({},), (1, 1, 1), (1, 1, 1)),
        ({}, {"weight": 3}, (), (1, 3, 1), (1, 1, 1)),
        ({"cadence": 1}, {}, ({},), (1, 1, 1), (1, 1, 1)),
        ({"cadence": 5}, {"weight": 3}, ({},), (0.2, 0.6, 0.2), (0.2, 0.2, 0.2)),
        ({"cadence": {"seconds": 2}}, {}, ({},), (0.02, 0.02, 0.02), (0.02, 0.02, 0.02)),
        ({"cadence": {"seconds": 2}}, {}, ({"fps": 10},), (0.05,) * 3, (0.05,) * 3),
        ({"cadence": {"seconds": 2}}, {}, ({"fps": 10}, {"fps": 5}), (0.075,) * 3, (0.075,) * 3),
        ({"cadence": {"seconds": 0.01}}, {}, ({},), (1, 1, 1), (1, 1, 1)),
        # between min_fps and all frames: their geometric mean
        ({"cadence": "auto"}, {}, ({},), (0.2,) * 3, (0.2,) * 3),
        ({"cadence": {"auto": True, "min_fps": 4}}, {}, ({"fps": 16},), (0.5,) * 3, (0.5,) * 3),
        ({"cadence": {"auto": True, "min_fps": 40}}, {}, ({},), (1, 1, 1), (1, 1, 1)),
        ({"cadence": {"max": 10}}, {}, ({},), (0.1,) * 3, (0.1,) * 3),
        # a child's own cadence counts where it is rarer than the detector's
        ({}, {"cadence": "track", "weight": 3}, ({},), (1, 0.3, 0.1), (1, 0.1, 0.1)),
        ({"cadence": 5}, {"cadence": {"frames": 30}}, ({},), (0.2, 1 / 30, 1 / 30), (0.2, 1 / 30, 1 / 30)),
        ({"cadence": 5}, {"cadence": {"frames": 3}}, ({},), (0.2, 0.2, 0.2), (0.2, 0.2, 0.2)),
        ({}, {"cadence": {"seconds": 2}}, ({},), (1, 0.02, 0.02), (1, 0.02, 0.02)),
        # a condition leaves objects out, and what is found in them
        ({}, {"when": "score > 0.6"}, ({},), (1, 0.5, 0.5), (1, 1, 1)),
        ({"cadence": 2}, {"when": "score > 0.6", "weight": 4}, ({},), (0.5, 1, 0.25), (0.5, 0.5, 0.5)),
        # gates and tiles are of streams
        ({}, {}, (GATE,), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ({}, {}, (GATE, {}), (0.75, 0.75, 0.75), (0.75, 0.75, 0.75)),
        ({}, {}, (TILES,), (6, 1, 1), (1, 1, 1)),
        ({}, {}, (TILES, {}), (3.5, 1, 1), (1, 1, 1)),
        ({}, {}, ({"tiles": {"grid": [3, 2], "whole": True}},), (7, 1, 1), (1, 1, 1)),
        ({"cadence": 5}, {}, ({**GATE, **TILES},), (0.6, 0.1, 0.1), (0.1, 0.1, 0.1)),
    ],
)
def test_inferences_and_pieces_of_work_per_frame(
    root: dict[str, Any],
    child: dict[str, Any],
    streams: tuple[dict[str, Any], ...],
    weights: tuple[float, ...],
    pieces: tuple[float, ...],
) -> None:
    spec = group(root, child, streams=streams)
    works = [expected_work(spec, node) for node in ("det", "age", "text")]
    assert [work.weight for work in works] == pytest.approx(weights)
    assert [work.pieces for work in works] == pytest.approx(pieces)
    assert all(work.images * work.pieces == pytest.approx(work.weight) for work in works)


@pytest.mark.parametrize(
    ("spec", "node", "text"),
    [
        (group(), "det", ""),
        (group(streams=(TILES,)), "det", ""),
        (group({"cadence": 5}), "det", "runs on every 5th frame: 0.2 of 1.0 inferences per frame, expected"),
        (group({"cadence": 22}), "det", "runs on every 22nd frame: 0.0455 of 1.0 inferences per frame, expected"),
        (group({"cadence": 5}), "age", "runs as often as det: 0.2 of 1.0 inferences per frame, expected"),
        (
            group({"cadence": 5}, {"cadence": "track"}),
            "age",
            "runs as often as det, once per track, and for better crops: 0.1 of 1.0 inferences per frame, expected",
        ),
        (
            group({"cadence": "auto"}),
            "det",
            "runs as often as its tracks need, at least 1 times a second: 0.2 of 1.0 inferences per frame, expected",
        ),
        (
            group({"cadence": {"max": 10, "min_agreement": 0.9}}),
            "det",
            "runs on up to every 10th frame (agreement 0.9 or more, not measured yet): 0.1 of 1.0 inferences per "
            "frame, expected",
        ),
        (
            group(child={"when": "score > 0.6", "weight": 3}, streams=(GATE, {})),
            "age",
            "runs while something moves in 1 of 2 streams, only where its condition holds: 1.12 of 3.0 inferences per "
            "frame, expected",
        ),
        (
            group(child={"when": "score > 0.6"}),
            "text",
            "runs as age's condition holds: 0.5 of 1.0 inferences per frame, expected",
        ),
    ],
)
def test_what_rules_save_is_told(spec: GroupSpec, node: str, text: str) -> None:
    assert expected_work(spec, node).saved == text


@pytest.mark.parametrize(
    ("agreements", "rate", "words"),
    [
        ({"s0": {2: 0.99, 5: 0.96, 10: 0.9}}, (1 / 5 + 1 / 10) / 2, "on every 5th or 10th frame"),
        ({"s0": {2: 0.99, 5: 0.96}, "s1": {2: 0.97}}, (1 / 5 + 1 / 2) / 2, "on every 2nd or 5th frame"),
        ({"s0": {2: 0.9}, "s1": {2: 0.9}}, 1.0, ""),
    ],
)
def test_a_measured_agreement_chooses_the_cadence_of_its_stream(
    agreements: dict[str, dict[int, float]], rate: float, words: str
) -> None:
    work = expected_work(group({"cadence": {"max": 10}}, streams=({}, {})), "det", agreements)
    assert work.weight == pytest.approx(rate)
    assert words in work.saved
    assert bool(words) == bool(work.saved)


@pytest.mark.parametrize(
    ("spec", "out"),
    [
        (group(), False),
        (group({"cadence": 1}), False),
        (group(streams=(TILES,)), False),  # each frame brings the detector one piece, of several images
        (group({"cadence": 2}), True),
        (group(child={"cadence": "track"}), True),
        (group(grandchild={"when": "score > 0.5"}), True),
        (group(streams=({}, GATE)), True),
    ],
)
def test_which_groups_leave_work_out(spec: GroupSpec, out: bool) -> None:
    assert leaves_out(spec) == out


def test_what_is_kept_is_of_the_same_group_file_and_agreements() -> None:
    known, first, again = ExpectedWorks(), group({"cadence": 5}), group({"cadence": 2})
    assert known.of(first, "det", None) is known.of(first, "det", None)
    assert known.of(again, "det", None) == expected_work(again, "det")
    chosen, measured = group({"cadence": {"max": 10}}), {"s0": {2: 0.99}}
    assert [known.of(chosen, "det", one).weight for one in (None, measured)] == [0.1, 0.5]


def test_what_tracking_and_gates_cost_the_pipeline() -> None:
    plain = group_without_track()
    assert follow_s(plain) == 0.0
    assert follow_s(group()) == TRACK_S
    assert follow_s(group({"track": {"motion": "flow"}}, streams=(GATE, {}))) == TRACK_S + FLOW_S + GATE_S / 2


def group_without_track() -> GroupSpec:
    return parse_group(
        {"name": "g", "nodes": {"det": {"model": "/d.onnx", "input": {"size": [64, 64]}, "task": {"type": "raw"}}}}
    )
