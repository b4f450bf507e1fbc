"""Slow nodes never limit their group: plans count at most their budget of a device."""

from __future__ import annotations

from typing import Any

import pytest

from hams_scheduler.expected_work import expected_work, most_s
from hams_scheduler.learning import MESSAGE_S, Learned
from hams_scheduler.planning_instance import build_instance
from hams_scheduler.solver.instance import Instance
from hams_scheduler.variant_choice import PlanningSnapshot
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.agents import NodeLoad
from support.build import device, group_record, heartbeat, plan, profile
from unit.scheduler.test_expected_work import group

SLOW = {"cadence": "track", "budget": 0.25}


def spec_of(age: dict[str, Any], **more: Any) -> GroupSpec:
    spec = group(**more).model_dump(mode="json", exclude_unset=True)
    del spec["nodes"]["text"]
    spec["nodes"]["age"] |= age
    return GroupSpec.model_validate(spec)


def test_a_budget_is_a_part_of_the_time_of_a_frame() -> None:
    assert most_s(spec_of({}), "age") == float("inf")
    assert most_s(spec_of(SLOW), "age") == pytest.approx(0.25 / 25)
    assert most_s(spec_of(SLOW, streams=({"fps": 10}, {"fps": 5})), "age") == pytest.approx(0.25 / 15)
    assert most_s(spec_of(SLOW).model_copy(update={"target_fps": 5.0}), "age") == pytest.approx(0.05)
    assert most_s(spec_of(SLOW, streams=()), "age") == pytest.approx(0.01)


def test_it_is_explained() -> None:
    assert "in at most 25% of a device's time, beside other nodes" in expected_work(spec_of(SLOW), "age").saved


def instance(age: dict[str, Any], fps: float) -> Instance:
    """A detector of 50 frames/s and its child on one device; a stream of 25 frames/s."""
    record, one = group_record(spec_of(age)), device("h.b.u")
    profiles = [profile(record, "det", one, 50.0), profile(record, "age", one, fps)]
    return build_instance(PlanningSnapshot((record,), (one,), {p.key: p for p in profiles}, {}, {}, "hfs"))


@pytest.mark.parametrize(
    ("age", "fps", "seconds"),
    [
        ({"cadence": "track"}, 0.5, 0.1 / 0.5),  # without a budget it would limit the group to 4.5 frames/s
        (SLOW, 0.5, 0.25 / 25),
        (SLOW, 0.01, 0.25 / 25),
        (SLOW, 100.0, 0.1 / 100.0),  # it does not need its budget
    ],
)
def test_a_plan_counts_at_most_the_budget(age: dict[str, Any], fps: float, seconds: float) -> None:
    found = instance(age, fps)
    cost = found.weights / found.fps[:, 0]
    assert cost.tolist() == pytest.approx([1 / 50, seconds], rel=0.02)


@pytest.mark.parametrize(("at", "learned_there"), [("h.b.one", False), ("h.b.two", True)])
def test_what_a_slow_node_computes_is_not_taken_for_the_cost_of_messages(at: str, learned_there: bool) -> None:
    learned, of = Learned(), plan(1, {"det": "h.b.one", "age": at}, spec_of(SLOW))
    for seconds, frames, cpu_s in ((0, 0, 0.0), (10, 1000, 9.0)):
        load = NodeLoad(group="g", node="det", frames=frames, inferences=frames, batches=frames, busy_s=seconds / 2)
        beat = heartbeat("h.b.one", ("g", 1)).model_copy(
            update={"nodes": (load,), "uptime_s": float(seconds), "cpu_s": cpu_s}
        )
        learned.observe(beat, {"g": of}, lambda *_: 100.0, lambda *_: 0.005)
    assert (learned.message_s("h.b.one") != MESSAGE_S) == learned_there
