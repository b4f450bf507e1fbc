from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hams_scheduler.offline import read
from hams_scheduler.solver import instance_json, objective
from hams_scheduler.solver.instance import Edge, Instance, Problem
from hams_scheduler.solver.placement import Placement
from hams_scheduler.solver.strategies.local_search import climb
from hams_scheduler.solver.strategies.registry import solve
from hams_scheduler.solver.time_budget import Budget


def two(priority_b: int = 0, target: float = 10.0, **more: Any) -> Instance:
    """Group a: one heavy node; group b: two light ones."""
    return Instance(
        ("a/det", "b/one", "b/two"),
        ("cpu", "gpu"),
        np.array([[5.0, 12.0], [20.0, 40.0], [25.0, 30.0]]),
        groups={"a/det": "a", "b/one": "b", "b/two": "b"},
        targets={"a": target, "b": target},
        priorities={"b": priority_b},
        **more,
    )


def test_the_group_off_the_bottleneck_gets_what_is_left() -> None:
    placement = solve(two(), "optimal", time_limit_s=20.0)
    assert placement.group_fps["a"] == pytest.approx(12.0)
    assert placement.group_fps["b"] == pytest.approx(1 / (1 / 20 + 1 / 25))
    assert placement.unmet == ()


def test_lower_priority_gives_way_and_is_named() -> None:
    placement = solve(two(priority_b=5, target=40.0), "optimal", time_limit_s=20.0)
    other = solve(two(priority_b=-5, target=40.0), "optimal", time_limit_s=20.0)
    assert placement.group_fps["b"] > other.group_fps["b"]
    assert other.group_fps["a"] > placement.group_fps["a"]
    assert "a" in placement.unmet


EXAMPLE = Path(__file__).parents[4] / "examples" / "instances" / "two-groups.json"


def example(overload: float = 1.0, **priorities: int) -> Instance:
    """The example of docs/scheduling.md: face and plate on a CPU, a GPU and an NPU."""
    instance = instance_json.read(read(EXAMPLE))
    targets = {name: target * overload for name, target in instance.targets.items()}
    return instance.replace(targets=targets, priorities=instance.priorities | priorities)


def outcome(placement: Placement) -> list[tuple[str, float, float, bool]]:
    return [(one.group, round(one.fps, 1), round(one.short_fps, 1), one.proven) for one in placement.groups]


@pytest.mark.parametrize(
    ("overload", "priorities", "expected"),
    [
        (1.0, {}, [("face", 60.0, 0.0, True), ("plate", 49.9, 0.0, True)]),
        (1.8, {}, [("plate", 27.3, 44.7, True), ("face", 90.0, 0.0, True)]),  # plate gives way
        (1.8, {"face": 0}, [("face", 60.0, 30.0, True), ("plate", 49.9, 22.1, True)]),  # both
        (1.8, {"plate": 2}, [("plate", 58.2, 13.8, True), ("face", 57.6, 32.4, True)]),
        (4.0, {}, [("face", 110.0, 90.0, True), ("plate", 12.5, 147.5, True)]),
    ],
)
def test_who_gives_way_and_by_how_much(
    overload: float, priorities: dict[str, int], expected: list[tuple[str, float, float, bool]]
) -> None:
    placement = solve(example(overload, **priorities), "optimal", time_limit_s=20.0)
    assert outcome(placement) == expected
    assert placement.unmet == tuple(sorted(name for name, _, short, _ in expected if short))


def test_a_bound_is_of_the_groups_own_level() -> None:
    """Unless bounds are asked for, MFS knows that of the worst-off group alone."""
    bounds = {one.group: one.bound_fps for one in solve(example(), "mfs", time_limit_s=20.0, bounds=True).groups}
    assert bounds == {"face": pytest.approx(60.0), "plate": pytest.approx(57.46, abs=0.01)}
    instance = example(face=0)
    plain = solve(instance, "mfs")
    assert [plain.bound_of(name) > 0 for name in ("face", "plate", "none")] == [True, False, False]


