"""The difference of two groups is exactly what turns one into the other."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hams_shared.group.difference import Change, Effect, difference
from hams_shared.group.spec import GroupSpec, parse_group
from support.build import group_record

SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]


def some(**of: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Maps with some of these keys, each with one of its values."""
    return st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in of.items()})


REGIONS = some(
    gate=[{}, {"area": 0.01}],
    mask=[[SQUARE]],
    roi=[[0, 0, 0.5, 0.5], [0, 0, 1, 0.5]],
    zones=[{"door": SQUARE}, {"door": SQUARE, "yard": SQUARE}],
    lines=[{"in": [[0, 0], [1, 1]]}],
    paused=[True, False],
)
SOURCES = st.sampled_from([
    {"source": "rtsp://cam/1"}, {"source": "rtsp://cam/2", "transport": "udp"}, {"source": "push"},
    {"source": "/v.mp4", "mode": "lossless", "pace": "max"}, {"source": "/v.mp4", "fps": 5, "loop": True},
])  # fmt: skip
STREAMS = st.dictionaries(st.sampled_from("abc"), st.builds(lambda a, b: {**a, **b}, SOURCES, REGIONS), max_size=3)
TASKS = some(threshold=[0.3, 0.6], labels=[["a"], ["a", "b"], {"1": "a"}], only=[["a"]])
WORK = some(weight=[1.0, 2.0], pin=[["h.b.u"]], max_wait_ms=[5], variants=[False, ["int8"]], min_agreement=[0.5])
INPUTS = st.sampled_from([{"size": [64, 64]}, {"size": [64, 64], "color": "rgb"}, {"size": [32, 32], "mean": [1]}])
TOP = some(strategy=["optimal"], target_fps=[5.0, 10], priority=[1, 2], share=[2], deadline_s=[3], results=["json"])


@st.composite
def groups(draw: st.DrawFn) -> GroupSpec:
    """Valid groups of one name: a detector, its children, streams."""
    tracked = draw(st.booleans())
    root = {"model": "pypi:m==1/det.xml", "input": draw(INPUTS), "task": {"type": "yolo", **draw(TASKS)}, **draw(WORK)}
    if tracked:
        root |= {"track": draw(some(low_score=[0.05, 0.2], motion=["flow"]))} | draw(some(cadence=[2, "auto"]))
    child = {"model": "pypi:m==1/age.xml", "input": {"size": [64, 64]}, "parent": "det"}
    often = some(cadence=["track", 3], when=["score > 0.5", "score > 0.6"])
    nodes = {"det": root}
    for name in draw(st.permutations(["age", "eyes"]))[: draw(st.integers(0, 2))]:
        task = {"type": "embedding", **draw(some(gallery=[{}, {"threshold": 0.7}]))}
        more = {**draw(some(crop=[{"enlarge": 2}, {"square": True}])), **(draw(often) if tracked else {})}
        nodes[name] = {**child, "task": task, **draw(WORK), **more}
    data = {"name": "g", "nodes": nodes, "streams": draw(STREAMS), **draw(TOP)}
    if tracked:
        data["events"] = draw(some(update_s=[2.0], crop=[True], rules=[{"r": {"min_age_s": 1}}, {"r": {"crop": True}}]))
    return parse_group(data)


def applied(data: dict[str, Any], changes: list[Change]) -> dict[str, Any]:
    """A copy of the group with the new value of each change."""
    data = copy.deepcopy(data)
    for change in changes:
        *above, last = change.keys
        at = data
        for key in above:
            at = at[key]
        if change.new is None:
            at.pop(last, None)
        else:
            at[last] = change.new
    return data


def values(value: Any, path: str = "") -> dict[str, Any]:
    """Each value by its path, of a map that it is one; nulls are as good as absent."""
    if not isinstance(value, dict):
        return {} if value is None else {path: value}
    within = {key: one for name, part in value.items() for key, one in values(part, f"{path}.{name}").items()}
    return {path: "a map", **within}


def wiring(spec: GroupSpec) -> tuple[Any, ...]:
    """Who gets work from whom, and whose answers no frame waits for."""
    return spec.chosen, spec.slow, {name: node.parent for name, node in spec.nodes.items()}


@given(groups(), groups(), st.randoms(use_true_random=False))
def test_it_is_exactly_what_turns_one_into_the_other(old: GroupSpec, new: GroupSpec, random: Any) -> None:
    found = difference(group_record(old), group_record(new))
    changes = list(found.changes)
    random.shuffle(changes)
    before, after = (spec.model_dump(mode="json") for spec in (old, new))
    assert parse_group(applied(before, changes)) == new  # in any order
    assert bool(found) == (old != new)

    # It names the values that differ, each once, and no others.
    a, b = values(before), values(after)
    differ = {path for path in a.keys() | b.keys() if a.get(path) != b.get(path)}
    under = {path: [c for c in found.changes if f"{path}.".startswith(f".{c.path}.")] for path in differ}
    assert all(len(named) == 1 for named in under.values())
    assert {c.keys for named in under.values() for c in named} == {c.keys for c in found.changes}

    # Who gets work from whom changes only with the graph.
    if wiring(old) != wiring(new):
        assert found.strongest is Effect.GRAPH

    # Back again is the mirror.
    back = difference(group_record(new), group_record(old))
    assert {(c.keys, c.effect) for c in found.changes} == {(c.keys, c.effect) for c in back.changes}
