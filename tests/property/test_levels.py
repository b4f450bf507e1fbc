"""Several groups, and placements that survive a loss, against all placements of small instances."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hams_scheduler.solver import levels, objective
from hams_scheduler.solver.instance import FloatArray, Instance, IntArray, NoPlacementError, Problem
from hams_scheduler.solver.placement import Placement
from hams_scheduler.solver.strategies.registry import names, solve
from hams_scheduler.solver.survive import survive
from support.examples import examples


def make(seed: int, nodes: int, devices: int, groups: int, target: float, *, memory: bool, cores: bool) -> Instance:
    rng = np.random.default_rng([seed, nodes, devices])
    fps = rng.uniform(10, 90, (nodes, devices))
    fps[rng.random((nodes, devices)) < 0.15] = 0
    fps[~(fps > 0).any(axis=1), 0] = 20
    models = tuple(f"{'abc'[i % groups]}/{i}" for i in range(nodes))
    places = tuple("xyz"[:devices])
    need = rng.uniform(10, 60, nodes)
    capacity = rng.uniform(0.8, 1.7, devices) * need.sum() / devices * 1.3 if memory else np.full(devices, np.inf)
    used = sorted({model[0] for model in models})
    return Instance(
        models,
        places,
        fps,
        memory_mib=need,
        capacity_mib=capacity,
        groups={model: model[0] for model in models},
        targets={name: target * factor for name, factor in zip("abc", (1.0, 0.7, 1.4), strict=True) if name in used},
        priorities={"a": int(rng.integers(0, 2))},
        hosts=dict.fromkeys(places, "box") if cores else {},
        cores={"box": 2.0} if cores else {},
        cpu_ms=rng.uniform(0.5, 8, fps.shape) if cores else None,
        frame_cpu_ms={"a": {"box": 3.0}} if cores else {},
    )


def built(least_groups: int, most_nodes: int) -> st.SearchStrategy[Instance]:
    return st.builds(
        make,
        st.integers(0, 10**6),
        st.integers(3, most_nodes),
        st.integers(2, 3),
        st.integers(least_groups, 3),
        st.sampled_from([1.0, 20.0, 60.0]),
        memory=st.booleans(),
        cores=st.booleans(),
    )


def placements(problem: Problem) -> Iterator[IntArray]:
    """All placements of whole nodes that keep support and memory."""
    for rows in itertools.product(range(problem.shape[1]), repeat=problem.shape[0]):
        if not objective.breaches(problem, objective.shares_of(problem, np.array(rows))):
            yield np.array(rows)


def ratios(instance: Instance, rows: IntArray) -> FloatArray:
    problem = Problem.of(instance)
    return levels.ratios(instance, problem, objective.shares_of(problem, rows))


def shares(instance: Instance, placement: Placement) -> FloatArray:
    return np.array([[placement.shares[m].get(d, 0.0) for d in instance.devices] for m in instance.models])


def scored(instance: Instance, placement: Placement) -> tuple[float, ...]:
    return levels.score(instance, Problem.of(instance), shares(instance, placement))


def solved(instance: Instance, name: str) -> Placement:
    try:
        return solve(instance, name, time_limit_s=30.0, bounds=True)
    except NoPlacementError:
        assume(False)
        raise


@examples(40)
@given(built(2, 5))
def test_optimal_is_the_best_of_all_placements_level_by_level(instance: Instance) -> None:
    found = solved(instance, "optimal")
    problem = Problem.of(instance)
    best = max(levels.score(instance, problem, objective.shares_of(problem, rows)) for rows in placements(problem))
    assert scored(instance, found) == pytest.approx(best, rel=1e-5, abs=1e-7)
    assert found.optimal
    assert all(one.proven for one in found.groups)


@examples(40)
@given(built(2, 5), st.sampled_from([name for name in names() if name != "replicated"]))
def test_no_placement_is_above_a_bound_whose_levels_before_are_no_lower(instance: Instance, name: str) -> None:
    found = solved(instance, name)
    number = {group: index for index, group in enumerate(instance.group_names)}
    mine = np.array([found.group_fps[group] / instance.target(group) for group in number])
    bound = {one.group: one.bound_fps / instance.target(one.group) for one in found.groups}
    stages = levels.stages(instance)
    every = [ratios(instance, rows) for rows in placements(Problem.of(instance))]
    for group, (stage, rank) in levels.order(instance, mine):
        before = [(s, r) for s in range(stage) for r in range(1, len(stages[s].groups) + 1)]
        before += [(stage, r) for r in range(1, rank)]
        most = bound[instance.group_names[group]]
        for other in every:
            if all(stages[s].values(other)[r - 1] >= stages[s].values(mine)[r - 1] - 1e-9 for s, r in before):
                assert stages[stage].values(other)[rank - 1] <= most * (1 + 1e-5) + 1e-6


@examples(12)
@given(built(2, 5))
def test_shares_are_no_worse_than_whole_nodes_at_the_first_level_that_differs(instance: Instance) -> None:
    whole, shared = scored(instance, solved(instance, "optimal")), scored(instance, solved(instance, "replicated"))
    first = next((s - w for s, w in zip(shared, whole, strict=True) if abs(s - w) > 0.03 * max(s, w)), 0.0)
    assert first >= 0


def fallbacks_of(instance: Instance, rows: IntArray, reserve: bool) -> Iterator[IntArray]:
    """All fallbacks of a placement that keep support and memory."""
    problem = Problem.of(instance)
    index = np.arange(len(rows))
    for other in itertools.product(range(problem.shape[1]), repeat=len(rows)):
        to = np.array(other)
        if (to == rows).any() or not np.isfinite(problem.cost[index, to]).all():
            continue
        held = np.bincount(rows, problem.memory[index, rows], problem.shape[1])
        lost = [np.ones(len(rows), dtype=bool)] if reserve else [rows == device for device in range(problem.shape[1])]
        more = [np.bincount(to[one], problem.memory[index[one], to[one]], problem.shape[1]) for one in lost]
        if all((held + one <= problem.capacity + 1e-6)[one > 0].all() for one in more):
            yield to


def kept(instance: Instance, rows: IntArray, to: IntArray) -> float:
    """The smallest part of a target that is left after the worst loss."""
    left = [ratios(instance, np.where(rows == device, to, rows)) for device in range(len(instance.devices))]
    return float(min(one.min() for one in left))


@examples(25)
@given(built(1, 4), st.sampled_from([0.2, 0.5, 0.9]), st.booleans())
def test_what_survives_is_the_best_of_all_that_do(instance: Instance, keep: float, reserve: bool) -> None:
    try:
        every = list(placements(Problem.of(instance)))
    except NoPlacementError:
        assume(False)
        raise
    targets = {name: instance.targets[name] / 4 for name in instance.targets}
    instance = instance.replace(targets=targets, priorities={})
    if len(instance.group_names) == 1:
        instance = instance.replace(targets={})  # its reference is then the ordinary plan
    assume(every)
    reference = solved(instance, "optimal").fps if not instance.targets else 1.0
    best, most = None, 0.0
    problem = Problem.of(instance)
    for rows in every:
        least = max((kept(instance, rows, to) for to in fallbacks_of(instance, rows, reserve)), default=0.0) / reference
        most = max(most, least)
        if least >= keep:
            score = levels.score(instance, problem, objective.shares_of(problem, rows))
            best = score if best is None else max(best, score)
    try:
        found = survive(instance, keep=keep, reserve=reserve, time_limit_s=30.0)
    except NoPlacementError as error:
        assert best is None or most < keep * (1 + 1e-5)
        assert f"best keeps {most:.1%}" in error.text or most == pytest.approx(keep, rel=1e-4)
        return
    assert best is not None
    assert found.kept >= keep * (1 - 1e-6)
    assert found.bound_kept >= most * (1 - 1e-5)
    assert scored(instance, found.placement) == pytest.approx(best, rel=1e-5)
