"""What must hold of every strategy on every instance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import Instance, NoPlacementError, Problem
from hams_scheduler.solver.placement import Placement
from hams_scheduler.solver.strategies import cpsat
from hams_scheduler.solver.strategies.registry import names, solve
from support.examples import examples

SMALL = examples(60)
HEURISTICS = tuple(n for n in names() if n not in ("optimal", "replicated"))
SLOPPY = ("default", "round-robin", "fastest")


def make(
    seed: int, models: int, devices: int, *, memory: bool = False, twins: bool = False, pins: bool = False
) -> Instance:
    rng = np.random.default_rng([seed, models, devices])
    fps = rng.lognormal(2.5, 0.9, (models, 1)) * rng.uniform(0.3, 3, devices) * rng.lognormal(0, 0.4, (models, devices))
    fps[rng.random((models, devices)) < 0.2] = 0.0
    dead = ~(fps > 0).any(axis=1)
    fps[dead, 0] = 5.0
    if twins and devices > 1:
        fps[:, 1] = fps[:, 0]
    names_ = tuple(f"m{i}" for i in range(models))
    places = tuple(f"d{i}" for i in range(devices))
    need = rng.uniform(10, 60, models)
    capacity = rng.uniform(0.5, 1.3, devices) * need.sum() / devices * 1.3 if memory else np.full(devices, np.inf)
    pinned = {names_[0]: frozenset({places[int(fps[0].argmax())]})} if pins else {}
    weights = rng.uniform(0.2, 4, models)
    return Instance(names_, places, fps, weights, need, capacity, pinned)


instances = st.builds(
    make,
    st.integers(0, 10_000),
    st.integers(1, 7),
    st.integers(1, 4),
    memory=st.booleans(),
    twins=st.booleans(),
    pins=st.booleans(),
)


def solved(instance: Instance, name: str) -> Placement:
    try:
        return solve(instance, name, time_limit_s=10.0)
    except NoPlacementError:
        assume(False)
        raise


def brute_force(instance: Instance) -> float | None:
    """The best FPS of all D^M assignments; None when none is allowed."""
    try:
        problem = Problem.of(instance)
    except NoPlacementError:
        return None
    best = None
    for rows in itertools.product(range(problem.shape[1]), repeat=problem.shape[0]):
        shares = objective.shares_of(problem, np.array(rows))
        if not objective.breaches(problem, shares):
            fps = 1 / objective.share_cycle(problem, shares)
            best = fps if best is None else max(best, fps)
    return best


def fps_of(instance: Instance, placement: Placement) -> float:
    """Group FPS recomputed from the names in the answer and the matrix alone."""
    busy = dict.fromkeys(instance.devices, 0.0)
    for i, model in enumerate(instance.models):
        for device, share in placement.shares[model].items():
            busy[device] += share * instance.weights[i] / instance.fps[i, instance.devices.index(device)]
    return 1 / max(busy.values())


@SMALL
@given(instances, st.sampled_from(names()))
def test_no_plan_breaks_memory_support_or_pins_and_its_fps_is_true(instance: Instance, name: str) -> None:
    placement = solved(instance, name)
    for i, model in enumerate(instance.models):
        places = placement.shares[model]
        assert sum(places.values()) == pytest.approx(1.0)
        assert all(instance.fps[i, instance.devices.index(d)] > 0 for d in places)
        assert set(places) <= set(instance.pins.get(model, instance.devices))
    for j, device in enumerate(instance.devices):
        held = sum(instance.memory_mib[i] for i, m in enumerate(instance.models) if device in placement.shares[m])
        assert held <= instance.capacity_mib[j] + 1e-5
    assert placement.fps == pytest.approx(fps_of(instance, placement), rel=1e-6)
    assert placement.bound_fps >= placement.fps * (1 - 1e-9)
    assert max(placement.busy.values()) == pytest.approx(1.0, rel=1e-6)


@examples(150)
@given(
    st.builds(
        make, st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3), memory=st.booleans(), twins=st.booleans()
    )
)
def test_optimal_is_the_best_of_all_assignments(instance: Instance) -> None:
    best = brute_force(instance)
    if best is None:
        with pytest.raises(NoPlacementError):
            solve(instance, "optimal")
        return
    placement = solve(instance, "optimal")
    assert placement.optimal
    assert placement.fps == pytest.approx(best)
    for name in HEURISTICS:
        other = solve(instance, name)
        assert other.fps <= best * (1 + 1e-9)
        assert other.bound_fps >= best * (1 - 1e-9), f"{name} claims a false bound"


@examples(20)
@given(st.builds(make, st.integers(0, 10_000), st.integers(12, 16), st.integers(2, 4), memory=st.booleans()))
def test_beyond_the_exact_size_bounds_and_searches_agree(instance: Instance) -> None:
    """`optimal` by HiGHS is no worse than any heuristic, and no heuristic's FPS exceeds its bound."""
    placement = solved(instance, "optimal")
    for name in ("mfs", "hfs"):
        other = solve(instance, name)
        assert other.fps <= placement.bound_fps * (1 + 1e-6)
        assert placement.fps >= other.fps * (1 - 1e-9)
        assert other.bound_fps >= placement.fps * (1 - 1e-9)


