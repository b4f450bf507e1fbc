"""A group that has no place any more serves on by its old plan, whose memory nobody else gets."""

from __future__ import annotations

import pytest

from hams_scheduler.events import DeviceSeen, GroupSeen, Profile, ProfileDone, ProfileSeen
from hams_scheduler.left_out import memory_mib
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.group import GroupRecord
from support.build import device, group_record, group_spec, only, profile
from support.scheduler_world import World

CPU = device("h.ov.cpu0", cores=(0,), memory_mib=2000)
GPU = device("h.ov.gpu0", cores=(), kind="gpu", memory_mib=4000)
NPU = device("h.ov.npu0", cores=(), kind="npu", memory_mib=100)


class MemoryWorld(World):
    """Networks have sizes; the GPU is the fastest. Benchmarks of networks in `slow` do not end."""

    def __init__(self, *devices: DeviceRecord, **mib: float) -> None:
        self.mib = mib
        self.slow: set[str] = set()
        super().__init__(*devices)

    def _profile(self, command: Profile) -> None:
        if command.cell.model in self.slow:
            return
        group = next(g for g in self.groups() if command.model in g.models.values())
        node = next(n for n, m in group.models.items() if m == command.model)
        fps = self.fps.get((node, command.device), 100.0 if command.device == GPU.device else 10.0)
        found = profile(group, node, self.devices[command.device], fps, self.mib.get(node, 10.0))
        self.do(ProfileDone(command.device, command.cell, found))

    def deploy(self, record: GroupRecord) -> None:
        self.do(GroupSeen(record.spec.name, record))
        self.wait(2.0)

    def used_mib(self, device: str) -> float:
        """What agents hold for the plans in force."""
        plans = (r.active for r in self.state.plans.records.values())
        return sum(self.mib.get(n, 10.0) for plan in plans if plan is not None for n in plan.nodes_on(device))


def full_gpu() -> MemoryWorld:
    """Group x fills the GPU; y is on the CPU for want of room."""
    world = MemoryWorld(CPU, GPU, large=3000, middle=1500, huge=5000, urgent=3500)
    world.deploy(only("x", "large"))
    world.deploy(only("y", "middle", deployed_at=2.0))
    assert (world.shares("x"), world.shares("y")) == ({"large": GPU.device}, {"middle": CPU.device})
    return world


def test_a_changed_group_without_a_place_keeps_its_memory() -> None:
    world = full_gpu()
    world.deploy(only("x", "huge", deployed_at=3.0))
    world.wait(60.0)
    assert "x" in world.state.groups.errors
    assert (world.shares("x"), world.shares("y")) == ({"large": GPU.device}, {"middle": CPU.device})


def test_a_more_important_group_takes_that_memory_and_the_old_plan_goes() -> None:
    world = full_gpu()
    world.deploy(only("x", "huge", deployed_at=3.0))
    world.deploy(only("z", "urgent", deployed_at=4.0, priority=1))
    assert world.shares("z") == {"urgent": GPU.device}
    assert "x" not in world.state.plans.records
    assert world.used_mib(GPU.device) <= GPU.memory_mib


def test_a_less_important_group_does_not() -> None:
    world = full_gpu()
    world.deploy(only("x", "huge", deployed_at=3.0))
    world.deploy(only("z", "urgent", deployed_at=4.0, priority=-1))
    assert world.shares("x") == {"large": GPU.device}
    assert "z" not in world.state.plans.records


def test_a_group_that_waits_for_a_device_keeps_what_its_other_nodes_hold() -> None:
    world = MemoryWorld(CPU, GPU, NPU, large=3000, middle=1500)
    spec = group_spec("x", ("small", "large"))
    spec.nodes["small"] = spec.nodes["small"].model_copy(update={"pin": (NPU.device,)})
    world.deploy(group_record(spec))
    world.deploy(only("y", "middle", deployed_at=2.0))
    assert (world.shares("x")["large"], world.shares("y")) == (GPU.device, {"middle": CPU.device})
    world.dead.add(NPU.device)
    world.do(DeviceSeen(NPU.device, None))
    world.wait(60.0)
    assert world.shares("x")["large"] == GPU.device
    assert world.shares("y") == {"middle": CPU.device}


def test_unless_one_that_can_serve_needs_that() -> None:
    """When the device is back, both serve again."""
    npu = NPU.model_copy(update={"memory_mib": 2000})
    world = MemoryWorld(CPU, GPU, npu, large=3000, middle=1500)
    world.fps["middle", CPU.device] = 0.0
    spec = group_spec("x", ("small", "large"))
    spec.nodes["small"] = spec.nodes["small"].model_copy(update={"pin": (NPU.device,)})
    world.deploy(group_record(spec))
    world.deploy(only("y", "middle", deployed_at=2.0))
    assert world.shares("y") == {"middle": NPU.device}
    world.dead.add(NPU.device)
    world.do(DeviceSeen(NPU.device, None))
    world.wait(2.0)
    assert world.shares("y") == {"middle": GPU.device}
    assert "x" not in world.state.plans.records
    world.dead.clear()
    world.do(DeviceSeen(NPU.device, npu))
    world.wait(60.0)
    assert (world.shares("x")["large"], world.shares("y")) == (GPU.device, {"middle": NPU.device})


