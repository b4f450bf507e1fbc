"""What was learned of a group holds no longer where it was changed, and all the rest goes on."""

from __future__ import annotations

from typing import Any

import pytest

from hams_scheduler.events import GroupSeen, ProfileSeen
from hams_scheduler.ratio import Ratio
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire.messages.group import GroupRecord
from support.build import group_record, group_spec, model_ref
from support.scheduler_world import ONE, TWO, World


def changed(streams: dict[str, Any] | None = None, **keys: Any) -> GroupSpec:
    """The group with two streams; keys of nodes with ``__``."""
    known: dict[str, Any] = {"cam": {"source": "push"}, "two": {"source": "push"}}
    data = group_spec(streams=known if streams is None else streams).model_dump(mode="json", exclude_unset=True)
    for key, value in keys.items():
        node, _, inner = key.partition("__")
        data["nodes"][node][inner] = value
    return parse_group(data)


def learned(world: World, group: str = "face") -> dict[tuple[str, str], float]:
    """What is known: seconds per frame of streams, inferences per piece of work of nodes."""
    known = world.state.learned
    found = {("read", stream): one.value(0, 0) for (of, stream), one in known.reading.items() if of == group}
    return found | {("runs", node): one.value(0, 0) for (of, node), one in known.runs.items() if of == group}


ALL = {("read", "cam"): 0.005, ("read", "two"): 0.005, ("runs", "det"): 1.0, ("runs", "age"): 8.0}


def taught(record: GroupRecord) -> World:
    """A world that serves, and has learned ALL."""
    world = World(ONE, TWO)
    world.do(GroupSeen("face", record))
    world.wait(2.0)
    for (kind, name), value in ALL.items():
        table = world.state.learned.reading if kind == "read" else world.state.learned.runs
        table["face", name] = Ratio(1000.0, value * 500.0, 500.0)
    return world


@pytest.mark.parametrize(
    ("after", "gone"),
    [
        (changed(), set()),
        (changed({"cam": {"source": "x.mp4"}, "two": {"source": "push"}}), {("read", "cam")}),
        (changed({"cam": {"source": "push"}}), {("read", "two")}),
        (changed({"cam": {"source": "push", "paused": True}, "two": {"source": "push"}}), set()),
        (changed(age__weight=3.0), {("runs", "age")}),
        (changed(det__track={}), set()),
        (
            changed({n: {"source": "push", "tiles": {"grid": [2, 2]}} for n in ("cam", "two")}),
            {("runs", "det")},
        ),
    ],
)
def test_what_changed_is_learned_anew(after: GroupSpec, gone: set[tuple[str, str]]) -> None:
    world = taught(group_record(changed()))
    world.do(GroupSeen("face", group_record(after, deployed_at=2.0)))
    world.wait(2.0)
    active = world.state.plans.active("face")
    if not any(stream.source != "push" for stream in after.streams.values()):  # a file is measured first
        assert active is not None
        assert active.group.deployed_at == 2.0
    assert learned(world) == {key: pytest.approx(value) for key, value in ALL.items() if key not in gone}


def test_another_network_changes_what_the_nodes_below_it_get() -> None:
    record = group_record(changed())
    world = taught(record)
    other = record.model_copy(update={"models": {**record.models, "det": model_ref("other")}, "deployed_at": 2.0})
    world.fps = {}
    world.do(GroupSeen("face", other))
    world.wait(3.0)
    assert learned(world).keys() == ALL.keys() - {("runs", "age")}


def test_a_group_that_is_undeployed_leaves_nothing() -> None:
    world = taught(group_record(changed()))
    world.state.learned.runs["other", "det"] = Ratio(1000.0, 1.0, 1.0)
    world.do(GroupSeen("face", None))
    assert learned(world) == {}
    assert learned(world, "other") == {("runs", "det"): 1.0}


@pytest.mark.parametrize(("eta", "faster", "kappa"), [(1.2, 1.2, 1.0), (1.2, 1.01, 1 / 1.2), (0.8, 1.2, 1 / 0.8)])
def test_what_serving_showed_beyond_a_number_is_not_counted_twice(eta: float, faster: float, kappa: float) -> None:
    """A network that is measured again is as fast as serving showed: that must not make it faster once more."""
    world = taught(group_record(changed()))
    [device] = {places for node, places in world.shares().items() if node == "det"}
    for key in (device, (device, 2)):
        table: Any = world.state.learned.device_eta if isinstance(key, str) else world.state.learned.eta
        table[key] = Ratio(1e9, eta * 1e6, 1e6)
    revision = world.state.learned.revision
    fingerprint = world.devices[device].fingerprint
    known = next(r for r in world.state.profiles.records.values() if r.fingerprint == fingerprint)
    world.do(ProfileSeen(known.model_copy(update={"fps": known.fps * faster})))
    assert world.state.learned.kappa(device, 2) == pytest.approx(kappa, rel=1e-3)
    assert (world.state.learned.revision > revision) is (kappa == 1.0)
