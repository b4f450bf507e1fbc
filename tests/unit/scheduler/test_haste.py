"""On a large site, what serves is changed when groups stand still, and solved from scratch when there is time."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.scheduling.live import World

from hams_scheduler.planning import LARGE, POOR, decide
from hams_scheduler.planning_instance import build_instance
from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import Problem
from hams_scheduler.solver.placement import assignment_rows
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.time_budget import Budget
from hams_shared.wire.messages.plan import Plan


def shares(plans: dict[str, Plan]) -> dict[str, dict[str, float]]:
    return {f"{g}/{n}": places for g, plan in plans.items() for n, places in plan.shares.items()}


def test_a_lost_device_moves_few_nodes_in_haste_and_the_placement_is_not_poor() -> None:
    world = World(500, 20)
    state = world.state
    lost = max(state.plans.by_device, key=lambda name: len(state.plans.by_device[name]))
    whole = state.snapshot(state.groups.sorted(), "hfs")
    gone = {node for node, places in whole.current.items() if lost in places}
    without = {node: {} if node in gone else places for node, places in whole.current.items()}
    large = replace(whole, current=without, hasty=True)  # 10,000 pairs
    assert len(large.current) * len(large.devices) >= LARGE
    hasty = decide(large, 0.0)
    assert hasty.hasty
    found = shares(dict(hasty.plans))
    moved = {node for node, places in without.items() if places and found[node] != places}
    assert len(moved) <= 2 * len(whole.devices)

    problem = Problem.of(build_instance(large))
    rows = assignment_rows(build_instance(large), found)
    bound = sweep(problem, Budget.start(60.0), 60).bound
    assert objective.cycle(problem, rows) <= POOR * bound * (1 + 1e-9)
    assert objective.breaches(problem, objective.shares_of(problem, rows)) == []
    assert not decide(replace(large, hasty=False), 0.0).hasty
