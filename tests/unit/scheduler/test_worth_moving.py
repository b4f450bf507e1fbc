"""Whether a change that nothing forces is worth it, where several groups are concerned."""

from __future__ import annotations

import numpy as np
import pytest

from hams_scheduler import plan_switching, planning
from hams_scheduler.events import DeviceSeen, GroupSeen, StorePlan
from hams_scheduler.solver import levels
from hams_scheduler.solver.instance import Instance
from hams_scheduler.variant_choice import PlanningSnapshot
from support.build import device, group_record, group_spec, only, profile
from support.scheduler_world import ONE, TWO, World

THREE = device("h.ov.gpu0", cores=(), kind="gpu")
PAIR = (device("h.ov.gpu0", kind="gpu"), device("h.ov.gpu1", kind="gpu"))


def three(**priorities: int) -> Instance:
    names = ("a/1", "b/1", "c/1")
    return Instance(names, ("x",), np.ones((3, 1)), groups={n: n[0] for n in names}, priorities=priorities)


@pytest.mark.parametrize(
    ("priorities", "before", "after", "gain"),
    [
        ({}, (0.1, 0.5, 0.5), (0.1, 0.5, 0.5), 1.0),
        ({}, (0.1, 0.5, 0.6), (0.1, 0.6, 1.0), 1.2),  # the worst-off group stays as it is
        ({}, (0.1, 0.5, 0.6), (0.104, 0.5, 1.2), 1 / 0.6),  # and it may differ by rounding
        ({}, (0.1, 0.5, 0.6), (0.096, 0.5, 1.2), 1 / 0.6),
        ({}, (0.1, 0.5, 0.6), (0.09, 5.0, 5.0), 0.9),  # it never pays for the others
        ({}, (2.0, 3.0, 4.0), (2.0, 3.0, 8.0), 2.0),  # all have what they need
        ({"b": 1}, (0.6, 0.6, 0.6), (0.3, 1.0, 0.3), 1 / 0.6),  # priority b gets its target
        ({"b": 1}, (0.3, 1.0, 0.3), (0.6, 0.6, 0.6), 0.6),
        ({"b": 1}, (0.3, 1.5, 0.3), (0.6, 1.0, 0.6), 2.0),  # and not more than that first
        ({}, (0.0, 1.0, 1.0), (0.0001, 1.0, 1.0), 1.0),  # so little counts as nothing
        ({}, (0.0, 1.0, 1.0), (0.5, 1.0, 1.0), 500.0),
    ],
)
def test_the_first_level_that_differs_counts(
    priorities: dict[str, int], before: tuple[float, ...], after: tuple[float, ...], gain: float
) -> None:
    found = levels.gain(three(**priorities), np.array(before), np.array(after), 1.05)
    assert found == pytest.approx(gain)
    assert levels.gain(three(**priorities), np.array(after), np.array(before), 1.05) == pytest.approx(1 / gain)


def with_a_new_device(strategy: str, **of_a: object) -> World:
    """Group a is pinned to ONE and the worst off; b and c share TWO until THREE joins, which runs only c."""
    world = World(ONE, TWO)
    world.fps = {(n, d): 0.0 for n in ("eye", "lip") for d in (ONE.device, THREE.device)}
    world.fps |= {("det", ONE.device): 5.0, ("det", TWO.device): 0.0, ("det", THREE.device): 0.0}
    world.fps |= {("eye", TWO.device): 40.0, ("lip", TWO.device): 40.0, ("lip", THREE.device): 400.0}
    world.do(GroupSeen("a", only("a", "det", ONE.device, target_fps=50.0, strategy=strategy, **of_a)))
    world.do(GroupSeen("b", only("b", "eye", target_fps=40.0, strategy=strategy)))
    world.do(GroupSeen("c", only("c", "lip", target_fps=40.0, strategy=strategy)))
    world.wait(2.0)
    assert world.shares("c") == {"lip": TWO.device}
    world.devices[THREE.device] = THREE
    world.incarnation[THREE.device] = "its first"
    world.do(DeviceSeen(THREE.device, THREE))
    world.wait(plan_switching.MIN_DWELL_S + 5.0)
    return world


