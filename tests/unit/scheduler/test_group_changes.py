"""A group that serves is deployed again: whether its plan goes on as it is, and what happens until the next one."""

from __future__ import annotations

from typing import Any

import pytest

from hams_scheduler.events import DeletePlan, GroupSeen, Solve, StorePlan, StoreProfile
from hams_scheduler.group_changes import placed_alike
from hams_scheduler.view import scheduler_view
from hams_shared.group.difference import difference
from hams_shared.group.spec import GroupSpec, parse_group
from support.build import group_record, group_spec, model_ref
from support.scheduler_world import deployed


def changed(**keys: Any) -> GroupSpec:
    """The group with other keys; those of nodes with ``__``."""
    data = group_spec(streams={"cam": {"source": "push"}}).model_dump(mode="json", exclude_unset=True)
    for key, value in keys.items():
        node, _, inner = key.partition("__")
        if inner:
            data["nodes"][node][inner] = value
        else:
            data[key] = value
    return parse_group(data)


BEFORE = group_record(changed())


@pytest.mark.parametrize(
    ("after", "goes_on"),
    [
        (changed(), True),
        (changed(age__when="score > 0.5"), True),  # who gives `age` its work changes, not where it is
        (changed(det__track={}, age__cadence="track"), True),
        (changed(det__task={"type": "raw", "outputs": ["a"]}), True),
        (changed(streams={"cam": {"source": "push"}, "two": {"source": "push"}}), True),
        (changed(streams={"cam": {"source": "push", "paused": True}}), True),
        (changed(deadline_s=3.0, results="json"), True),
        (changed(priority=1), False),
        (changed(target_fps=5.0), False),
        (changed(age__pin=["h.b.one"]), False),
        (changed(age__min_agreement=0.5), False),
        (changed(age__input={"size": [48, 48]}), False),
        (group_spec(nodes=("det", "age", "more"), streams={"cam": {"source": "push"}}), False),
        (group_spec(nodes=("det",), streams={"cam": {"source": "push"}}), False),
    ],
)
def test_a_placement_goes_on_where_nodes_and_networks_stay(after: GroupSpec, *, goes_on: bool) -> None:
    record = group_record(after)
    assert placed_alike(BEFORE, record, difference(BEFORE, record)) is goes_on


def test_another_network_is_placed_anew() -> None:
    record = BEFORE.model_copy(update={"models": {**BEFORE.models, "age": model_ref("other")}})
    assert not placed_alike(BEFORE, record, difference(BEFORE, record))


def test_views_show_no_secrets_in_addresses_of_streams_and_networks() -> None:
    cam = {"cam": {"source": "rtsp://u:geheim@cam/1"}}
    spec = changed(streams=cam, det__model="https://host/x.onnx?token=geheim", det__sha256="a" * 64)
    world = deployed(det_one=10, age_one=100)
    world.do(GroupSeen("face", group_record(spec, 2.0)))
    world.wait(2.0)
    [group] = scheduler_view(world.state, world.now).groups
    shown = group.model_dump_json()
    assert "https://host/x.onnx?token=***" in shown
    assert "geheim" not in shown


def test_a_threshold_is_the_same_plan_with_the_next_epoch_at_once() -> None:
    world = deployed(det_one=10, det_two=2, age_one=100, age_two=100)
    epoch, shares, measured = world.epoch(), world.shares(), world.count(StoreProfile)
    record = group_record(changed(det__task={"type": "raw", "outputs": ["a"]}), 2.0)
    world.do(GroupSeen("face", record))
    stored = [one for one in world.log if isinstance(one, StorePlan)][-1].record
    newest = stored.next or stored.active
    assert newest is not None
    assert (newest.epoch, newest.group) == (epoch + 1, record)
    world.wait(1.0)
    assert (world.epoch(), world.shares()) == (epoch + 1, shares)
    assert world.count(StoreProfile) == measured
    assert not world.count(DeletePlan)


def test_the_plan_before_serves_while_another_network_is_measured_and_if_it_has_no_place() -> None:
    world = deployed()
    epoch = world.epoch()
    world.do(GroupSeen("face", group_record(changed(age__pin=["nowhere"]), 2.0)))
    world.wait(3.0)
    view = scheduler_view(world.state, world.now).groups[0]
    assert view.error is not None
    assert view.active is not None
    assert view.active.epoch == epoch
    assert not world.count(DeletePlan)
    solved = world.count(Solve)
    world.do(GroupSeen("face", group_record(changed(), 3.0)))
    world.wait(1.0)
    view = scheduler_view(world.state, world.now).groups[0]
    assert view.error is None
    assert view.active is not None
    assert view.active.group.deployed_at == 3.0
    assert world.count(Solve) >= solved
