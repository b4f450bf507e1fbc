"""Hosts' CPU cores as a second kind of resource: the same promises as without them, against all placements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import Instance, Problem
from hams_scheduler.solver.placement import Placement, assignment_rows
from hams_scheduler.solver.replan import TOLERANCE, replan
from hams_scheduler.solver.strategies import lp, prices
from hams_scheduler.solver.strategies.registry import names, solve
from property.test_strategies import make, solved
from support.examples import examples

WHOLE = tuple(name for name in names() if name != "replicated")


def hosted(
    seed: int, models: int, devices: int, *, memory: bool = False, kappa: bool = False, groups: int = 1
) -> Instance:
    """`make`'s instance on two hosts, whose cores limit about half of the placements."""
    rng = np.random.default_rng([seed, 7])
    instance = make(seed, models, devices, memory=memory)
    of = {m: f"g{i % groups}" for i, m in enumerate(instance.models)}
    alone_ms = 1e3 / np.where(instance.fps > 0, instance.fps, 1.0)
    return instance.replace(
        hosts={d: f"h{rng.integers(2)}" for d in instance.devices},
        cores={"h0": float(rng.choice([1, 2, 8])), "h1": float(rng.choice([1, 4]))},
        cpu_ms=alone_ms * rng.choice([0.1, 1.0, 2.0], (1, devices)) * rng.uniform(0.5, 1.5, (models, devices)),
        frame_cpu_ms={"g0": {"h0": float(rng.choice([0.0, 1.0, 300.0]))}},
        groups=of,
        targets={g: float(rng.uniform(0.5, 3)) for g in sorted(set(of.values()))} if groups > 1 else {},
        kappa=1.0 + np.sort(rng.uniform(0, 0.5, (devices, models)), axis=1) if kappa else None,
    )


instances = st.builds(
    hosted, st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3), memory=st.booleans(), kappa=st.booleans()
)


def best_cycle(problem: Problem) -> float:
    """The shortest cycle of all D^M placements; infinite when none is allowed."""
    every = itertools.product(range(problem.shape[1]), repeat=problem.shape[0])
    shares = (objective.shares_of(problem, np.array(rows)) for rows in every)
    return min(
        (objective.share_cycle(problem, s) for s in shares if not objective.breaches(problem, s)), default=np.inf
    )


def cores_used(instance: Instance, placement: Placement) -> dict[str, float]:
    """CPU seconds per second by host, recomputed from the names in the answer."""
    used = dict.fromkeys(instance.cores, 0.0)
    assert instance.cpu_ms is not None
    for i, model in enumerate(instance.models):
        rate = placement.group_fps[instance.group_of(model)] * instance.weights[i]
        for device, share in placement.shares[model].items():
            used[instance.hosts[device]] += share * rate * instance.cpu_ms[i, instance.devices.index(device)] / 1e3
    for group, costs in instance.frame_cpu_ms.items():
        for host, ms in costs.items():
            used[host] += placement.group_fps[group] * ms / 1e3
    return used


@examples(80)
@given(instances, st.sampled_from(names()))
def test_no_plan_needs_more_cores_than_its_hosts_have(instance: Instance, name: str) -> None:
    placement = solved(instance, name)
    for host, used in cores_used(instance, placement).items():
        usable = instance.cores[host] * instance.usable
        assert used <= usable * (1 + 1e-6)
        assert placement.cores[host] == pytest.approx(used / usable)
    assert max(*placement.busy.values(), *placement.cores.values()) == pytest.approx(1.0, rel=1e-6)
    by_host = placement.bottleneck.startswith("host ")
    assert by_host == (max(placement.cores.values()) > max(placement.busy.values()) * (1 + 1e-9))


@examples(150)
@given(instances)
def test_optimal_is_the_best_of_all_and_every_bound_holds(instance: Instance) -> None:
    solved(instance, "optimal")  # only instances that have a placement
    problem = Problem.of(instance)
    best = best_cycle(problem)
    for name in WHOLE:
        found = solve(instance, name)
        assert found.fps <= (1 + 1e-9) / best
        assert found.bound_fps >= (1 - 1e-9) / best, f"{name} claims a false bound"
        if name == "optimal":
            assert found.optimal
            assert found.fps == pytest.approx(1 / best)
    relaxed = lp.solve(problem, np.isfinite(problem.cost), 5.0)
    assert relaxed is not None
    assert relaxed.cycle <= best * (1 + 1e-7)
    assert prices.value(problem, relaxed.pi, relaxed.mu) <= best * (1 + 1e-7)
    shared = solve(instance, "replicated")
    assert shared.fps >= (1 - 1e-6) / best
    assert shared.bound_fps >= shared.fps * (1 - 1e-9)


