"""Slow children with a budget: no frame waits for them, and tracks carry their answers on."""

from __future__ import annotations

import pytest

from hams_services.pipeline.later import LONGEST_S
from hams_shared.errors import GroupSpecError, InferenceError
from hams_shared.wire.frames import Output
from support.build import plan
from unit.services.pipeline.test_selection import World, spec_of, thing


def slow(**more: object) -> World:
    return World(spec_of({"track": {}}, {"age": {"budget": 0.2, "cadence": "track", **more}}))


def shown(world: World) -> list[object]:
    """By frame, from left to right: the object's answer, or why it has none."""
    ordered = [sorted(objects, key=lambda one: one["box"][0]) for _, objects in world.results]
    return [[one.get("age", one.get("skipped")) for one in objects] for objects in ordered]


def step(world: World, *things: dict[str, object]) -> None:
    world.submit()
    world.answer(world.core.ledger.submitted - 1, "det", [*things])


def test_frames_leave_at_once_and_later_ones_carry_the_answer() -> None:
    world = slow()
    step(world, thing(100))
    step(world, thing(101))
    assert shown(world) == [[{"age": "pending"}], [{"age": "pending"}]]
    assert world.asked("age") == [0]
    assert [one.later for one in world.sent] == [False, True, False]
    world.answer(0, "age")
    step(world, thing(102))
    assert shown(world)[2:] == [[{"value": 0, "from_frame": 0}]]
    assert world.asked("age") == [0]
    assert world.core.idle


def test_a_slow_detector_is_carried_on_as_others_are() -> None:
    world = slow()
    step(world, thing(100))
    world.answer(0, "age", [[thing(110)]])
    step(world, thing(101))
    assert shown(world)[1:] == [[{"objects": [thing(110)], "from_frame": 0}]]


def test_one_object_at_a_time_and_the_others_say_so() -> None:
    world = slow()
    step(world, thing(100, 0.92), thing(400, 0.97))
    assert shown(world) == [[{"age": "budget"}, {"age": "pending"}]]
    step(world, thing(101, 0.92), thing(401, 0.97))
    world.answer(0, "age")
    step(world, thing(102, 0.92), thing(402, 0.97))
    assert shown(world)[1:] == [
        [{"age": "budget"}, {"age": "pending"}],
        [{"age": "pending"}, {"value": 0, "from_frame": 0}],
    ]
    assert world.asked("age") == [0, 2]


def test_what_failed_is_asked_again_after_a_second() -> None:
    world = slow()
    step(world, thing(100))
    world.take(
        world.core.output(Output(world.sent[-1].id, "age", "h.b.age", [], error=InferenceError("no").to_wire()), 0)
    )
    for _ in range(11):
        step(world, thing(100))
    assert shown(world)[1] == [{"age": "failed"}]
    assert world.asked("age") == [0, 10]


def test_an_answer_that_does_not_come_is_given_up_and_a_late_one_is_ignored() -> None:
    world = slow()
    step(world, thing(100))
    world.now = LONGEST_S
    world.take(world.core.tick(world.now))
    step(world, thing(100))
    assert world.asked("age") == [0, 1]
    world.answer(0, "age")
    step(world, thing(100))
    world.answer(1, "age")
    step(world, thing(100))
    assert shown(world)[2:] == [[{"age": "pending"}], [{"value": 1, "from_frame": 1}]]


def test_another_device_is_asked_when_the_plan_lost_the_first() -> None:
    world = slow()
    step(world, thing(100))
    world.take(world.core.route(plan(2, {"det": "h.b.det", "age": "h.b.other"}, world.spec), ("h.b.age",), world.now))
    step(world, thing(100))
    assert [(one.id.frame, one.device) for one in world.sent if one.later] == [(0, "h.b.age"), (1, "h.b.other")]


def test_an_object_that_has_left_leaves_its_answer_behind() -> None:
    world = slow()
    step(world, thing(100))
    for _ in range(30):
        step(world)
    world.answer(0, "age")
    step(world, thing(400))
    assert world.asked("age") == [0, 31]


def test_a_frame_that_is_sent_again_asks_once() -> None:
    world = slow()
    world.submit(2)
    world.answer(1, "det", [thing(100)])
    world.route(2, ("h.b.det",))  # both are computed again
    world.answer(0, "det", [thing(100)])
    world.answer(1, "det", [thing(100)])
    assert world.asked("age") == [0]


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"budget": 0.2}, "needs a cadence, and a parent with track"),
        ({"budget": 1.5, "cadence": "track"}, "less than or equal to 1"),
        ({"budget": 0, "cadence": "track"}, "greater than 0"),
    ],
)
def test_a_budget_needs_tracks(node: dict[str, object], text: str) -> None:
    with pytest.raises(GroupSpecError, match=text):
        spec_of({"track": {}}, {"age": node})


def test_a_node_with_a_budget_has_no_children() -> None:
    with pytest.raises(GroupSpecError, match="lips would wait for it"):
        spec_of({"track": {}}, {"age": {"budget": 0.2, "cadence": "track"}, "lips": {"parent": "age"}})