def test_shares_are_computed_for_all_groups_and_not_only_the_first() -> None:
    """Group a is limited by its one node on x; b and c could share y and z in any way."""
    fps = np.array([[10.0, 0, 0], [0, 40, 40], [0, 40, 40], [0, 40, 40]])
    names = ("a/1", "b/1", "c/1", "c/2")
    found = solve(
        Instance(names, ("x", "y", "z"), fps, groups={name: name[0] for name in names}), "replicated", time_limit_s=20.0
    )
    assert outcome(found) == [("a", 10.0, 0.0, True), ("b", 26.7, 0.0, True), ("c", 26.7, 0.0, True)]
    whole = solve(
        Instance(names, ("x", "y", "z"), fps, groups={name: name[0] for name in names}), "optimal", time_limit_s=20.0
    )
    assert outcome(whole) == [("a", 10.0, 0.0, True), ("c", 20.0, 0.0, True), ("b", 40.0, 0.0, True)]


def test_a_slow_link_keeps_parent_and_child_together() -> None:
    instance = Instance(
        ("det", "head"),
        ("box1.cpu", "box2.gpu"),
        np.array([[10.0, 11.0], [10.0, 11.0]]),
        hosts={"box1.cpu": "box1", "box2.gpu": "box2"},
        links={("box1", "box2"): 1.0},
        edges=(Edge("host:box1", "det", 0), Edge("det", "head", 2**20)),
    )
    placement = solve(instance, "optimal", time_limit_s=20.0)
    assert len(set(placement.assignment.values())) == 1
    assert placement.fps == pytest.approx(5.5)
    free = solve(instance.replace(links={("box1", "box2"): 1000.0}), "optimal", time_limit_s=20.0)
    assert free.fps == pytest.approx(10.0)


def test_climbing_ends_where_no_step_helps_and_keeps_memory() -> None:
    rng = np.random.default_rng(0)
    instance = Instance(
        tuple(f"m{i}" for i in range(5)),
        ("x", "y"),
        rng.uniform(5, 50, (5, 2)),
        memory_mib=np.full(5, 10.0),
        capacity_mib=np.array([30.0, 20.0]),
    )
    problem = Problem.of(instance)
    start = np.array([0, 0, 0, 1, 1])
    found = climb(problem, start, lambda rows: (-objective.cycle(problem, rows),), Budget.start(5.0))
    assert objective.breaches(problem, objective.shares_of(problem, found)) == []
    assert objective.cycle(problem, found) <= objective.cycle(problem, start)


def test_an_alternative_names_the_group_that_it_is_of() -> None:
    placement = solve(example(), "optimal", time_limit_s=20.0)
    worst = min(placement.groups, key=lambda one: one.fps / (one.target_fps or 1.0)).group
    moves = [text for text in placement.explanation.values() if "moved to" in text]
    assert moves
    assert all(f" {worst}, the worst-off group, would make " in text for text in moves)
    alone = solve(two().replace(groups={}, targets={}, priorities={}), "optimal", time_limit_s=20.0)
    assert any(" the group would make " in text for text in alone.explanation.values())


def test_where_the_worst_off_group_gets_nothing_no_alternative_is_told() -> None:
    """Group b takes all of the only device that runs group a; there is room for all nodes on both."""
    names = ("a/det", "b/one")
    instance = Instance(
        names, ("x", "y"), np.array([[9.0, 9.0], [5.0, 4.0]]), groups={n: n[0] for n in names},
        targets={"a": 9.0, "b": 100.0}, priorities={"b": 1}, pins={"a/det": frozenset({"x"})},
    )  # fmt: skip
    placement = solve(instance, "fastest")
    assert placement.group_fps["a"] == 0.0
    assert not any("no room" in text or "would make" in text for text in placement.explanation.values())


@pytest.mark.parametrize(("strategy", "gap"), [("optimal", 0.0), ("fastest", None)])
def test_an_answer_is_json_where_a_group_gets_nothing(strategy: str, gap: float | None) -> None:
    """Group a, the more important one, fills both devices; for b only `optimal` proves that nothing is left."""
    instance = Instance(
        ("a/one", "a/two", "b/eye"),
        ("x", "y"),
        np.array([[100.0, 1.0], [1.0, 100.0], [50.0, 50.0]]),
        groups={"a/one": "a", "a/two": "a", "b/eye": "b"},
        targets={"a": 1000.0, "b": 10.0},
        priorities={"a": 1},
    )
    placement = solve(instance, strategy, time_limit_s=20.0)
    assert placement.group_fps["b"] == 0.0
    assert json.loads(json.dumps(placement.to_dict(), allow_nan=False))["gap"] == gap
