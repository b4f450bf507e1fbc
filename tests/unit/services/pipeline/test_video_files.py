"""Video files as people have them: what a source yields of each, when, and its notes on damage."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from hams_services.pipeline.sources.base import Source
from hams_services.pipeline.sources.opening import open_source
from hams_services.pipeline.sources.truncated import cut_off
from hams_services.pipeline.stream import LONGEST_STEP_S, MediaTime
from hams_shared.errors import SourceError
from support.avi import avi, jpeg, ticks

SHAPE = (48, 64, 3)


def noise(seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def written(path: Path, codec: str, frames: int = 50, shape: tuple[int, int, int] = SHAPE) -> Path:
    """A file of pictures that compress badly, so that each takes its part of the file."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, shape[1::-1])
    assert writer.isOpened(), codec
    for number in range(frames):
        writer.write(noise(number, shape))
    writer.release()
    return path


def played(source: Source) -> tuple[list[np.ndarray], list[float | None], str]:
    """All frames, their times, and the error at the end."""
    frames: list[np.ndarray] = []
    times: list[float | None] = []
    try:
        while (image := source.read()) is not None:
            frames.append(image.copy())
            times.append(source.at)
    except SourceError as error:
        return frames, times, str(error)
    finally:
        source.close()
    return frames, times, ""


def levels(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame.mean())) for frame in frames]


def test_each_frame_has_its_own_time(tmp_path: Path) -> None:
    times, values = [0.0, 0.04, 0.08, 1.5, 1.54, 3.0], [10, 50, 90, 130, 170, 210]
    source = open_source(str(avi(tmp_path / "varying.avi", ticks(times, 100, values), 100)))
    frames, at, error = played(source)
    assert not error
    assert levels(frames) == pytest.approx(values, abs=2)
    assert at == pytest.approx(times, abs=0.011)


def test_empty_chunks_are_no_damage(tmp_path: Path) -> None:
    """A file "of 1000 frames/s", as FFmpeg writes it with -r 1000, holds 25 pictures a second."""
    times = [n / 25 for n in range(50)]
    source = open_source(str(avi(tmp_path / "r1000.avi", ticks(times, 1000, range(0, 250, 5)), 1000)))
    frames, at, error = played(source)
    assert not error
    assert len(frames) == 50
    assert at == pytest.approx(times, abs=0.0011)
    assert "50 hold a picture" in source.note  # but there is a note


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.avi", "MJPG"), ("v.mp4", "mp4v"), ("v.mkv", "MJPG"), ("v.webm", "VP80"), ("v.ts", "mpg2"), ("v.flv", "FLV1")],
)
def test_whole_files_have_all_frames_and_those_that_are_cut_say_so(tmp_path: Path, name: str, codec: str) -> None:
    whole = written(tmp_path / name, codec)
    assert cut_off(whole) == ""
    source = open_source(str(whole))
    frames, times, error = played(source)
    assert (len(frames), error, source.note) == (50, "", "")
    assert times == pytest.approx([n / 25 for n in range(50)], abs=0.002)
    if name == "v.mp4":
        return  # its index is at its end: without it, it cannot be opened
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6) // 188 * 188 + 100])
    frames, _, error = played(open_source(str(cut)))
    assert f"{cut} is truncated or corrupt: it ends after {len(frames)} " in error
    assert 15 <= len(frames) <= 45


def test_what_is_hidden_from_the_length_of_the_file_is_found_too(tmp_path: Path) -> None:
    """A download that was given its full length first, and stopped."""
    data = written(tmp_path / "v.avi", "MJPG").read_bytes()
    hollow = tmp_path / "hollow.avi"
    hollow.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    frames, _, error = played(open_source(str(hollow)))
    assert 20 <= len(frames) <= 30
    assert f"it ends after {len(frames)} of 50 frames" in error


def test_a_file_that_ends_before_its_clock_is_reported_and_is_no_failure(tmp_path: Path) -> None:
    """In a Matroska file the time may be that of longer sound."""
    data = written(tmp_path / "v.mkv", "MJPG").read_bytes()
    hollow = tmp_path / "hollow.mkv"
    hollow.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    source = open_source(str(hollow))
    frames, _, error = played(source)
    assert error == ""
    assert 20 <= len(frames) <= 30
    assert source.note.startswith("pictures end at ")
    assert " of 2.0 s" in source.note