@examples(15)
@given(st.integers(0, 10**6), st.integers(12, 15), st.booleans(), st.booleans())
@example(1646, 12, False, True)  # where MFS's moves and swaps end at a better placement than the search began with
def test_beyond_enumeration_bounds_and_searches_agree(seed: int, models: int, memory: bool, kappa: bool) -> None:
    instance = hosted(seed, models, 3, memory=memory, kappa=kappa)
    best = solved(instance, "optimal")
    for name in ("mfs", "hfs"):
        other = solve(instance, name)
        assert other.fps <= best.bound_fps * (1 + 1e-6)
        assert best.fps >= other.fps * (1 - 1e-9)
        assert other.bound_fps >= best.fps * (1 - 1e-9)


@examples(40)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 3), st.integers(2, 3))
def test_groups_share_the_cores_of_their_hosts(seed: int, models: int, devices: int, groups: int) -> None:
    instance = hosted(seed, models, devices, groups=min(groups, models))
    for name in ("hfs", "optimal"):
        placement = solve(instance, name)
        for host, used in cores_used(instance, placement).items():
            assert used <= instance.cores[host] * instance.usable * (1 + 1e-6)
        worst = min(placement.group_fps[g] / instance.target(g) for g in placement.group_fps)
        if len(placement.group_fps) > 1:
            assert worst <= (1 + 1e-9) / best_cycle(Problem.of(instance))


@examples(40)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 3))
def test_replanning_counts_the_cores(seed: int, models: int, devices: int) -> None:
    instance = hosted(seed, models, devices)
    problem = Problem.of(instance)
    reference = assignment_rows(instance, solve(instance, "optimal").shares)
    current = np.where(np.arange(models) % 2, reference, -1)
    rows = replan(problem, current, reference)
    assert not objective.breaches(problem, objective.shares_of(problem, rows))
    assert objective.cycle(problem, rows) <= objective.cycle(problem, reference) * TOLERANCE * (1 + 1e-9)


@examples(40)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3), st.sampled_from(names()))
def test_without_known_cores_or_costs_nothing_changes(seed: int, models: int, devices: int, name: str) -> None:
    """Also where cores abound: the placement may be another, but not its FPS, where it is the best."""
    instance = hosted(seed, models, devices)
    bare = instance.replace(cores={}, cpu_ms=None, frame_cpu_ms={}, hosts={})
    before = solve(bare, name).to_dict() | {"seconds": 0.0}
    for less in (instance.replace(cores={}), instance.replace(cpu_ms=None, frame_cpu_ms={})):
        assert solve(less, name).to_dict() | {"seconds": 0.0} == before
    many = solve(instance.replace(cores={"h0": 1e6, "h1": 1e6}), name)
    if name == "optimal":
        assert many.fps == pytest.approx(before["fps"])


def test_the_papers_objective_only_reports_the_cores() -> None:
    instance = hosted(3, 2, 3).replace(objective="paper")
    tight = instance.replace(cores={"h0": 0.01, "h1": 0.01})
    loose, found = solve(instance, "optimal"), solve(tight, "optimal")
    assert found.fps == loose.fps
    assert max(found.cores.values()) > 1
    assert not found.bottleneck.startswith("host ")


def test_a_lone_host_is_the_bottleneck_and_more_cores_help() -> None:
    """Two light models of 1 ms on a device, 5 ms of CPU each and 2 ms of the frame, on 2 cores."""
    instance = Instance(
        ("a", "b"),
        ("cpu",),
        np.full((2, 1), 1000.0),
        hosts={"cpu": "box1"},
        cores={"box1": 2},
        cpu_ms=np.full((2, 1), 5.0),
        frame_cpu_ms={"default": {"box1": 2.0}},
    )
    for name in names():
        placement = solve(instance, name)
        assert placement.bottleneck == "host box1's cores"
        assert placement.fps == pytest.approx(2 * 0.95 / 0.012)
        assert "whose host's cores are the bottleneck" in placement.explanation["a"]
    assert solve(instance.replace(cores={"box1": 8}), "hfs").fps == pytest.approx(500)
