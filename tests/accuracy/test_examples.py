"""The example groups on real inputs: what they tell must stay what it was, within tolerances.

Whatever decays on the way from file to answer (decoding of videos and pictures, pre-processing, a runtime, the tasks,
crops, the order of children, the join) changes a box, a number or a label here. Expectations lie in `expected/`, one
line an object. After a change that is meant to change answers record them anew, and read what it says has changed:

    cd tests && ../.venv/bin/python -m accuracy.record [GROUP …]

Tolerances (:class:`accuracy.compare.Tolerance`): boxes IoU 0.95, scores 0.02, ages half a year, angles 1.5 degrees,
points 2 % of what they span, vectors cosine 0.99; `accuracy.cases` has those of nodes that need others. OpenVINO with
SSE4.1 instead of AVX2, and ONNX Runtime, use up to a twentieth of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from accuracy.cases import CASES, Case, answers, thresholds_of
from accuracy.compare import Comparison
from accuracy.group import Bend, Load, Networks, places
from hams_shared.group.node_spec import NodeSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.frames import Work

Change = Callable[[NodeSpec], NodeSpec]


def case(name: str, *more: object, slow: bool = False) -> object:
    """The tests of a group run in one process, which loads its networks once, and downloads them if need be."""
    marks = [pytest.mark.xdist_group(f"accuracy-{name}"), pytest.mark.timeout(1200)]
    return pytest.param(name, *more, marks=[*marks, *([pytest.mark.slow] if slow else [])])


def told(case: Case, networks: Networks, spec: GroupSpec, onnx: tuple[str, ...], bend: Bend, *feeds: str) -> Comparison:
    """Show the group `feeds`, or all; compare what it tells with what is expected."""
    expected = case.expected()
    group = networks.serve(spec, places(spec, onnx))
    shown = {name: feed(case.spec()) for name, feed in case.feeds.items() if not feeds or name in feeds}
    comparison = case.comparison(expected["thresholds"])
    case.compare(comparison, {name: expected["feeds"][name] for name in shown}, answers(group, shown, bend))
    return comparison


def straight(work: Work) -> Work:
    return work


@pytest.mark.parametrize(
    "name",
    [case("face"), case("person"), case("vehicle"), case("person-omz", slow=True), case("vehicle-omz", slow=True)],
)
def test_openvino_tells_what_it_told(name: str, load: Load) -> None:
    spec = CASES[name].spec()
    assert thresholds_of(spec) == CASES[name].expected()["thresholds"]
    found = told(CASES[name], load(name), spec, (), straight)
    assert found.report == ""


@pytest.mark.parametrize("name", [case("face"), case("vehicle")])
def test_onnx_runtime_tells_the_same(name: str, load: Load) -> None:
    """It runs the networks that it reads; crops go from one device to the other."""
    networks = load(name)
    assert list(networks.onnx()) == CASES[name].expected()["onnxruntime"]
    found = told(CASES[name], networks, CASES[name].spec(), networks.onnx(), straight)
    assert found.report == ""


# ── every kind of decay is noticed ───────────────────────────────────────────────────────────────────────────────────


def swapped(node: NodeSpec) -> NodeSpec:
    """Red for blue."""
    colour = "bgr" if node.input.color == "rgb" else "rgb"
    return node.model_copy(update={"input": node.input.model_copy(update={"color": colour})})


def plain(node: NodeSpec) -> NodeSpec:
    """Neither mean nor scale."""
    return node.model_copy(update={"input": node.input.model_copy(update={"mean": (0.0,), "scale": (1.0,)})})


def stretched(node: NodeSpec) -> NodeSpec:
    """Images and crops lose their proportions."""
    takes = node.input.model_copy(update={"fit": "stretch"})
    return node.model_copy(update={"input": takes, "crop": node.crop.model_copy(update={"square": False})})


def larger(node: NodeSpec) -> NodeSpec:
    """Crops are larger by a twentieth."""
    return node.model_copy(update={"crop": node.crop.model_copy(update={"enlarge": node.crop.enlarge * 1.05})})


def unaligned(node: NodeSpec) -> NodeSpec:
    """Crops are not turned."""
    return node.model_copy(update={"crop": node.crop.model_copy(update={"align": "none"})})


def unmirrored(node: NodeSpec) -> NodeSpec:
    """No crop is mirrored."""
    return node.model_copy(update={"crop": node.crop.model_copy(update={"mirror": ()})})


def stricter(node: NodeSpec) -> NodeSpec:
    """The threshold is higher by 0.1."""
    return threshold(node, 0.1)


def laxer(node: NodeSpec) -> NodeSpec:
    """The threshold is lower by 0.1."""
    return threshold(node, -0.1)


def threshold(node: NodeSpec, more: float) -> NodeSpec:
    now = node.task.params.get("threshold", 0.5)
    return node.model_copy(update={"task": node.task.model_copy(update={"threshold": now + more})})


DECAYS: tuple[tuple[str, str, Change], ...] = (
    *(("face", node, swapped) for node in ("face", "gender", "age", "landmarks", "iris")),
    *(("face", node, plain) for node in ("gender", "age", "emotion", "landmarks", "iris")),
    *(("face", node, stretched) for node in ("face", "gender", "age", "emotion", "landmarks")),
    *(("face", node, larger) for node in ("gender", "age", "emotion", "landmarks")),
    *(("face", node, unaligned) for node in ("gender", "age", "emotion", "landmarks", "iris")),
    ("face", "iris", unmirrored),
    *(("person", node, change) for node in ("person", "pose") for change in (swapped, stretched)),
    *(("person", "pose", change) for change in (plain, larger)),
    *(("vehicle", node, swapped) for node in ("vehicle", "plate")),  # the text is read in any colour
    *(("vehicle", node, plain) for node in ("vehicle", "plate", "text")),
    *(("vehicle", node, stretched) for node in ("vehicle", "plate", "text")),
    *(("vehicle", node, larger) for node in ("plate", "text")),
    ("vehicle", "text", unaligned),
    *(
        (group, node, change)
        for group, node in (("face", "face"), ("person", "person"), ("vehicle", "vehicle"), ("vehicle", "plate"))
        for change in (stricter, laxer)
    ),
)


def named(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(
    ("name", "node", "change"),
    [case(*decay, slow=True) for decay in DECAYS],
    ids=["-".join(map(named, d)) for d in DECAYS],
)
def test_a_node_that_is_given_something_else_is_noticed(name: str, node: str, change: Change, load: Load) -> None:
    spec = CASES[name].spec()
    changed = spec.model_copy(update={"nodes": {**spec.nodes, node: change(spec.nodes[node])}})
    found = told(CASES[name], load(name), changed, (), straight)
    assert f" {node}" in found.report


def shifted(node: str) -> Bend:
    """Crops of `node` are off by a twentieth of their width."""

    def bend(work: Work) -> Work:
        if work.node != node or not work.count:
            return work
        width = work.deferred.size[0] if work.deferred else work.images.shape[2]
        moved = work.to_frame.copy()
        moved[:, :, 2] -= moved[:, :, 0] * (width / 20)
        return replace(work, to_frame=moved)

    return bend


@pytest.mark.parametrize(
    ("name", "node"),
    [
        case(*one, slow=True)
        for one in (
            *(("face", node) for node in ("gender", "age", "emotion", "landmarks", "iris")),
            ("person", "pose"),
            ("vehicle", "plate"),
        )
    ],
)
def test_crops_that_are_off_are_noticed(name: str, node: str, load: Load) -> None:
    found = told(CASES[name], load(name), CASES[name].spec(), (), shifted(node))
    assert f" {node}" in found.report
