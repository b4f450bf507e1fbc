"""Many moves and swaps at once give the cycles of the objective, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.scheduling.generate import generate
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.solver import objective
from hams_scheduler.solver.changes import Changes, cycles, fitting, off
from hams_scheduler.solver.instance import Instance, Problem
from hams_scheduler.solver.strategies.packing import feasible_start


def instance(models: int, devices: int, seed: int, *, cores: bool, slow: bool) -> Instance:
    """Generated; with `cores` the hosts' cores count, with `slow` devices slow down with each node."""
    found = generate(models, devices, seed, memory=("none", "loose", "tight")[seed % 3])
    rng = np.random.default_rng(seed)
    if slow:
        found = found.replace(kappa=1.0 + 0.05 * np.arange(models) * rng.random((devices, 1)))
    if cores:
        found = found.replace(
            hosts={name: name.split(".", 1)[0] for name in found.devices},
            cores={name.split(".", 1)[0]: 4.0 for name in found.devices},
            cpu_ms=rng.uniform(0.0, 40.0, (models, devices)),
        )
    return found


@given(
    models=st.integers(2, 12),
    devices=st.integers(1, 6),
    seed=st.integers(0, 200),
    cores=st.booleans(),
    slow=st.booleans(),
)
def test_cycles_are_those_of_the_objective(models: int, devices: int, seed: int, cores: bool, slow: bool) -> None:
    problem = Problem.of(instance(models, devices, seed, cores=cores, slow=slow))
    rows = feasible_start(problem)
    for full in range(devices):
        changes = off(problem, rows, full)
        found = cycles(problem, rows, changes)
        for index, cycle in enumerate(found):
            after = changes.made(rows, index)
            assert cycle == pytest.approx(objective.cycle(problem, after), rel=1e-12)
            assert not objective.breaches(problem, objective.shares_of(problem, after))


@given(st.integers(2, 12), st.integers(2, 5), st.integers(0, 200))
def test_what_fits_breaches_nothing_and_what_does_not_does(models: int, devices: int, seed: int) -> None:
    problem = Problem.of(generate(models, devices, seed, memory="tight"))
    rows = feasible_start(problem)
    nodes, to = np.divmod(np.arange(models * devices), devices)
    moves = Changes.moves(nodes, to)
    away = moves.only(rows[nodes] != to)
    for index, fits in enumerate(fitting(problem, rows, away)):
        after = away.made(rows, index)
        assert fits != bool(objective.breaches(problem, objective.shares_of(problem, after)))
