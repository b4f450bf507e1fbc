"""Devices that fail: they restart, are quarantined, lose one network, or are gone; and frames that fail everywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from hams_client import HistoryEntry
from hams_shared.wire.messages.agents import HANGS, DeviceHealth
from hams_shared.wire.messages.scheduler import DeviceView
from support.world.parts import Part
from support.world.stub import StubDevice
from support.world.system import Listener, System, boxes_and_light, light

ILL, SOUND = "box.emulated.ill", "box.emulated.sound"


class File:
    """A file that tests make and remove: a fault lasts while it exists, or a device is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def make(self) -> None:
        self.path.touch()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@pytest.fixture
def fault(tmp_path: Path) -> File:
    """While it exists, the device `ill` fails."""
    return File(tmp_path / "fault")


def started(world: System, folder: Path, name: str, fps: float, **faults: object) -> Part[object]:
    """Start the agent of an emulated device."""
    path = folder / f"{name}.yaml"
    stated = {"name": name, "kind": "vpu", "memory_mib": 512, "fps": {"*": fps}, "run": "openvino", "replay": False}
    path.write_text(yaml.safe_dump({**stated, **faults}))
    return world.agent(name, StubDevice(fps=1000), profile=path)  # type: ignore[return-value]


async def serving(
    world: System,
    group: dict[str, object],
    folder: Path,
    *,
    ill_fps: float = 60,
    sound_fps: float = 30,
    heals: File | None = None,
    **faults: object,
) -> tuple[Part[object], Listener]:
    """A device that may fall ill, and a sound one; a new process `heals` the first by removing that file."""
    world.scheduler()
    world.pipeline()
    ill = started(world, folder, "ill", ill_fps, **faults)
    ill.restarts = True
    if heals is not None:
        ill.ends = partial(_healed, heals, ill.ends)  # type: ignore[method-assign]
    if sound_fps:
        started(world, folder, "sound", sound_fps)
    await world.alive(2 if sound_fps else 1)
    await world.deploy(group)
    return ill, await world.listen()


def _healed(fault: File, ends: Callable[[int], None], code: int) -> None:
    fault.remove()
    ends(code)


async def more(world: System, results: Listener, count: int = 40, *, within: float = 60) -> None:
    """Wait for more results."""
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + count, within=within, what=f"{count} more results")


async def shown(world: System, name: str = ILL) -> DeviceView:
    """The device as people see it."""
    return next(d for d in (await world.view()).devices if d.record.device == name)


async def health(world: System, name: str = ILL) -> DeviceHealth:
    """The record of its faults."""
    return (await shown(world, name)).health or DeviceHealth(device=name)


async def told(world: System, *kinds: str) -> list[HistoryEntry]:
    """The entries of these kinds in the history."""
    return [one async for one in world.hams.history(since=3600.0, follow=False) if one.kind in kinds]


async def check(world: System, results: Listener) -> None:
    """No frame was lost, doubled or failed."""
    stream = await world.stream()
    assert (stream.failed, stream.dropped) == ({}, {})
    results.check(one_owner=False)


async def test_a_device_that_names_itself_restarts_and_is_quarantined_in_the_end(
    world: System, tmp_path: Path, fault: File
) -> None:
    fail = {"text": "clEnqueueNDRangeKernel, error code: -5 CL_OUT_OF_RESOURCES", "while_exists": str(fault)}
    ill, results = await serving(world, light(), tmp_path, sound_fps=0, heals=fault, fail=fail)
    world.play()
    await more(world, results, 20)
    for life in range(1, HANGS + 1):
        fault.make()
        await world.until(lambda life=life: ill.lives == life + 1, what=f"life {life + 1}")
        if life < HANGS:
            await more(world, results, 20)

    async def quarantined() -> bool:
        return (await world.states()).get(ILL) == "quarantined"

    await world.until(quarantined, every=0.5)
    reason = (await health(world)).reason
    assert reason.startswith("failed 3 times within 15 min; last: node light of group grey failed ")
    assert f"times on {ILL}; last: model brightness failed: clEnqueueNDRangeKernel, error code: -5" in reason
    entries = await told(world, "quarantine")
    assert [(entry.device, entry.reason) for entry in entries] == [(ILL, reason)]
    assert await world.control.resume(ILL) == reason
    await more(world, results, 20)
    await check(world, results)


async def test_a_device_that_fails_is_left_and_serves_again_after_its_restart(
    world: System, tmp_path: Path, fault: File
) -> None:
    fail = {"text": "CUDA error: an illegal memory access was encountered", "while_exists": str(fault)}
    ill, results = await serving(world, light(strategy="hfs"), tmp_path, heals=fault, fail=fail)
    world.play()
    await more(world, results, 20)
    assert results.devices[-1] == ILL
    fault.make()
    await world.until(lambda: ill.lives == 2)
    await more(world, results)
    assert len((await health(world)).failures) == 1
    assert (await world.states()) == {ILL: "alive", SOUND: "alive"}
    await check(world, results)


