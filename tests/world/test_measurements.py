"""Cells of the FPS matrix that may be wrong: which are measured again, when, and by whose wish."""

from __future__ import annotations

import pytest

from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import ProfileRecord
from support.world.stub import StubDevice
from support.world.system import System, light

A = "box.stub.a"


async def serving(world: System, **devices: StubDevice) -> None:
    """All parts, and a group that serves."""
    await world.box(**devices)
    await world.deploy(light())


async def cells(world: System) -> dict[str, ProfileRecord]:
    """By device: what was measured of the group's network."""
    (row,) = (await world.view()).matrix.cells.values()
    return row


async def loaded(world: System, fps: float, load: float) -> None:
    """What the store holds was measured while others used the cores; the scheduler has just been started."""
    profiles = await world.bus.kv(subjects.bucket("profiles"))
    for key, entry in (await profiles.entries()).items():
        record = codec.decode(ProfileRecord, entry.value or b"").model_copy(update={"fps": fps, "load": load})
        await profiles.put(key, codec.encode(record))
    await world.until(lambda: shown(world, fps))


async def shown(world: System, fps: float) -> bool:
    """Whether the matrix has that figure for all devices."""
    return all(cell.fps == pytest.approx(fps, rel=0.05) for cell in (await cells(world)).values())


async def test_what_was_measured_under_load_is_marked_and_measured_again_when_idle(world: System) -> None:
    await serving(world, a=StubDevice(fps=20))
    await loaded(world, fps=8, load=0.6)
    (why,) = (await world.view()).matrix.doubts.values()
    assert why == "others used 60% of its cores while it was measured"
    await world.until(lambda: shown(world, 20), within=120)
    assert not (await world.view()).matrix.doubts
    assert (await world.group()).active


async def test_a_busy_device_is_left_alone(world: System) -> None:
    await serving(world, a=StubDevice(fps=20))
    world.play()
    await world.until(lambda: world.devices[A].runs)
    await loaded(world, fps=15, load=0.6)
    await world.later(120)
    assert await shown(world, 15)


async def test_cells_that_somebody_asks_for_are_measured_again(world: System) -> None:
    await serving(world, a=StubDevice(fps=20), b=StubDevice(fps=10))
    world.devices[A].fps = 40
    before = await cells(world)
    assert await world.control.measure("nothing", "") == 0
    assert await world.control.measure("", "stub.a") == 1
    await world.until(lambda: measured(world, A, 40))
    after = await cells(world)
    assert after["box.stub.b"] == before["box.stub.b"]
    assert (await world.view()).waiting_profiles == 0
    assert await world.control.measure("bright*", "") == 2


async def measured(world: System, device: str, fps: float) -> bool:
    """Whether that is what the matrix says."""
    return (await cells(world))[device].fps == pytest.approx(fps, rel=0.05)


async def test_serving_that_is_faster_than_measured_makes_a_cell_doubtful(world: System) -> None:
    await serving(world, a=StubDevice(fps=20))
    await loaded(world, fps=14, load=0.0)
    world.play()

    async def doubted() -> bool:
        return any("as fast as measured" in why for why in (await world.view()).matrix.doubts.values())

    await world.until(doubted, within=120)


async def test_a_network_is_loaded_with_the_lanes_of_its_measurement(world: System) -> None:
    await serving(world, a=StubDevice(fps=20))
    assert world.devices[A].lanes == [0, 1]  # to be measured, and to serve
    profiles = await world.bus.kv(subjects.bucket("profiles"))
    for key, entry in (await profiles.entries()).items():
        record = codec.decode(ProfileRecord, entry.value or b"").model_copy(update={"lanes": 3})
        await profiles.put(key, codec.encode(record))
    world.parts[A].restarts = True
    await world.parts[A].kill()  # its next life has measured nothing itself
    await world.until(lambda: world.devices[A].lanes == [0, 1, 3])