def test_so_does_one_that_waits_for_its_benchmarks() -> None:
    """Group z stands still and does not wait; x is changed and is not measured yet."""
    world = full_gpu()
    world.devices[NPU.device], world.incarnation[NPU.device] = NPU, "its first"
    world.do(DeviceSeen(NPU.device, NPU))
    world.wait(30.0)
    world.fps["tiny", NPU.device] = 1000.0
    world.deploy(only("z", "tiny", deployed_at=3.0))
    assert world.shares("z") == {"tiny": NPU.device}
    world.slow.add("new")
    world.deploy(only("x", "new", deployed_at=4.0))
    world.dead.add(NPU.device)
    world.do(DeviceSeen(NPU.device, None))
    world.wait(60.0)
    assert world.shares("z")["tiny"] in (CPU.device, GPU.device)
    assert (world.shares("x"), world.shares("y")) == ({"large": GPU.device}, {"middle": CPU.device})


def test_what_is_kept_is_counted_once() -> None:
    world = full_gpu()
    state, alive = world.state, {CPU.device, GPU.device}
    assert memory_mib(state, {"x", "y"}, alive) == {}  # they are placed, or give way
    assert memory_mib(state, {"y"}, alive) == {"x": {GPU.device: 3000}}
    assert memory_mib(state, {"x", "y"}, {CPU.device}) == {"x": {GPU.device: 3000}}
    record = state.plans.records["x"]
    assert record.active is not None
    state.plans.put(record.model_copy(update={"next": record.active.model_copy(update={"epoch": 9})}))
    assert memory_mib(state, {"y"}, alive) == {"x": {GPU.device: 3000}}


# ── groups that are measured do not wait for others ───────────────────────────────────────────────────────────────


def measured_before(record: GroupRecord, **mib: float) -> MemoryWorld:
    """Group x is deployed and known, while group y waits for benchmarks that take long."""
    world = MemoryWorld(CPU, GPU, **mib)
    world.deploy(record)
    world.do(GroupSeen("x", None))
    world.slow.add("long")
    world.deploy(only("y", "long", deployed_at=2.0))
    world.deploy(record.model_copy(update={"deployed_at": 3.0}))
    return world


def test_a_measured_group_does_not_wait_for_the_benchmarks_of_another() -> None:
    world = measured_before(only("x", "short"))
    assert world.shares("x") == {"short": GPU.device}
    assert "y" not in world.state.plans.records
    assert world.state.replanning.reason  # its turn comes
    world.slow.clear()
    for name, (cell, _) in list(world.state.profiles.running.items()):
        world._profile(Profile(name, world.state.groups.records["y"].models["long"], cell, None))
    world.wait(2.0)
    assert world.shares("y") == {"long": GPU.device}


def test_a_group_that_has_no_place_is_not_solved_for_again_and_again_meanwhile() -> None:
    world = measured_before(only("x", "huge"), huge=5000)
    assert "x" in world.state.groups.errors
    before = world.state.replanning.generation
    world.wait(60.0)
    assert world.state.replanning.generation == before


# ── what is loaded has room beside what serves ────────────────────────────────────────────────────────────────────


def exchange(mib: float) -> MemoryWorld:
    """Two groups serve on two devices; then each is twice as fast on the other's."""
    here, there = (device(f"h.ov.gpu{n}", kind="gpu", cores=(), memory_mib=4000) for n in (0, 1))
    world = MemoryWorld(here, there, one=mib, two=mib)
    speeds = {("one", here): 100.0, ("one", there): 10.0, ("two", here): 10.0, ("two", there): 100.0}
    world.fps = {(node, on.device): fps for (node, on), fps in speeds.items()}
    world.deploy(only("x", "one"))
    world.deploy(only("y", "two", deployed_at=2.0))
    assert (world.shares("x"), world.shares("y")) == ({"one": here.device}, {"two": there.device})
    for known in list(world.state.profiles.records.values()):
        world.do(ProfileSeen(known.model_copy(update={"fps": 110.0 - known.fps})))
    world.state.request_replan("they were measured again")
    world.wait(60.0)
    return world


@pytest.mark.parametrize(("mib", "moved"), [(1500, True), (3000, False)])
def test_a_better_place_is_taken_only_where_both_networks_fit_until_the_change(mib: float, moved: bool) -> None:
    world = exchange(mib)
    assert (world.shares("x")["one"], world.shares("y")["two"]) == (
        ("h.ov.gpu1", "h.ov.gpu0") if moved else ("h.ov.gpu0", "h.ov.gpu1")
    )
