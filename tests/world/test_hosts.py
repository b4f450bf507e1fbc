"""Devices of several hosts: who gets pixels and who a pointer, and that results do not depend on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hams_shared.bus.chunks import Assembler
from hams_shared.bus.protocol import Message
from hams_shared.wire import codec
from hams_shared.wire.frame_pool import FOLDER
from support.world.system import STEP, Listener, System, boxes_and_light

NEAR, FAR = "box.stub.sim", "far.stub.sim"

Sent = dict[tuple[str, str], set[str]]
"""By device and node: how the frames of its work came."""


async def sent(world: System) -> Sent:
    """Note all work that goes through the broker from now on."""
    found: Sent = defaultdict(set)
    assembler = Assembler()

    async def note(message: Message) -> None:
        data = assembler.take(message.data, world.clock.now())
        if data is None:
            found[message.subject.removeprefix("hams.v1.work."), ""].add("in parts")
            return
        for work in codec.unpack(data):
            if work["sources"]:  # there is something to see
                how = next(key for key in ("deferred", "pointer", "pixels") if key in {**work, **work["images"]})
                found[message.subject.removeprefix("hams.v1.work."), work["node"]].add(how)

    await world.bus.subscribe("hams.v1.work.>", note)
    return found


async def serving(world: System, memory: Path, **pins: str) -> tuple[Listener, Sent]:
    """A detector here or there, and its child here or there; `memory` is where the far one looks for frames."""
    world.scheduler()
    world.pipeline()
    world.agent("sim")
    world.agent("sim", host="far", memory=memory)
    await world.alive(2)
    group = boxes_and_light()
    for node, device in pins.items():
        group["nodes"][node]["pin"] = [device]
    await world.deploy(group)
    found = await sent(world)
    results = await world.listen()
    world.play(count=20)
    await world.until(lambda: len(results.received) == 20)
    results.check()
    for one in results.received[1:]:
        assert [o["light"]["value"] for o in one.objects] == pytest.approx([one.frame * STEP] * 2, abs=0.5)
        assert {node: one.nodes[node]["device"] for node in pins} == pins
    return results, found


async def test_devices_of_one_host_get_pointers_and_cut_their_crops(world: System) -> None:
    _, found = await serving(world, FOLDER, find=NEAR, light=FAR)
    assert found == {(NEAR, "find"): {"pointer"}, (FAR, "light"): {"deferred"}}


async def test_a_child_on_another_host_gets_its_crops(world: System, tmp_path: Path) -> None:
    _, found = await serving(world, tmp_path, find=NEAR, light=FAR)
    assert found == {(NEAR, "find"): {"pointer"}, (FAR, "light"): {"pixels"}}


async def test_a_detector_on_another_host_gets_the_frame(world: System, tmp_path: Path) -> None:
    _, found = await serving(world, tmp_path, find=FAR, light=NEAR)
    assert found == {(FAR, "find"): {"pixels"}, (NEAR, "light"): {"pixels"}}


async def test_crops_of_a_child_on_the_same_device_do_not_travel(world: System, tmp_path: Path) -> None:
    _, found = await serving(world, tmp_path, find=FAR, light=FAR)
    assert found == {(FAR, "find"): {"pixels"}}


async def test_a_frame_larger_than_a_message_travels_in_parts(world: System, tmp_path: Path) -> None:
    world.server.max_payload = 7000  # a frame has 9216 bytes, the view of the scheduler 5000
    _, found = await serving(world, tmp_path, find=FAR, light=NEAR)
    assert found[FAR, ""] == {"in parts"}
    assert found[FAR, "find"] == {"pixels"}


@pytest.fixture
async def hidden() -> AsyncIterator[Path]:
    """A folder of the same memory file system in which the frames do not lie, as another user's view of it."""
    with TemporaryDirectory(dir=FOLDER) as folder:
        yield Path(folder)


async def test_a_device_that_cannot_map_what_it_should_gets_pixels_from_then_on(world: System, hidden: Path) -> None:
    _, found = await serving(world, hidden, find=FAR, light=NEAR)
    assert found[FAR, "find"] == {"pointer", "pixels"}
    stream = await world.stream()
    assert 0 < stream.resent <= 8  # those that were under way when it said so
    assert not stream.failed