async def test_one_failing_network_is_out_and_tried_again_later(world: System, tmp_path: Path, fault: File) -> None:
    fail = {"models": ["boxes"], "text": "primitive failed", "while_exists": str(fault)}
    ill, results = await serving(world, boxes_and_light(), tmp_path, sound_fps=3, fail=fail)
    world.play(fps=3)
    await more(world, results, 10)
    assert results.received[-1].nodes["find"]["device"] == ILL
    fault.make()
    await world.until(lambda: results.received[-1].nodes["find"]["device"] == SOUND)
    (out,) = (await health(world)).networks
    assert (out.model, out.out, ill.lives) == ("boxes", True, 1)
    assert out.reason.startswith("node find of group grey failed ")
    assert out.reason.endswith(f"times on {ILL}; last: model boxes failed: primitive failed")
    plan = (await world.group()).active
    assert plan is not None
    assert "light" in plan.nodes_on(ILL)  # its other networks are not concerned
    fault.remove()
    await world.until(lambda: _none_out(world), within=120, every=1.0)
    await check(world, results)
    assert [entry.reason for entry in await told(world, "network-out")] == [out.reason]
    assert [entry.device for entry in await told(world, "network-back")] == [ILL]


async def _none_out(world: System) -> bool:
    return not (await health(world)).faulty


async def test_resume_ends_the_time_of_a_network_that_is_out(world: System, tmp_path: Path, fault: File) -> None:
    _, results = await serving(world, light(), tmp_path, sound_fps=0, fail={"while_exists": str(fault), "text": "bad"})
    world.play()
    await more(world, results, 20)
    fault.make()
    await world.until(lambda: _out(world), every=0.2)
    fault.remove()
    assert "last: model brightness failed: bad" in await world.control.resume(ILL)
    await more(world, results, 20)
    await check(world, results)


async def _out(world: System) -> bool:
    return bool((await health(world)).faulty)


async def test_nan_outputs_take_the_network_out(world: System, tmp_path: Path, fault: File) -> None:
    ill, results = await serving(world, light(strategy="replicated"), tmp_path, nan={"while_exists": str(fault)})
    world.play()
    await more(world, results)
    assert set(results.devices[-20:]) == {ILL, SOUND}
    fault.make()
    await world.until(lambda: _out(world), every=0.2)
    await more(world, results)
    assert set(results.devices[-20:]) == {SOUND}
    assert ill.lives == 1
    await check(world, results)  # each was tried on the other device


async def test_several_failing_networks_are_a_failing_device(world: System, tmp_path: Path, fault: File) -> None:
    fail = {"text": "primitive failed", "while_exists": str(fault)}
    ill, results = await serving(world, boxes_and_light(), tmp_path, sound_fps=3, heals=fault, fail=fail)
    world.play()
    await more(world, results, 20)
    fault.make()
    await world.until(lambda: ill.lives == 2)
    await more(world, results)
    reason = (await health(world)).reason
    assert "fails its self-test, too: model" in reason
    await check(world, results)


@pytest.mark.parametrize("devices", [1, 2])
async def test_a_frame_that_fails_everywhere_takes_no_device_out(world: System, tmp_path: Path, devices: int) -> None:
    group = light(strategy="replicated", node={"model": "touchy"})
    ill, results = await serving(world, group, tmp_path, sound_fps=30 * (devices - 1))
    before = (await world.group()).active
    player = world.play(count=130)
    await world.until(lambda: len(results.received) == 127, within=120)
    stream = await world.stream()
    assert stream.failed == {"frame-fails": 3}  # pictures 0, 60, 120
    assert player.pushed == 130
    assert set(results.frames) == set(range(130)) - {0, 60, 120}
    assert (await world.group()).active == before
    assert ill.lives == 1
    assert await health(world) == DeviceHealth(device=ILL)


async def test_a_device_that_fails_fast_does_not_attract_the_work(world: System, tmp_path: Path, fault: File) -> None:
    """Live frames that fail are lost: as few as it takes to find out, though the device fails 1000 times as fast."""
    group = light({"mode": "live"}, strategy="replicated")
    fail = {"text": "primitive failed", "rate": 0.9, "while_exists": str(fault)}
    _, results = await serving(world, group, tmp_path, ill_fps=30, fail=fail)
    world.play(fps=50)
    await more(world, results, 60)
    before = (await world.stream()).dropped.get("newer-frame", 0)
    fault.make()
    await world.until(lambda: _out(world), every=0.2)
    await more(world, results)
    dropped = (await world.stream()).dropped
    assert dropped["inference-failed"] <= 10, (dropped, before)
    assert set(results.devices[-20:]) == {SOUND}


async def test_a_device_that_is_pulled_out_is_gone_until_it_is_back(world: System, tmp_path: Path) -> None:
    stick = File(tmp_path / "stick")
    stick.make()
    ill, results = await serving(world, light(strategy="hfs"), tmp_path, device_file=str(stick))
    ill.restarts = False  # the world opens a device when its agent begins
    world.play()
    await more(world, results, 20)
    assert results.devices[-1] == ILL
    stick.remove()
    await world.until(lambda: results.devices[-1] == SOUND)
    await world.until(lambda: _is(world, "gone"), every=0.2)
    assert (await health(world)).gone == f"{stick} disappeared"
    await more(world, results)
    assert set(results.devices[-20:]) == {SOUND}
    await world.until(lambda: not ill.runs)
    stick.make()
    ill.start()
    await world.until(lambda: _is(world, "alive"), every=0.2)
    await more(world, results, 10)
    lost, back = await told(world, "device-lost", "device-back")
    assert (lost.device, lost.reason, back.device) == (ILL, f"{stick} disappeared", ILL)
    await check(world, results)


async def _is(world: System, state: str) -> bool:
    return (await shown(world)).state == state
