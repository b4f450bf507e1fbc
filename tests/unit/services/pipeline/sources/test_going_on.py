"""A source goes on behind a certain frame, exactly: as if all before had been read."""

from __future__ import annotations

import os
import random
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from hams_services.pipeline.sources import files
from hams_services.pipeline.sources.base import Picture, Source
from hams_shared.errors import SourceError
from support.media import frames, picture
from support.sources import opened

COUNT = 260
"""Frames: of the slowest streams half a minute."""

OPEN_GOP = {"x264-params": "bframes=3:b-pyramid=normal:keyint=40:min-keyint=40:scenecut=0:open-gop=1:ref=3"}
CASES: dict[str, tuple[str, str, dict[str, str]]] = {
    "B-frames": ("v.mp4", "libx264", {"x264-params": "bframes=3:keyint=25:b-adapt=0"}),
    "open groups of pictures": ("v.mkv", "libx264", OPEN_GOP),
    "open groups, MP4": ("v.mp4", "libx264", OPEN_GOP),
    "one key frame": ("v.mp4", "libx264", {"x264-params": "bframes=3:keyint=infinite"}),
    "MPEG-TS": ("v.ts", "libx264", {"x264-params": "bframes=2:keyint=30"}),
    "HEVC": ("v.mp4", "libx265", {"x265-params": "log-level=none:bframes=3:keyint=30"}),
    "VP9": ("v.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "30"}),
    "MPEG-4": ("v.avi", "mpeg4", {"bf": "0", "g": "20"}),
    "no times": ("v.h264", "libx264", {"x264-params": "bframes=2:keyint=30"}),
}


def written(path: Path, codec: str, options: dict[str, str]) -> Path:
    """A video of an uneven rate: two frames have 20 to 190 ms between them."""
    steps = random.Random(5)
    times = [0.0, *accumulate(steps.choice((0.02, 0.04, 0.04, 0.19)) for _ in range(COUNT - 1))]
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=1000, options={"preset": "ultrafast", **options})
        assert isinstance(stream, av.VideoStream)
        context: Any = stream.codec_context
        context.width, context.height, context.pix_fmt, context.thread_count = 64, 48, "yuv420p", 1
        ticks = 25 if path.suffix in (".avi", ".h264") else 1000
        context.time_base = Fraction(1, ticks)
        shown = [n / 25 for n in range(COUNT)] if ticks == 25 else times
        for frame in (*frames(enumerate(shown), (64, 48), noise=20, ticks=ticks), None):
            file.mux(stream.encode(frame))
    return path


def rest(source: Source) -> list[Picture]:
    """What it still gives; its end is no error."""
    found = []
    while (shot := source.read()) is not None:
        found.append(Picture(shot.pixels.copy(), shot.at))
    source.close()
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_next_frame_is_exactly_the_next(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SEEK_FROM", 1)
    name, codec, options = CASES[case]
    path = written(tmp_path / name, codec, options)
    whole = rest(opened(path))
    assert len(whole) == COUNT
    for count in (0, 1, 39, 40, 41, 77, 118, 120, 160, 199, 200, 258, COUNT):
        source = opened(path)
        source.skip(count, whole[count - 1].at if count else None)
        found = rest(source)
        assert [one.at for one in found] == [one.at for one in whole[count:]], count
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, whole[count:], strict=True)), count


def test_far_from_the_beginning_it_seeks(tmp_path: Path) -> None:
    name, codec, options = CASES["B-frames"]
    path = written(tmp_path / name, codec, options)
    whole = rest(opened(path))
    source: Any = opened(path)
    assert source._seek(whole[250].at)
    assert source.frames < 120  # it has decoded few
    source.close()
    assert not opened(path)._seek(whole[5].at)  # type: ignore[attr-defined]


def test_a_source_that_has_become_shorter(tmp_path: Path) -> None:
    path = written(tmp_path / "v.mp4", "libx264", {})
    with pytest.raises(SourceError, match=f"has ended before frame {COUNT + 1}"):
        opened(path).skip(COUNT + 1, None)


def test_images_are_left_out_undecoded(tmp_path: Path) -> None:
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
    whole = rest(opened(tmp_path))
    (tmp_path / "1.png").write_bytes(b"no image any more")
    source = opened(tmp_path)
    source.skip(3)
    assert [one.pixels.tolist() for one in rest(source)] == [one.pixels.tolist() for one in whole[3:]]
    source = opened(tmp_path)
    source.skip(5)
    assert rest(source) == []


def test_other_contents_are_another_source(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        cv2.imwrite(str(path), picture(1))
    before = opened(tmp_path).identity
    assert opened(tmp_path).identity == before
    os.utime(paths[1], ns=(1, 1))
    assert opened(tmp_path).identity != before
    video = written(tmp_path / "v.mp4", "libx264", {})
    assert len(opened(video).identity) == 32
    assert opened(video, decode={"every": "keyframe"}).identity != opened(video).identity  # other numbers