@pytest.mark.parametrize("strategy", ["mfs", "hfs", "optimal", "fastest", "replicated"])
def test_a_new_device_helps_a_group_that_is_not_the_worst_off(strategy: str) -> None:
    world = with_a_new_device(strategy)
    assert world.shares("c") == {"lip": THREE.device}
    before = world.count(StorePlan)
    world.wait(plan_switching.DWELL_S)
    assert world.count(StorePlan) == before


def test_nothing_moves_for_what_is_beyond_all_targets() -> None:
    """All have their targets: a strategy that searches keeps what serves."""
    world = World(ONE, TWO)
    for record in (only("a", "det", ONE.device, target_fps=1.0), only("b", "eye", target_fps=1.0)):
        world.do(GroupSeen(record.spec.name, record))
    world.wait(2.0)
    before = world.count(StorePlan)
    world.devices[THREE.device] = THREE
    world.incarnation[THREE.device] = "its first"
    world.do(DeviceSeen(THREE.device, THREE))
    world.wait(plan_switching.MIN_DWELL_S + 5.0)
    assert world.count(StorePlan) == before


def test_which_groups_fit_is_not_searched_for_with_the_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One group that fits no memory costs the others two searches, not one for each of them."""
    world, searched = World(ONE, TWO), []
    records = [only(name, f"{name}{name}", strategy="optimal") for name in "abcdef"]
    for record in records:
        world.do(GroupSeen(record.spec.name, record))
    world.wait(2.0)
    digest = records[2].models["cc"].digest
    table = world.state.profiles.records
    table.update({k: r.model_copy(update={"memory_mib": 1e6}) for k, r in table.items() if r.digest == digest})
    snapshot = world.state.snapshot(records, "optimal")
    run = planning.run
    monkeypatch.setattr(
        planning, "run", lambda i, strategy, **more: searched.append(strategy) or run(i, strategy, **more)
    )
    found = planning.decide(snapshot, 0.0)
    assert (set(found.plans), set(found.failed)) == (set("abdef"), {"c"})
    assert searched.count("optimal") <= 2


def test_groups_that_do_not_fit_are_found_without_trying_each_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 groups one does not fit beside those before it: halving finds it."""
    on, searched = device("h.ov.gpu0", kind="gpu", memory_mib=605), []
    records = tuple(only(f"g{n:02}", f"n{n:02}").model_copy(update={"deployed_at": float(n)}) for n in range(60))
    measured = [profile(r, r.spec.root, on, 10.0, 300.0 if r is records[40] else 10.0) for r in records]
    snapshot = PlanningSnapshot(
        groups=records,
        devices=(on,),
        profiles={one.key: one for one in measured},
        unanswered={},
        refused={},
        strategy="fastest",
    )
    run = planning.run
    monkeypatch.setattr(
        planning, "run", lambda i, strategy, **more: searched.append(strategy) or run(i, strategy, **more)
    )
    found = planning.decide(snapshot, 0.0)
    assert found.failed.keys() == {"g40"}
    assert len(found.plans) == 59
    assert len(searched) <= 20


def test_a_group_that_others_leave_nothing_does_not_keep_all_from_their_plans() -> None:
    """The first group misses its target and fills both devices, so the second gets 0 FPS, proven."""
    first = group_record(group_spec("a", ("one", "two"), strategy="optimal", target_fps=1000.0, priority=1))
    second = only("b", "eye", strategy="optimal", target_fps=10.0)
    speeds = {"one": (100.0, 1.0), "two": (1.0, 100.0), "eye": (50.0, 50.0)}
    records = {"one": first, "two": first, "eye": second}
    found = [profile(records[n], n, d, fps) for n, row in speeds.items() for d, fps in zip(PAIR, row, strict=True)]
    snapshot = PlanningSnapshot(
        groups=(first, second),
        devices=PAIR,
        profiles={one.key: one for one in found},
        unanswered={},
        refused={},
        strategy="optimal",
        current={"a/one": {PAIR[0].device: 1.0}, "a/two": {PAIR[1].device: 1.0}, "b/eye": {PAIR[1].device: 1.0}},
    )
    solution = planning.decide(snapshot, 0.0)
    assert solution.plans.keys() == {"a", "b"}
    assert solution.plans["b"].fps == 0.0
    assert solution.moves == ()