@pytest.mark.parametrize(("name", "codec"), [("v.ts", "mpg2"), ("v.avi", "MJPG")])
def test_another_size_in_mid_stream_is_never_squeezed(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    if codec == "MJPG":
        avi(path, [jpeg(40)] * 20 + [jpeg(80, (128, 96))] * 20, 25)
    else:
        parts = [written(tmp_path / f"{n}{name}", codec, 20, s) for n, s in enumerate([SHAPE, (96, 128, 3)])]
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, _, error = played(open_source(str(path)))
    wide = [n for n, frame in enumerate(frames) if frame.shape[1] == 128]
    assert all(frame.shape in (SHAPE, (96, 128, 3)) for frame in frames)
    if not wide:  # refused, with what to do
        assert 18 <= len(frames) <= 20
        assert f"changes from 64×48 to 128×96 pixels after {len(frames)} frames" in error
        assert "scale=128:96" in error


def animation(suffix: str, values: list[int], durations: list[int]) -> bytes:
    made = cv2.Animation()
    made.frames = [
        np.dstack([np.full((48, 64, 3), value, np.uint8), np.full((48, 64), 255, np.uint8)]) for value in values
    ]
    made.durations = durations
    good, data = cv2.imencodeanimation(suffix, made)
    assert good
    return bytes(data)


animated = pytest.mark.skipif(not hasattr(cv2, "imencodeanimation"), reason="OpenCV before 4.11 makes no animations")


@animated
@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_animations_are_played_whole(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hams_services.pipeline.sources.animated.PIXELS_AT_ONCE", 64 * 48 * 2)  # in batches of two
    values, durations = [10, 60, 110, 160, 210], [100, 100, 700, 100, 100]
    path = tmp_path / f"moving{suffix}"
    path.write_bytes(animation(suffix, values, durations))
    source = open_source(str(path))
    for _ in range(2):
        frames, times, error = played(source)
        assert error == ""
        assert levels(frames) == pytest.approx(values, abs=3)
        assert times == pytest.approx([0.0, 0.1, 0.2, 0.9, 1.0], abs=0.011)
        source.rewind()
    source.close()


@animated
def test_an_animation_in_a_folder_is_played_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "b.webp").write_bytes(animation(".webp", [60, 110, 160], [100] * 3))
    for name, value in (("a.png", 10), ("c.png", 210)):
        cv2.imwrite(str(tmp_path / name), np.full(SHAPE, value, np.uint8))
    frames, times, _ = played(open_source(str(tmp_path)))
    assert levels(frames) == pytest.approx([10, 60, 110, 160, 210], abs=3)
    assert times == [None] * 5  # the folder has no clock


@animated
@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_an_animation_cut_off_is_an_error(tmp_path: Path, suffix: str) -> None:
    data = animation(suffix, list(range(0, 250, 10)), [100] * 25)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: len(data) * 2 // 3])
    assert "truncated or corrupt" in played(open_source(str(path)))[2]


def test_media_time_is_the_file_s_own() -> None:
    media = MediaTime(0.04)
    assert [media.next(at) for at in (5.0, 5.04, 6.0)] == pytest.approx([0.0, 0.04, 1.0])
    media.restart()  # the last frame is shown as long as the one before, at most a second
    assert [media.next(at) for at in (5.0, 5.04)] == pytest.approx([1.96, 2.0])


@pytest.mark.parametrize("at", [None, 4.0, 5.0, 5.0 + 2 * LONGEST_STEP_S])
def test_where_the_clock_is_missing_or_jumps_a_frame_takes_its_usual_time(at: float | None) -> None:
    media = MediaTime(0.04)
    media.next(5.0)
    assert media.next(at) == pytest.approx(0.04)
    assert media.next(None if at is None else at + 0.5) == pytest.approx(0.08 if at is None else 0.54)


def test_a_folder_starts_over_after_its_last_picture() -> None:
    media = MediaTime(0.5)
    assert [media.next(None), media.next(None)] == [0.0, 0.5]
    media.restart()
    assert media.next(None) == 1.0
