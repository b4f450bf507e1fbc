"""What applications read: the keys of a result, JSON where a group asks for it, pictures while somebody wants them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from hams_shared.bus.protocol import Message
from hams_shared.wire import codec, subjects
from hams_shared.wire.frames import Output, unpack_outputs
from hams_shared.wire.messages.pipeline import PipelineLoad
from hams_shared.wire.results import check_result
from support.world.stub import StubDevice
from support.world.system import STEP, System, boxes_and_light

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")


async def serving(world: System, **more: str) -> None:
    """A detector and, for each object, how bright it is."""
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=100))
    await world.deploy(boxes_and_light(**more))


async def raw(world: System, subject: str) -> list[bytes]:
    """All messages on a subject from now on."""
    found: list[bytes] = []

    async def note(message: Message) -> None:
        found.append(message.data)

    await world.bus.subscribe(subject, note)
    return found


def documented() -> set[str]:
    """The keys in the table of results in docs/messages.md."""
    table = PAGE.partition("\n## Results")[2].partition("\n\n|")[2].partition("\n\n")[0]
    cells = re.findall(r"^\|? (`.+?) \|", table, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("written", ["msgpack", "json"])
async def test_a_result_has_the_keys_that_the_page_lists(world: System, written: str) -> None:
    await serving(world, results=written)
    found = await raw(world, subjects.result("grey", "s0"))
    world.play(count=3)
    await world.until(lambda: len(found) == 3)
    for number, data in enumerate(found):
        result = json.loads(data) if written == "json" else codec.unpack(data)
        check_result(result)
        assert set(result) == documented()
        assert result["frame"] == number
        assert [o["light"]["value"] for o in result["objects"]] == [number * STEP] * (2 if number else 0)


async def test_pictures_come_with_their_results_while_somebody_asks(world: System) -> None:
    await serving(world)
    sent = await raw(world, subjects.picture("grey", "s0"))
    results = await world.listen()
    world.play(fps=4)
    await world.until(lambda: len(results.received) == 10)
    assert not sent  # nobody has asked
    pictures = world.hams.pictures("grey")
    for _ in range(10):
        result, image = await anext(pictures)
        assert float(image.mean()) == pytest.approx(result.frame % 60 * STEP, abs=2)
    assert sent
    await pictures.aclose()
    await world.later(7)  # the wish holds for six seconds
    count, seen = len(sent), len(results.received)
    await world.until(lambda: len(results.received) >= seen + 10)
    assert len(sent) == count


async def test_pictures_are_asked_for_again_after_the_broker_took_nothing(world: System) -> None:
    wishes = await raw(world, subjects.pictures_wanted("grey"))
    room, world.server.max_payload = world.server.max_payload, 8
    waiting = asyncio.ensure_future(anext(world.hams.pictures("grey")))
    await world.later(1)
    assert not wishes
    world.server.max_payload = room
    await world.until(lambda: wishes)
    assert not waiting.done()
    waiting.cancel()


async def test_outputs_of_a_node_come_by_themselves_while_somebody_asks_and_a_frame_is_one_answer(
    world: System,
) -> None:
    await serving(world)
    outputs = await raw(world, subjects.output("grey", "s0", "*"))
    answers = await raw(world, subjects.answer("grey", "s0"))
    results = await world.listen()
    world.play(fps=4)
    await world.until(lambda: len(results.received) == 10)
    assert not outputs  # nobody has asked
    for data in answers[:10]:
        first, second = unpack_outputs(data)
        assert {first.node, second.node} == {"find", "light"}
        assert first.id == second.id
    async with world.hams.tap("grey", "light") as tapped:
        for _ in range(10):
            output = await anext(tapped)
            assert output.node == "light"
            assert [item["value"] for item in output.items] == [output.id.frame % 60 * STEP] * len(output.items)
    assert {Output.unpack(data).node for data in outputs} == {"light"}
    await world.later(7)  # a request holds for six seconds
    count, seen = len(outputs), len(results.received)
    await world.until(lambda: len(results.received) >= seen + 10)
    assert len(outputs) == count


async def test_the_pipeline_reports_its_cost_once_a_second(world: System) -> None:
    await serving(world)
    reports = await raw(world, subjects.pipeline_load())
    results = await world.listen()
    world.play(count=6)
    await world.until(lambda: len(results.received) == 6)
    await world.until(lambda: bool(reports) and codec.decode(PipelineLoad, reports[-1]).results == 6)
    last = codec.decode(PipelineLoad, reports[-1])
    assert last.host == "box"
    assert last.outputs == 12  # of two nodes
    assert last.cpu_s > 0
    [stream] = last.streams
    assert (stream.group, stream.stream, stream.frames) == ("grey", "s0", 6)
    count = len(reports)
    await world.later(3)
    assert count + 2 <= len(reports) <= count + 4
