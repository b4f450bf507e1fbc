"""Clips on the disk: their frames, names and list, and what happens when the disk does not take them."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

from hams_client import Event
from hams_services.sinks.clip_core import ClipCore
from hams_services.sinks.clips import LAST, LIST, ClipFolder, ClipSink, name
from hams_services.sinks.painter import Painter
from hams_shared.errors import SourceError
from support.clips import LEVEL, at, shown
from support.small_disk import small_disk


def person(track: int, size: int, **more: Any) -> dict[str, Any]:
    return {"box": [10, 10, 10 + size, 10 + size], "score": 0.9, "label": "person", "track": track, **more}


async def written(
    folder: ClipFolder, events: Iterable[Event], frames: Iterable[int] = range(40), *objects: dict[str, Any]
) -> ClipSink:
    """Give frames, and each event after its own, then end as Ctrl-C does."""
    sink = ClipSink(ClipCore(1.0, 1.0), folder, asyncio.get_running_loop().time)

    async def reader() -> None:
        waiting = deque(events)
        for number in frames:
            sink.frame(*shown(number, *objects))
            while waiting and waiting[0].frame <= number:
                event = waiting.popleft()
                await sink.event(event, wanted=event.kind == "rule")

    await sink.run([reader()])
    return sink


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LIST).read_text().splitlines()]


def levels(path: Path) -> list[int]:
    """The numbers of the frames in a clip of grey pictures."""
    with av.open(str(path)) as file:
        return [round(float(one.to_ndarray(format="bgr24").mean()) / LEVEL) for one in file.decode(video=0)]


def spread(path: Path) -> float:
    """How much grey levels differ within a picture."""
    with av.open(str(path)) as file:
        return max(float(one.to_ndarray(format="bgr24").std()) for one in file.decode(video=0))


async def test_a_clip_has_its_frames_and_each_event_a_line(tmp_path: Path) -> None:
    events = [at(12, track=3, sequence=5), at(14, track=4, sequence=7, kind="new"), at(14, track=5, sequence=8)]
    sink = await written(ClipFolder(tmp_path / "new"), events)
    first, second = lines(tmp_path / "new")
    assert first["file"] == second["file"] == name(events[0]) + ".mp4"
    assert levels(tmp_path / "new" / first["file"]) == [*range(2, 25)]
    assert (first["first"], first["last"], first["frames"], first["lost"]) == (2, 24, 23, 0)
    assert (first["at_s"], second["at_s"]) == (1.0, 1.2)
    assert (first["event"]["id"], second["event"]["track"]) == (events[0].id, 5)
    assert (tmp_path / "new" / LAST).read_text() == "8\n"
    assert sink.after is None


def test_names_say_time_stream_rule_and_track() -> None:
    one = at(0, track=7, captured=1_800_000_000.1235, rule="stays long/è", stream="front_1")
    assert name(one) == "20270115T080000.123Z-front_1-stays_long_è-7"
    assert name(at(0, track=7, kind="end")).endswith("Z-s0-end-7")


async def test_drawn_or_plain(tmp_path: Path) -> None:
    for folder, painter in (("plain", None), ("drawn", Painter())):
        await written(ClipFolder(tmp_path / folder, painter), [at(5)], range(10), person(1, 30))
    plain, drawn = (tmp_path / folder / f"{name(at(5))}.mp4" for folder in ("plain", "drawn"))
    assert spread(plain) < 2
    assert spread(drawn) > 10


async def test_the_best_crop_of_each_events_track_is_beside_its_clip(tmp_path: Path) -> None:
    events = [at(5, track=1), at(6, track=2), at(7, track=9)]
    found = [person(1, 20), person(2, 30, predicted=True), person(3, 25)]
    await written(ClipFolder(tmp_path, crops=True), events, range(10), *found)
    crops = [line.get("crop") for line in lines(tmp_path)]
    assert crops == [f"{name(events[0])}-best-1.jpg", None, None]  # 2 was never detected, 9 never seen
    assert cv2.imread(str(tmp_path / str(crops[0]))).shape == (20, 20, 3)
    assert sum(name.endswith(".jpg") for name in os.listdir(tmp_path)) == 1


async def test_a_restart_goes_on_and_lists_what_it_cannot_show(tmp_path: Path) -> None:
    await written(ClipFolder(tmp_path), [at(12, sequence=5)])
    with (tmp_path / LIST).open("ab") as file:
        file.write(b'{"event": {"id": "cut by a cra')
    folder = ClipFolder(tmp_path)
    gone, partly = at(15, track=2, sequence=6), at(35, track=3, sequence=9)
    sink = await written(folder, [at(12, sequence=5), gone, partly, partly], range(30, 60))
    assert sink.after == 5
    assert (folder.written, folder.missed) == (1, 1)
    good = [line for line in (tmp_path / LIST).read_text().splitlines() if line.endswith("}")]
    first, second, third = (json.loads(line) for line in good)
    assert first["event"]["track"] == 1
    assert (second["event"]["track"], second["file"], second["first"], second["at_s"]) == (2, None, None, None)
    assert (third["event"]["track"], third["first"], third["last"]) == (3, 30, 45)
    assert (tmp_path / LAST).read_text() == "9\n"


async def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    there = tmp_path / f"{name(at(5))}.mp4"
    there.write_bytes(b"of a sink that was killed")
    await written(ClipFolder(tmp_path), [at(5)], range(10))
    assert there.read_bytes() == b"of a sink that was killed"
    assert lines(tmp_path)[0]["file"] == f"{name(at(5))}-2.mp4"


async def test_ctrl_c_finishes_the_clips_that_are_open(tmp_path: Path) -> None:
    sink = ClipSink(ClipCore(1.0, 60.0), ClipFolder(tmp_path), asyncio.get_running_loop().time)
    ready = asyncio.Event()

    async def reader() -> None:
        for number in range(20):
            sink.frame(*shown(number))
        await sink.event(at(15), wanted=True)
        ready.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(sink.run([reader()]))
    async with asyncio.timeout(30):
        await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (line,) = lines(tmp_path)
    assert (line["first"], line["last"]) == (5, 19)
    assert levels(tmp_path / line["file"]) == [*range(5, 20)]


async def test_what_a_reader_raises_is_raised_and_clips_are_finished(tmp_path: Path) -> None:
    sink = ClipSink(ClipCore(1.0, 1.0), ClipFolder(tmp_path), asyncio.get_running_loop().time)

    async def reader() -> None:
        sink.frame(*shown(0))
        await sink.event(at(0), wanted=True)
        raise SourceError("the stream is gone")

    with pytest.raises(SourceError, match="the stream is gone"):
        await sink.run([reader(), asyncio.Event().wait()])  # type: ignore[list-item]
    assert len(lines(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceError, match=r"cannot write .*clips\.jsonl.*is the folder writable"):
        ClipFolder(tmp_path / "file" / "clips")


async def test_a_folder_that_goes_away_is_named(tmp_path: Path) -> None:
    folder = ClipFolder(tmp_path / "clips")
    (tmp_path / "clips" / LIST).unlink()
    (tmp_path / "clips").rmdir()
    (tmp_path / "clips").write_bytes(b"")
    with pytest.raises(SourceError, match="cannot write"):
        await written(folder, [at(5)], range(10))


async def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "64k") as folder:
        (folder / "filler").write_bytes(bytes(56 << 10))
        with pytest.raises(SourceError, match="No space left on device"):
            await written(ClipFolder(folder, Painter()), [at(20)], range(40), person(1, 30), person(2, 15))
