"""Emulated devices serve from records: the second time that they see an image they compute nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hams_shared.wire.messages.agents import Heartbeat
from support.world.stub import StubDevice
from support.world.system import STEP, Listener, System, boxes_and_light

PICTURES = 60
"""Different ones that a player shows, again and again."""
FPS = 50.0
COMPUTING_FPS = 20.0
"""Of what computes the outputs: slower than what the profiles state."""


def profile(folder: Path, name: str, **changes: object) -> Path:
    path = folder / f"{name}.yaml"
    stated = {"name": name, "kind": "vpu", "memory_mib": 512, "fps": {"*": FPS}, "run": "openvino", **changes}
    path.write_text(yaml.safe_dump(stated))
    return path


async def boxes_with(world: System, folder: Path, **vpus: Path) -> Listener:
    """A detector on one device and a node on its crops on another, both emulated."""
    world.scheduler()
    world.pipeline()
    for unit, stated in vpus.items():
        world.agent(unit, StubDevice(fps=COMPUTING_FPS), profile=stated).restarts = True
    await world.alive(len(vpus))
    group = boxes_and_light()
    group["nodes"]["find"]["pin"] = ["box.emulated.finds"]
    group["nodes"]["light"]["pin"] = ["box.emulated.lights"]
    await world.deploy(group)
    return await world.listen()


def computed(world: System) -> int:
    """Images that were computed."""
    return sum(sum(counts) for device in world.devices.values() for counts in device.runs.values())


async def beats(world: System) -> dict[str, Heartbeat]:
    return {d.record.unit: d.heartbeat for d in (await world.view()).devices if d.heartbeat is not None}


async def test_a_second_pass_computes_nothing_and_keeps_the_stated_pace(world: System, tmp_path: Path) -> None:
    results = await boxes_with(
        world, tmp_path, finds=profile(tmp_path, "finds"), lights=profile(tmp_path, "lights", fps={"*": 2 * FPS})
    )
    world.play(count=PICTURES)
    await world.until(lambda: len(results.received) == PICTURES)
    first = computed(world)
    start = world.clock.now()
    world.play(count=3 * PICTURES)
    await world.until(lambda: len(results.received) == 4 * PICTURES)
    taken = world.clock.now() - start
    assert computed(world) == first
    assert taken == pytest.approx(3 * PICTURES / FPS, rel=0.1)
    lights = [[float(one["light"]["value"]) for one in result.objects] for result in results.received]
    assert lights == 4 * [[], *([float(STEP * i)] * 2 for i in range(1, PICTURES))]  # a black one has no objects
    results.check()


async def test_misses_are_counted_and_shown(world: System, tmp_path: Path) -> None:
    results = await boxes_with(world, tmp_path, finds=profile(tmp_path, "finds"), lights=profile(tmp_path, "lights"))
    world.play(count=PICTURES)
    await world.until(lambda: len(results.received) == PICTURES)

    async def all_counted() -> bool:
        return (await beats(world))["finds"].misses == PICTURES

    await world.until(all_counted, every=0.5)
    found = (await beats(world))["finds"]
    assert found.replayed == 1  # the noise of loading, which is always recorded
    assert "measurements with more than 1% are void" in found.remarks[-1]
    world.play(count=10**6)

    async def only_replays() -> bool:
        return " 0 of the last" in (await beats(world))["finds"].remarks[-1]

    await world.until(only_replays, every=0.5)
    assert (await beats(world))["finds"].misses == PICTURES


async def test_a_new_life_of_an_agent_replays_what_the_last_one_recorded(world: System, tmp_path: Path) -> None:
    results = await boxes_with(world, tmp_path, finds=profile(tmp_path, "finds"), lights=profile(tmp_path, "lights"))
    world.play(count=PICTURES)
    await world.until(lambda: len(results.received) == PICTURES)
    first = computed(world)
    for unit in ("finds", "lights"):
        await world.parts[f"box.stub.{unit}"].kill()
    world.play(count=PICTURES)
    await world.until(lambda: len(results.received) == 2 * PICTURES)
    assert computed(world) == first
