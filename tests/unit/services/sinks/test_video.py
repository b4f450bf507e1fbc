"""A video shows its frames at their own times: what was dropped leaves its gap."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from hams_services.sinks.video import LONGEST_GAP_S, VideoFiles
from hams_shared.errors import SourceError
from support.results import result

SHAPE = (480, 640, 3)


def picture(value: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.full(shape, value, np.uint8)


def written(path: Path, times: list[float]) -> Path:
    """Write a video, whose frames are brighter and brighter."""
    files = VideoFiles(path)
    for frame, time in enumerate(times):
        files.write(result(frame, time), picture(10 * frame % 250))
    assert files.close() == [path]
    return path


def frames(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def times_in(path: Path) -> list[float]:
    """When each picture of a video is shown, s."""
    shown = []
    for frame in frames(path):
        assert frame.pts is not None
        assert frame.time_base is not None
        shown.append(float(frame.pts * frame.time_base))
    return shown


def levels(path: Path) -> list[int]:
    """How bright each picture of a video is."""
    return [round(float(frame.to_ndarray(format="bgr24").mean()) / 10) * 10 for frame in frames(path)]


VARIABLE = [n * 0.04 for n in range(15)] + [0.6 + n * 0.2 for n in range(10)] + [3.1, 3.1333, 17.0]


@pytest.mark.parametrize(("name", "off"), [("out.mp4", 0.5 / 90_000), ("out.mkv", 0.5 / 1000)])
def test_each_frame_has_its_own_time(tmp_path: Path, name: str, off: float) -> None:
    path = written(tmp_path / "new" / name, VARIABLE)
    assert times_in(path) == pytest.approx(VARIABLE, abs=off + 1e-9)
    assert levels(path) == [10 * n % 250 for n in range(len(VARIABLE))]
    with av.open(str(path)) as file:
        assert file.streams.video[0].codec_context.name == "h264"


def test_the_first_frame_begins_the_file_whatever_its_time(tmp_path: Path) -> None:
    path = written(tmp_path / "out.mp4", [1e6 + time for time in VARIABLE])
    assert times_in(path) == pytest.approx(VARIABLE, abs=1 / 90_000)


@pytest.mark.parametrize(("times", "last"), [([0.0, 0.04, 0.54], 0.5), ([7.0], 0.04)])
def test_the_last_frame_lasts_as_long_as_the_one_before(tmp_path: Path, times: list[float], last: float) -> None:
    with av.open(str(written(tmp_path / "out.mp4", times))) as file:
        stream = file.streams.video[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(times[-1] - times[0] + last)


def test_without_media_time_the_capture_counts(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "out.mp4")
    for frame, captured in enumerate((1e9, 1e9 + 0.1, 1e9 + 0.5)):
        files.write(result(frame, None, captured=captured), picture(50 * (frame + 1)))
    files.close()
    assert times_in(tmp_path / "out.mp4") == pytest.approx([0.0, 0.1, 0.5], abs=1e-5)


def test_a_stream_that_starts_over_goes_on_and_a_long_gap_is_shortened(tmp_path: Path) -> None:
    times = [100.0, 100.5, 0.0, 0.5, 0.5 + 10 * LONGEST_GAP_S, 1.0 + 10 * LONGEST_GAP_S]
    path = written(tmp_path / "out.mp4", times)
    after = 1.5 + LONGEST_GAP_S
    assert times_in(path) == pytest.approx([0.0, 0.5, 1.0, 1.5, after, after + 0.5], abs=1e-5)


def test_no_two_frames_have_one_time(tmp_path: Path) -> None:
    times = times_in(written(tmp_path / "out.mp4", [0.0, 0.0, 0.000001, 1.0, 1.0, 2.0]))
    assert times == pytest.approx([0.0, 0.0, 0.0, 1.0, 1.0, 2.0], abs=1e-4)
    assert all(before < after for before, after in itertools.pairwise(times))


def test_colours_are_kept(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "out.mp4")
    files.write(result(0, 0.0), np.full(SHAPE, (200, 60, 20), np.uint8))
    files.close()
    shown = frames(tmp_path / "out.mp4")[0].to_ndarray(format="bgr24")
    assert shown[240, 320].tolist() == pytest.approx([200, 60, 20], abs=5)


@pytest.mark.parametrize("shape", [(481, 641, 3), (481, 640, 3), (480, 641, 3)])
def test_odd_sizes(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    files = VideoFiles(tmp_path / "out.mp4")
    image = np.broadcast_to(np.linspace(0, 255, shape[1], dtype=np.uint8)[None, :, None], shape).copy()
    files.write(result(0, 0.0), image)
    files.close()
    shown = frames(tmp_path / "out.mp4")[0].to_ndarray(format="bgr24")
    assert shown.shape == (shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, 3)
    assert np.abs(shown[: shape[0], : shape[1]].astype(int) - image).max() < 12


def test_another_size_keeps_its_proportions(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "out.mp4")
    files.write(result(0, 0.0), picture(200))
    files.write(result(1, 0.04), picture(200, (960, 480, 3)))
    files.close()
    image = frames(tmp_path / "out.mp4")[1].to_ndarray(format="bgr24")
    assert image.shape == SHAPE
    assert image[:, 205:435].mean() == pytest.approx(200, abs=5)  # 240 wide, in the middle
    assert image[:, :190].mean() == pytest.approx(0, abs=5)


def test_each_stream_has_its_file(tmp_path: Path) -> None:
    files = VideoFiles(tmp_path / "out.mp4")
    for stream in ("a", "b"):
        files.write(result(0, 0.0, stream=stream), picture(100))
    assert files.close() == [tmp_path / "out.mp4", tmp_path / "out-b.mp4"]
    assert levels(tmp_path / "out-b.mp4") == [100]


def test_a_recording_that_is_there_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = written(tmp_path / "out.mp4", [0.0])
    kept = first.read_bytes()
    assert not [one for one in caplog.records if one.name.startswith("hams")]
    (tmp_path / "out-2.mp4").touch()
    files = VideoFiles(first)
    for stream in ("a", "b", "3"):  # the name of the last one would be that of the first one's file
        files.write(result(0, 0.0, stream=stream), picture(100))
    assert [path.name for path in files.close()] == ["out-3.mp4", "out-b.mp4", "out-3-2.mp4"]
    assert first.read_bytes() == kept
    assert "out.mp4 is there already: stream a goes into" in caplog.text


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_killed_sink_leaves_a_file_that_plays(tmp_path: Path, suffix: str) -> None:
    """The file is read as it stands on the disk while the sink still writes."""
    path, copy = tmp_path / f"out{suffix}", tmp_path / f"killed{suffix}"
    files = VideoFiles(path)
    for frame in range(100):
        files.write(result(frame, frame / 25), picture(2 * frame))
    shutil.copy(path, copy)
    files.close()
    left = times_in(copy)
    assert 100 - 2 * 25 <= len(left) <= 100
    assert left == pytest.approx([n / 25 for n in range(len(left))], abs=0.0006)


def test_without_x264_the_times_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    path = written(tmp_path / "out.mp4", VARIABLE)
    assert times_in(path) == pytest.approx(VARIABLE, abs=1 / 60_000)
    with av.open(str(path)) as file:
        assert file.streams.video[0].codec_context.name == "mpeg4"


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"ends in \.mp4 or \.mkv"):
        VideoFiles(tmp_path / "out.avi")


def test_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files = VideoFiles(tmp_path / "file" / "out.mp4")
    with pytest.raises(SourceError, match="cannot write .*out.mp4: .*is the folder writable"):
        files.write(result(0, 0.0), picture(100))
    assert files.close() == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.symlink_to("/dev/full")
    files = VideoFiles(path)
    with pytest.raises(SourceError, match="No space left on device.*disk not full"):
        for frame in range(100):
            files.write(result(frame, frame / 25), picture(2 * frame))
    files.close()  # what was written before is left, and nothing else is said
