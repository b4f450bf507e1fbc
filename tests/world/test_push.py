"""Frames of applications: what is taken, what is told of overload, and which mistakes are named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hams_client import Pushed
from hams_services.pipeline.retries import NOT_FINITE_ATTEMPTS
from hams_services.pipeline.service import UNDER_WAY
from hams_shared.errors import BadInputError, DeadlineError, NotFoundError, OverloadedError, RefusedError, SourceError
from support.world.stub import StubDevice
from support.world.system import SIZE, STEP, Listener, System, light, picture, pictures, values

FPS = 10.0


async def serving(world: System, group: dict[str, Any] | None = None) -> Listener:
    """A group on a device of 10 frames/s."""
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=FPS))
    await world.deploy(group or light())
    return await world.listen()


async def test_pixels_encoded_pictures_and_files_are_taken_alike(world: System, tmp_path: Path) -> None:
    results = await serving(world)
    for number in range(9):
        image: np.ndarray | bytes | Path = picture(number)
        if number % 3:
            image = cv2.imencode(".png", picture(number))[1].tobytes()
        if number % 3 == 2:
            assert isinstance(image, bytes)
            (tmp_path / f"{number}.png").write_bytes(image)
            image = tmp_path / f"{number}.png"
        assert await world.hams.push("grey", "s0", image) == Pushed(number, overloaded=False)
    await world.until(lambda: len(results.received) == 9)
    results.check()
    assert values(results.received) == pytest.approx([n * STEP for n in range(9)], abs=0.5)
    [one] = results.received[3].objects
    assert (one.label, one.score, one.box) == ("frame", 1.0, (0, 0, *SIZE))


async def test_a_picture_larger_than_a_message_is_taken(world: System) -> None:
    results = await serving(world)
    world.server.max_payload = 1 << 16
    large = np.full((200, 400, 3), 80, np.uint8)
    assert large.nbytes > 2 * world.bus.max_payload
    await world.hams.push("grey", "s0", large)
    await world.until(lambda: results.received)
    single = await world.hams.infer("grey", large)
    assert values([*results.received, single]) == pytest.approx([80, 80], abs=0.5)


@pytest.mark.parametrize(
    ("group", "stream", "image", "error", "text"),
    [
        ("grey", "s9", picture(0), NotFoundError, "no stream s9 with source: push"),
        ("grey", "file", picture(0), NotFoundError, "no stream file with source: push"),
        ("nobody", "s0", picture(0), NotFoundError, "group nobody is not deployed"),
        ("grey", "s0", b"no image", SourceError, "not an image"),
        ("grey", "s0", np.zeros((4, 4), np.uint8), BadInputError, "height×width×3"),
        ("grey", "s0", "missing.png", SourceError, "cannot read missing.png"),
    ],
)
async def test_a_mistake_is_named_and_the_stream_goes_on(
    world: System, group: str, stream: str, image: Any, error: type[Exception], text: str
) -> None:
    spec = light()
    spec["streams"]["file"] = {"source": str(world.folder / "none.avi")}
    results = await serving(world, spec)
    with pytest.raises(error, match=text):
        await world.hams.push(group, stream, image)
    assert await world.hams.push("grey", "s0", picture(0)) == Pushed(0, overloaded=False)
    await world.until(lambda: results.received)


async def test_a_live_stream_reports_each_frame_dropped_for_a_newer_one(world: System) -> None:
    results = await serving(world, light({"mode": "live"}))
    told = [await world.hams.push("grey", "s0", picture(n)) for n in range(20)]
    await world.until(lambda: results.frames[-1] == 19)  # the newest is never the one to go
    stream = await world.stream()
    assert not told[0].overloaded
    assert sum(one.overloaded for one in told) == stream.dropped["newer-frame"] == 20 - stream.delivered


async def test_a_lossless_stream_takes_what_it_has_room_for(world: System) -> None:
    results = await serving(world, light(in_flight=4))
    began = world.clock.now()
    for number in range(14):
        await world.hams.push("grey", "s0", picture(number))
    assert world.clock.now() - began == pytest.approx(10 / FPS, abs=0.2)  # four went at once, ten when others had ended
    with pytest.raises(OverloadedError, match="no room for the frame within 0.05 s"):
        await world.hams.push("grey", "s0", picture(14), deadline=0.05)
    assert await world.hams.push("grey", "s0", picture(14)) == Pushed(14, overloaded=False)
    await world.until(lambda: len(results.received) == 15)
    results.check()
    assert not (await world.stream()).dropped


async def test_too_many_pushes_at_once_are_refused(world: System) -> None:
    results = await serving(world, light(in_flight=8))
    pushes = [world.hams.push("grey", "s0", picture(n)) for n in range(UNDER_WAY + 20)]
    answers = await asyncio.gather(*pushes, return_exceptions=True)
    refused = [one for one in answers if isinstance(one, OverloadedError)]
    taken = [one for one in answers if isinstance(one, Pushed)]
    assert len(refused) + len(taken) == len(pushes)
    assert 0 < len(refused) <= 20
    assert f"{UNDER_WAY} images are under way" in str(refused[0])
    await world.until(lambda: len(results.received) == len(taken))
    results.check()


async def test_pushes_that_wait_keep_nobody_else_waiting(world: System) -> None:
    await serving(world, light(streams=2, in_flight=4))
    world.devices["box.stub.sim"].hangs = True
    pushes = [asyncio.ensure_future(world.hams.push("grey", "s0", picture(n))) for n in range(4 + UNDER_WAY)]
    await world.until(lambda: sum(one.done() for one in pushes) == 4)
    assert await world.hams.push("grey", "s1", picture(0)) == Pushed(0, overloaded=False)
    answer = asyncio.ensure_future(world.hams.infer("grey", picture(1)))
    await world.later(0.5)
    assert not answer.done()  # not refused either
    world.backends["box.stub.sim"].release()
    assert values([await answer]) == pytest.approx([STEP], abs=0.5)
    assert [one.frame for one in await asyncio.gather(*pushes)] == list(range(4 + UNDER_WAY))


async def test_a_pushed_stream_plays_while_frames_come_and_waits_when_none_do(world: System) -> None:
    await serving(world)
    assert await told(world) == ("waiting", "no frame was pushed yet")
    await world.hams.push("grey", "s0", picture(0))
    await world.later(4.5)
    assert await told(world) == ("playing", "")
    await world.later(1)
    assert await told(world) == ("waiting", "no frame is pushed")


async def told(world: System) -> tuple[str, str]:
    """What `hams-ctl status` tells of the stream."""
    stream = await world.stream()
    return stream.state, stream.text


async def test_a_live_frame_that_is_late_is_dropped_with_the_reason(world: System) -> None:
    results = await serving(world, light({"mode": "live"}, deadline_s=1))
    await world.hams.push("grey", "s0", picture(0))
    world.devices["box.stub.sim"].hangs = True
    await world.later(3)
    assert (await world.stream()).dropped == {"deadline": 1}
    world.backends["box.stub.sim"].release()
    await world.hams.push("grey", "s0", picture(1))
    await world.until(lambda: results.received)
    assert results.frames == [1]


async def test_a_frame_that_cannot_be_decoded_is_counted_with_the_reason_and_the_next_is_served(world: System) -> None:
    results = await serving(world, light(node={"model": "logarithm"}))
    await world.hams.push("grey", "s0", picture(0))
    with pytest.raises(RefusedError, match="could not process the image: light: .* not finite"):
        await world.hams.infer("grey", picture(0))
    await world.hams.push("grey", "s0", picture(1))
    await world.until(lambda: results.received)
    assert values(results.received) == pytest.approx([np.log(STEP)], abs=0.01)
    stream = await world.stream()
    assert (stream.delivered, sum(stream.failed.values())) == (1, 1)
    assert "frame 0 failed: light: node light: 1 of 1 numbers of output y are not finite (infinity)" in stream.text
    assert stream.failed == {"not-finite": 1}

    async def counted() -> bool:
        beats = [device.heartbeat for device in (await world.view()).devices if device.heartbeat is not None]
        return [one.not_finite for beat in beats for one in beat.nodes] == [2 * NOT_FINITE_ATTEMPTS]

    await world.until(counted, every=0.5)  # the stream's frame and the single image


async def test_one_image_is_answered_beside_a_busy_stream(world: System) -> None:
    results = await serving(world)
    world.play()
    await world.until(lambda: len(results.received) >= 10)
    began = world.clock.now()
    single = await world.hams.infer("grey", picture(30))
    assert values([single]) == pytest.approx([30 * STEP], abs=0.5)
    assert world.clock.now() - began <= 4 / FPS  # streams and single images take turns
    results.check()


async def test_one_image_for_which_nothing_can_be_done(world: System) -> None:
    with pytest.raises(NotFoundError):  # no pipeline runs
        await world.hams.infer("grey", picture(0))
    await serving(world)
    with pytest.raises(NotFoundError, match="group nobody is not deployed"):
        await world.hams.infer("nobody", picture(0))
    await world.parts["box.stub.sim"].kill()
    await world.later(2)
    with pytest.raises(DeadlineError, match="gave no result within 3 s"):
        await world.hams.infer("grey", picture(0), deadline=3)


async def test_a_slow_reader_loses_the_oldest_and_slows_nobody(world: System) -> None:
    results = await serving(world)
    async with world.hams.results("grey", limit=5) as slow:
        world.play(count=30)
        await world.until(lambda: len(results.received) == 30)
        assert [(await anext(slow)).frame for _ in range(5)] == [25, 26, 27, 28, 29]
    results.check()


async def test_outputs_of_one_node_can_be_tapped_before_the_join(world: System) -> None:
    await serving(world)
    async with world.hams.tap("grey", "light") as outputs:
        await world.hams.push("grey", "s0", picture(3))
        output = await anext(outputs)
    assert (output.id.frame, output.device) == (0, "box.stub.sim")
    assert output.items[0]["value"] == pytest.approx(3 * STEP, abs=0.5)


async def test_a_stream_that_was_a_file_times_pushed_frames_by_their_arrival(world: System) -> None:
    folder = pictures(world.folder / "pictures", range(3))
    await world.box(a=StubDevice(fps=100))
    await world.deploy(light({"source": str(folder), "pace": "max", "fps": 25}))
    results = await world.listen()
    await world.deploy(light())
    world.play(fps=0.1, count=4)
    await world.until(lambda: len(results.received) >= 4, within=100)
    times = [one.media_time_s for one in results.received[-4:]]
    assert None not in times
    assert np.diff(times) == pytest.approx([10.0] * 3, abs=0.1)
