"""Devices of several hosts: who gets pixels and who a pointer, and that results do not depend on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from hams_shared.bus.chunks import Assembler
from hams_shared.bus.protocol import Message
from hams_shared.wire import codec
from hams_shared.wire.frame_pool import FOLDER
from hams_shared.wire.frames import FrameId, Work, pack_works, unpack_outputs
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


async def deployed(world: System, memory: Path, pins: dict[str, str], **more: Any) -> None:
    """A detector here or there, and its child here or there; `memory` is where the far one looks for frames."""
    world.scheduler()
    world.pipeline()
    world.agent("sim")
    world.agent("sim", host="far", memory=memory)
    await world.alive(2)
    group = boxes_and_light(**more)
    for node, device in pins.items():
        group["nodes"][node]["pin"] = [device]
    await world.deploy(group)


async def serving(world: System, memory: Path, **pins: str) -> tuple[Listener, Sent]:
    """What becomes of 20 frames, and how they came to their devices; see :func:`deployed`."""
    await deployed(world, memory, pins)
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


@pytest.fixture
def mailboxes(world: System, hidden: Path) -> Path:
    """A folder for the mailboxes of this world."""
    world.mailboxes = hidden
    return hidden


def addresses(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def by_broker(world: System) -> list[str]:
    """The subjects of all work and answers that go through the broker from now on."""
    subjects: list[str] = []

    async def note(message: Message) -> None:
        subjects.append(message.subject)

    for kind in ("work", "answer"):
        await world.bus.subscribe(f"hams.v1.{kind}.>", note)
    return subjects


async def boxes(world: System, memory: Path = FOLDER) -> tuple[Listener, list[str]]:
    """A detector on one device and its child on another, whose agent looks for frames in `memory`."""
    await deployed(world, memory, {"find": NEAR, "light": FAR}, deadline_s=2.0)
    await world.later(1.0)  # the pipeline has heard of every mailbox
    return await world.listen(), await by_broker(world)


async def test_on_one_host_work_and_answers_go_past_the_broker(world: System, mailboxes: Path) -> None:
    results, through = await boxes(world)
    world.play(count=50)
    await world.until(lambda: len(results.received) == 50)
    assert through == []
    results.check()
    assert len(addresses(mailboxes)) == 4  # two agents, the stream, and the single images


async def test_what_is_for_another_host_goes_by_the_broker(world: System, mailboxes: Path, tmp_path: Path) -> None:
    results, through = await boxes(world, memory=tmp_path)
    world.play(count=20)
    await world.until(lambda: len(results.received) == 20)
    assert set(through) == {f"hams.v1.work.{FAR}"}  # its answers come by mailbox, wherever its frames lie
    results.check()


async def test_mailboxes_that_are_gone_cost_no_frame(world: System, mailboxes: Path) -> None:
    results, through = await boxes(world)
    for name in addresses(mailboxes):
        (mailboxes / name).unlink()  # nobody finds them
    world.play(count=60)
    await world.until(lambda: len(results.received) == 60)
    assert {subject.split(".")[2] for subject in through} == {"work", "answer"}
    stream = await world.stream()
    assert (stream.delivered, stream.dropped, stream.failed, stream.resent) == (60, {}, {}, 0)
    results.check()


async def test_refusals_that_find_no_mailbox_all_arrive(world: System, mailboxes: Path) -> None:
    """More of them than finished work that may wait to be published."""
    results, through = await boxes(world)
    received: list[bytes] = []

    async def take(message: Message) -> None:
        received.append(message.data)

    await world.bus.subscribe("hams.v1.answer.grey.other", take)
    ids = [FrameId("grey", "other", number, 0, 1000, 0.0) for number in range(60)]  # of no epoch that it serves
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    for one in ids:
        work = Work(one, "find", pixels, np.zeros((1, 2, 3)), [0], (8, 8), answer_to="hams-mailbox-gone")
        await world.bus.publish(f"hams.v1.work.{NEAR}", pack_works([work]))
    await world.until(lambda: len(received) == len(ids))
    outputs = [output for data in received for output in unpack_outputs(data)]
    assert sorted(output.id.frame for output in outputs) == list(range(60))
    assert {output.error and output.error["code"] for output in outputs} == {"refused"}
    assert through
    results.check()


async def test_an_agent_that_comes_back_has_another_mailbox(world: System, mailboxes: Path) -> None:
    results, _ = await boxes(world)
    world.play(count=100)
    await world.until(lambda: len(results.received) >= 10)
    before = addresses(mailboxes)
    await world.parts[FAR].kill()
    assert len(before - addresses(mailboxes)) == 1
    world.parts[FAR].start()
    await world.until(lambda: len(results.received) == 100)
    assert len(addresses(mailboxes) - before) == 1
    results.check()


async def test_a_pipeline_that_is_restarted_gets_its_answers(world: System, mailboxes: Path) -> None:
    results, _ = await boxes(world)
    world.play(count=20)
    await world.until(lambda: len(results.received) == 20)
    await world.parts["pipeline"].stop()
    assert len(addresses(mailboxes)) == 2
    world.parts["pipeline"].start()
    await world.until(lambda: len(addresses(mailboxes)) == 4)