@pytest.mark.parametrize("memory", [False, True])
def test_highs_and_cp_sat_agree(memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ortools", reason="OR-tools is optional and not installed here")
    for seed in range(20):
        try:
            instance = make(seed, 14, 4, memory=memory, twins=seed % 2 == 0)
            by_cp_sat = solve(instance, "optimal", time_limit_s=10)
        except NoPlacementError:
            continue
        with monkeypatch.context() as without:
            without.setattr(cpsat, "available", lambda: False)
            by_highs = solve(instance, "optimal", time_limit_s=10)
        assert by_cp_sat.optimal
        assert by_highs.optimal
        assert by_cp_sat.fps == pytest.approx(by_highs.fps, rel=1e-5)


@SMALL
@given(instances)
def test_shared_nodes_are_never_slower_than_whole_ones(instance: Instance) -> None:
    whole, shared = solved(instance, "optimal"), solved(instance, "replicated")
    assert shared.fps >= whole.fps * (1 - 1e-9)
    assert min(s for places in shared.shares.values() for s in places.values()) >= 0.05 - 1e-9


@SMALL
@given(instances)
def test_good_strategies_are_never_worse_than_the_best_single_device(instance: Instance) -> None:
    solved(instance, "optimal")  # only instances that have a placement
    problem = Problem.of(instance)
    single = 0.0
    for j in range(problem.shape[1]):
        shares = objective.shares_of(problem, np.full(problem.shape[0], j))
        if not objective.breaches(problem, shares):
            single = max(single, 1 / objective.share_cycle(problem, shares))
    for name in names():
        if name not in SLOPPY:
            assert solved(instance, name).fps >= single * (1 - 1e-9), name


@SMALL
@given(instances, st.randoms(use_true_random=False))
def test_names_and_order_change_nothing(instance: Instance, random: object) -> None:
    rng = np.random.default_rng(random.randrange(2**31))  # type: ignore[attr-defined]
    rows, columns = rng.permutation(len(instance.models)), rng.permutation(len(instance.devices))
    turned = instance.replace(
        models=tuple(instance.models[i] for i in rows),
        devices=tuple(instance.devices[j] for j in columns),
        fps=instance.fps[np.ix_(rows, columns)],
        weights=instance.weights[rows],
        memory_mib=instance.memory_mib[rows],
        capacity_mib=instance.capacity_mib[columns],
    )
    assert solved(turned, "optimal").fps == pytest.approx(solved(instance, "optimal").fps)


@SMALL
@given(instances, st.floats(0.01, 100), st.sampled_from(["mfs", "hfs", "optimal", "replicated"]))
def test_faster_devices_scale_the_result(instance: Instance, factor: float, name: str) -> None:
    scaled = instance.replace(fps=instance.fps * factor)
    before, after = solved(instance, name), solved(scaled, name)
    assert after.fps == pytest.approx(before.fps * factor, rel=0.04 if name == "replicated" else 1e-6)


@SMALL
@given(instances)
def test_another_device_never_hurts_the_optimum(instance: Instance) -> None:
    fewer = solved(instance, "optimal")
    more = instance.replace(
        devices=(*instance.devices, "new"),
        fps=np.column_stack([instance.fps, instance.fps[:, 0] * 0.5]),
        capacity_mib=np.append(instance.capacity_mib, 100.0),
    )
    assert solved(more, "optimal").fps >= fewer.fps * (1 - 1e-9)


@SMALL
@given(instances, st.sampled_from(names()))
def test_the_same_question_gets_the_same_answer(instance: Instance, name: str) -> None:
    assert solved(instance, name).shares == solved(instance, name).shares


def test_solvers_write_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for memory in (False, True):
        instance = make(1, 20, 4, memory=memory)
        for name in names():
            solve(instance, name, time_limit_s=0.5)
    assert capfd.readouterr() == ("", "")


def test_the_time_limit_is_kept() -> None:
    """Generously: what a search may overrun is one step of it."""
    placement = solve(make(2, 300, 30), "optimal", time_limit_s=0.3)
    assert placement.seconds < 30
    assert placement.bound_fps >= placement.fps


def test_the_papers_objective_gives_each_model_a_device_of_its_own() -> None:
    instance = make(3, 3, 4).replace(objective="paper", pins={})
    for name in ("mfs", "hfs", "optimal"):
        placement = solve(instance, name)
        devices = [d for places in placement.shares.values() for d in places]
        assert len(set(devices)) == 3
    assert solve(instance, "optimal").fps >= solve(instance, "mfs").fps
    with pytest.raises(NoPlacementError, match="device of its own"):
        solve(make(3, 5, 4).replace(objective="paper", pins={}), "optimal")
