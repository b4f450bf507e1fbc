from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import Edge, Instance, Problem
from hams_scheduler.solver.strategies import groups
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
    placement = solve(two(), "optimal")
    assert placement.group_fps["a"] == pytest.approx(12.0)
    assert placement.group_fps["b"] == pytest.approx(1 / (1 / 20 + 1 / 25))
    assert placement.unmet == ()


def test_lower_priority_gives_way_and_is_named() -> None:
    placement = solve(two(priority_b=5, target=40.0), "optimal")
    other = solve(two(priority_b=-5, target=40.0), "optimal")
    assert placement.group_fps["b"] > other.group_fps["b"]
    assert other.group_fps["a"] > placement.group_fps["a"]
    assert "a" in placement.unmet


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("target", [1.0, 60.0])
def test_no_placement_is_better_in_order(seed: int, target: float) -> None:
    rng = np.random.default_rng(seed)
    names = tuple(f"{g}/{i}" for g in "abc" for i in range(2))
    instance = Instance(
        names,
        ("x", "y", "z"),
        rng.uniform(10, 90, (6, 3)),
        groups={name: name[0] for name in names},
        targets={"a": target, "b": target * 0.7, "c": target * 1.4},
        priorities={"a": 1},
    )
    problem = Problem.of(instance)
    every = (np.array(rows) for rows in itertools.product(range(3), repeat=6))
    best = max(groups.score(instance, problem, rows) for rows in every)
    answer = solve(instance, "optimal")
    rows = np.array([instance.devices.index(str(answer.assignment[name])) for name in names])
    found = groups.score(instance, problem, rows)
    if target == 1.0:
        assert min(found) == pytest.approx(min(best))
    assert found[0] >= best[0] * 0.9


def test_a_slow_link_keeps_parent_and_child_together() -> None:
    instance = Instance(
        ("det", "head"),
        ("box1.cpu", "box2.gpu"),
        np.array([[10.0, 11.0], [10.0, 11.0]]),
        hosts={"box1.cpu": "box1", "box2.gpu": "box2"},
        links={("box1", "box2"): 1.0},
        edges=(Edge("host:box1", "det", 0), Edge("det", "head", 2**20)),
    )
    placement = solve(instance, "optimal")
    assert len(set(placement.assignment.values())) == 1
    assert placement.fps == pytest.approx(5.5)
    free = solve(instance.replace(links={("box1", "box2"): 1000.0}), "optimal")
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
