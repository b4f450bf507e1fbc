"""How files are played: by their clock or as fast as the group goes, once or without end."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import pytest

from hams_shared.wire.messages.pipeline import ReadCost
from support.media import video
from support.world.stub import StubDevice
from support.world.system import STEP, Listener, System, light, picture, values

LENGTH = 12
PERIOD_S = 20.0
"""Of a slow clock: so much longer than to read a picture takes that a slow machine changes nothing."""


async def playing(world: System, folder: Path, **stream: Any) -> Listener:
    """A folder of pictures, of which a device does 20 a second; the group waits for somebody who listens."""
    for number in range(LENGTH):
        cv2.imwrite(str(folder / f"shot{number:02}.png"), picture(number))
    (folder / "notes.txt").write_text("no picture")
    world.scheduler()
    world.pipeline()
    results = await world.listen()
    record, files = world.record(light({"source": str(folder / "shot*.png"), **stream}))
    await world.control.upload(files, lambda *_: None)
    await world.control.deploy(record)
    world.agent("sim", StubDevice(fps=20))
    return results


async def test_what_reading_costs_is_known_before_the_group_is_placed(world: System, tmp_path: Path) -> None:
    results = await playing(world, tmp_path, pace="max")
    await world.until(lambda: bool(results.received))
    videos = world.parts["scheduler"].service._state.videos
    assert len(videos.costs) == 1
    assert min(cost.cpu_ms for cost in videos.costs.values()) > 0


async def test_a_video_that_cannot_be_read_keeps_no_group_from_being_placed(world: System, tmp_path: Path) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=20))
    await world.deploy(light({"source": str(tmp_path / "absent.mp4")}))
    assert world.parts["scheduler"].service._state.videos.costs == {
        "frame none " + str(tmp_path / "absent.mp4"): ReadCost()
    }


@pytest.mark.parametrize("broken", [4, 5, 6, 7])
async def test_a_source_that_breaks_fails_its_stream_wherever_it_does(
    world: System, tmp_path: Path, broken: int
) -> None:
    """Several pictures are read at once: those before the broken one are played, and its error is told."""
    results = await playing(world, tmp_path, pace="max", mode="lossless")
    (tmp_path / f"shot{broken:02}.png").write_bytes(b"no picture at all")

    async def failed() -> bool:
        return (await world.stream()).state == "failed"

    await world.until(failed)
    assert f"shot{broken:02}.png" in (await world.stream()).text
    await world.until(lambda: len(results.received) == broken)


async def test_by_their_clock(world: System, tmp_path: Path) -> None:
    results = await playing(world, tmp_path, mode="live", fps=1 / PERIOD_S)
    took = await seconds(world, results, every=0.5)
    assert (LENGTH - 2) * PERIOD_S < took < LENGTH * PERIOD_S  # a late one is made up for, within one period
    results.check()  # the device keeps up: a live stream drops nothing
    assert values(results.received) == pytest.approx([n * STEP for n in range(LENGTH)], abs=0.5)  # in name order
    await world.until(lambda: ended(world))
    assert len(results.received) == LENGTH


async def test_as_fast_as_the_group_goes(world: System, tmp_path: Path) -> None:
    results = await playing(world, tmp_path, pace="max", fps=1 / PERIOD_S)
    assert await seconds(world, results) < LENGTH * PERIOD_S / 2
    results.check()


async def seconds(world: System, results: Listener, every: float = 0.02) -> float:
    """How long the stream takes, s."""
    await world.until(lambda: results.received)
    began = world.clock.now()
    await world.until(lambda: len(results.received) == LENGTH, within=20 * PERIOD_S, every=every)
    return world.clock.now() - began


async def ended(world: System) -> bool:
    """Whether the stream has."""
    return (await world.stream()).state == "ended"


async def test_a_disk_that_hangs_is_reported_and_the_stream_continues_after_it(
    world: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, answers, read = tmp_path / "shot05a.png", threading.Event(), Path.read_bytes

    def hanging(path: Path) -> bytes:
        assert path != hung or answers.wait(120)
        return read(path)

    hung.write_bytes(cv2.imencode(".png", picture(40))[1].tobytes())
    monkeypatch.setattr(Path, "read_bytes", hanging)
    results = await playing(world, tmp_path, pace="max")
    await world.until(lambda: len(results.received) >= 3)  # up to three more were read together with the one that hangs

    async def told() -> bool:
        stream = await world.stream()
        return stream.state == "waiting" and "the source has returned nothing for" in stream.text

    await world.until(told)
    assert len(results.received) <= 6
    answers.set()
    await world.until(lambda: len(results.received) == LENGTH + 1)
    assert values(results.received)[5:8] == pytest.approx([5 * STEP, 40 * STEP, 6 * STEP], abs=0.5)
    await world.until(lambda: ended(world))
    assert (await world.stream()).text == ""


async def test_without_end(world: System, tmp_path: Path) -> None:
    results = await playing(world, tmp_path, pace="max", loop=True)
    await world.until(lambda: len(results.received) >= 3 * LENGTH)
    results.check()  # frames are counted on
    again = [results.frames[n] % LENGTH * STEP for n in range(3 * LENGTH)]
    assert values(results.received[: 3 * LENGTH]) == pytest.approx(again, abs=0.5)
    assert (await world.stream()).state == "playing"


async def test_each_frame_at_its_own_time(world: System, tmp_path: Path) -> None:
    """A video of varying frame rate; its mean rate is another one."""
    times = [0.0, 1.0, 2.0, 3.0, 103.0, 104.0, 105.0, 106.0, 306.0, 307.0, 308.0, 309.0]
    video(tmp_path / "shot.avi", times, codec="mjpeg", pixel_format="yuvj420p", ticks=2)
    world.scheduler()
    world.pipeline()
    results = await world.listen()
    record, files = world.record(light({"source": str(tmp_path / "shot.avi"), "mode": "live"}))
    await world.control.upload(files, lambda *_: None)
    await world.control.deploy(record)
    world.agent("sim", StubDevice(fps=20))
    came: list[float] = []
    for number in range(LENGTH):
        await world.until(lambda number=number: len(results.received) > number, within=300, every=0.05)
        came.append(world.clock.now())
    assert [results.received[n].data["media_time_s"] for n in range(LENGTH)] == pytest.approx(times)
    assert came[4] - came[3] == pytest.approx(100.0, abs=1.0)
    assert came[8] - came[7] == pytest.approx(200.0, abs=1.0)
    await world.until(lambda: ended(world))
    assert (await world.stream()).text == ""
