"""Video files as people have them: what a source gives of each, when, and how it reports damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from hams_services.pipeline.sources.truncated import cut_off
from hams_shared.errors import SourceError
from support.media import (
    STEPS,
    cut,
    every,
    joined,
    number_of,
    overwritten,
    picture,
    sound,
    trimmed,
    two_codecs,
    uneven,
    video,
)
from support.sources import opened, played


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.webm", "libvpx-vp9")])
def test_each_frame_has_its_own_time(tmp_path: Path, name: str, codec: str) -> None:
    """30 frames 40 ms apart, then 30 frames 200 ms apart."""
    found = played(opened(video(tmp_path / name, uneven(), codec=codec)))
    assert found.error == ""
    assert found.in_order(60)
    assert found.times == pytest.approx(uneven(), abs=0.0011)


@pytest.mark.parametrize(("codec", "pixel_format"), [("mjpeg", "yuvj420p"), ("mpeg4", "yuv420p")])
def test_empty_chunks_are_no_damage(tmp_path: Path, codec: str, pixel_format: str) -> None:
    """A file "of 1000 frames/s", as FFmpeg writes it with -r 1000; most of its chunks are empty."""
    path = video(tmp_path / "r1000.avi", uneven(), codec=codec, pixel_format=pixel_format, ticks=1000)
    source = opened(path)
    found = played(source)
    assert (found.error, source.note, source.damaged) == ("", "", 0)
    assert found.in_order(60)
    assert found.times == pytest.approx(uneven(), abs=0.0011)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"), [("v.ts", "libx264", "yuv420p"), ("v.avi", "mjpeg", "yuvj420p")]
)
def test_frames_change_their_size_in_mid_stream(tmp_path: Path, name: str, codec: str, pixel_format: str) -> None:
    sizes = ((320, 240), (640, 360))
    path = video(tmp_path / name, every(0.04, 40), codec=codec, pixel_format=pixel_format, sizes=sizes, ticks=25)
    source = opened(path)
    found = played(source)
    assert (found.error, source.note) == ("", "")
    assert found.sizes == [sizes[0]] * 20 + [sizes[1]] * 20
    assert found.in_order(40)
    assert found.times == pytest.approx([found.times[0] + n * 0.04 for n in range(40)])  # type: ignore[operator]


def test_the_codec_changes_in_mid_stream(tmp_path: Path) -> None:
    """FFmpeg ends the last frame of the first codec when the next one begins: it gets lost."""
    source = opened(two_codecs(tmp_path / "codecs.ts"))
    found = played(source)
    assert found.error == ""
    assert found.numbers == [number % STEPS for number in range(60) if number != 29]
    assert found.times[:28] + found.times[29:] == pytest.approx([n * 0.04 for n in range(60) if n not in (28, 29)])
    assert source.decoder == "hevc 64×48, software"
    assert source.damaged <= 1


@pytest.mark.parametrize("angle", [90, -90, 180])
def test_frames_are_turned_upright(tmp_path: Path, angle: int) -> None:
    """A telephone that was held upright films frames that lie on their side, and an angle to turn them by."""
    path = video(tmp_path / "turned.mp4", rotation=angle, turned=-angle)
    source = opened(path)
    found = played(source)
    assert found.upright
    assert set(found.sizes) == {(64, 48)}
    assert found.in_order(30)
    into = np.zeros((48, 64, 3), np.uint8)
    source = opened(path)
    shot = source.read(into)
    assert shot is not None
    assert shot.pixels is into
    source.close()


def test_frames_are_turned_as_a_frame_before_says(tmp_path: Path) -> None:
    """An angle within H.264, not in the container, is stated with some frames only."""
    path = tmp_path / "within.mkv"
    with av.open(str(video(tmp_path / "v.mkv", turned=-90))) as whole, av.open(str(path), "w") as file:
        stream = file.add_stream_from_template(whole.streams[0])
        within = av.BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", whole.streams[0])
        for packet in whole.demux():
            for changed in within.filter(packet if packet.size else None):
                changed.stream = stream
                file.mux(changed)
    found = played(opened(path))
    assert found.upright
    assert set(found.sizes) == {(64, 48)}
    assert found.in_order(30)


def test_a_recording_that_begins_between_key_frames_is_not_damaged(tmp_path: Path) -> None:
    path = video(tmp_path / "v.ts", every(0.04, 100))
    path.write_bytes(path.read_bytes()[188 * 5 :])  # the first key frame, every twelfth is one
    source = opened(path)
    found = played(source)
    assert len(found.numbers) >= 80
    assert (found.error, source.note) == ("", "")


WHOLE = [
    ("v.mp4", "libx264", "yuv420p", {"movflags": "faststart"}),
    ("v.mkv", "libx264", "yuv420p", {}),
    ("v.ts", "libx264", "yuv420p", {}),
    ("v.avi", "mjpeg", "yuvj420p", {"ticks": 25}),
    ("v.webm", "libvpx-vp9", "yuv420p", {}),
    ("v.flv", "libx264", "yuv420p", {}),
]


@pytest.mark.parametrize(("name", "codec", "pixel_format", "more"), WHOLE, ids=[w[0][2:] for w in WHOLE])
def test_whole_files_have_all_frames_and_truncated_ones_say_so(
    tmp_path: Path, name: str, codec: str, pixel_format: str, more: Any
) -> None:
    path = video(tmp_path / name, every(0.04, 50), codec=codec, pixel_format=pixel_format, noise=20, **more)
    assert cut_off(path) == ""
    source = opened(path)
    found = played(source)
    assert (found.error, source.note, source.damaged) == ("", "", 0)
    assert found.in_order(50)
    start = found.times[0]
    assert start is not None
    assert found.times == pytest.approx([start + n / 25 for n in range(50)], abs=0.002)

    short = cut(path)
    found = played(opened(short))
    assert f"{short} is truncated or corrupt: it ends after {len(found.numbers)} " in found.error
    assert 25 <= len(found.numbers) <= 31
    assert found.numbers[:-1] == list(range(len(found.numbers) - 1))  # of the last one only a part may be there


@pytest.mark.parametrize(("name", "codec", "pixel_format", "more"), WHOLE, ids=[w[0][2:] for w in WHOLE])
def test_what_is_corrupt_in_the_middle_is_skipped_counted_and_reported(
    tmp_path: Path, name: str, codec: str, pixel_format: str, more: Any
) -> None:
    path = video(tmp_path / name, every(0.04, 50), codec=codec, pixel_format=pixel_format, noise=20, **more)
    source = opened(overwritten(path))
    found = played(source)
    assert found.error == ""
    assert found.numbers[:18] == list(range(18))
    if name == "v.webm":  # nothing can be found behind the damage
        assert "pictures end at 0.8 s of 2.0 s" in source.note
        return
    assert found.numbers[-12:] == [number % STEPS for number in range(38, 50)]
    silent = {"v.flv"} if int(av.__version__.partition(".")[0]) < 19 else {"v.flv", "v.mkv"}
    if name not in silent:  # FFmpeg reports nothing, and the container lists nothing
        assert source.damaged > 0
        assert f"{source.damaged} of " in source.note


def test_an_mp4_without_its_index_cannot_be_opened(tmp_path: Path) -> None:
    """The index is at its end. A copy that was cut off has none."""
    short = cut(video(tmp_path / "v.mp4", every(0.04, 50), noise=20))
    with pytest.raises(SourceError, match=r"v-cut\.mp4 cannot be opened: .*: its last \d+ bytes are missing"):
        opened(short)


@pytest.mark.parametrize(
    ("start", "seconds", "shown"), [(0.0, 2.0, 50), (1.0, 2.0, 50), (1.2, 2.8, 70), (0.4, 0.08, 2)], ids=str
)
def test_a_video_that_was_trimmed_without_coding_it_anew_is_whole(
    tmp_path: Path, start: float, seconds: float, shown: int
) -> None:
    """As telephones and QuickTime do: all frames stay in the file, and its edit list leaves some out."""
    source = opened(trimmed(video(tmp_path / "v.mp4", every(0.04, 100)), start, seconds))
    for _ in range(2):
        found = [shot for _ in range(shown) if (shot := source.read()) is not None]
        assert [number_of(shot.pixels) for shot in found] == [(round(start * 25) + n) % STEPS for n in range(shown)]
        assert [shot.at for shot in found] == pytest.approx(every(0.04, shown), abs=0.001)
        assert source.read() is None
        assert source.note == ""
        source.rewind()
    source.close()


def test_a_trimmed_video_that_ends_before_its_edit_list_does_is_corrupt(tmp_path: Path) -> None:
    """Its index is in front, and its last box has no length: the bytes that are missing cannot be counted."""
    path = trimmed(video(tmp_path / "v.mp4", every(0.04, 100), noise=20, movflags="faststart"), 0.0, 3.0)
    data = bytearray(path.read_bytes())
    box = data.index(b"mdat")
    data[box - 4 : box] = bytes(4)
    path.write_bytes(data[: len(data) // 2])
    assert cut_off(path) == ""
    found = played(opened(path))
    assert "is truncated or corrupt: it ends after" in found.error
    assert 40 <= len(found.numbers) <= 60


def test_a_download_that_stopped_is_no_whole_file(tmp_path: Path) -> None:
    """It was given its full length first: zeros follow."""
    path = video(tmp_path / "v.avi", every(0.04, 50), codec="mjpeg", pixel_format="yuvj420p", noise=20, ticks=25)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    source = opened(path)
    found = played(source)
    count = len(found.numbers)
    assert 20 <= count <= 30
    assert found.numbers[:-1] == list(range(count - 1))
    assert source.note.startswith("pictures end at 1.0 s of 2.0 s")


@pytest.mark.parametrize("times", [[0.0], [0.0, 10.0, 20.0], [0.0, 0.04, 60.0]], ids=str)
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_slow_and_single_frames_are_no_damage(tmp_path: Path, name: str, times: list[float]) -> None:
    source = opened(video(tmp_path / name, times))
    found = played(source)
    assert (found.error, source.note, source.damaged) == ("", "", 0)
    assert found.in_order(len(times))


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.flv", "v.nut", "v.ts"])
def test_a_video_that_begins_late_is_whole(tmp_path: Path, name: str) -> None:
    source = opened(video(tmp_path / name, every(0.04, 30, 100.0)))
    found = played(source)
    assert (found.error, source.note, source.damaged) == ("", "", 0)
    assert found.in_order(30)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 0), (1, 0, 1)], ids=str)
def test_sound_and_further_streams_are_passed_over(tmp_path: Path, order: tuple[int, ...]) -> None:
    """The decoder of MPEG-2 holds the last frame back until it is told that there are no more."""
    parts = video(tmp_path / "v.mkv", every(0.04, 30), codec="mpeg2video", ticks=25), sound(tmp_path / "sound.mkv")
    source = opened(joined(tmp_path / "both.mkv", *(parts[n] for n in order)))
    found = played(source)
    assert (found.error, source.note, source.damaged) == ("", "", 0)
    assert found.in_order(30)
    assert found.times == pytest.approx(every(0.04, 30), abs=0.001)


def test_the_cover_of_an_album_is_no_video(tmp_path: Path) -> None:
    cover = video(tmp_path / "cover.mov", [0.0], codec="mjpeg", pixel_format="yuvj420p")
    with pytest.raises(SourceError, match=r"song\.mp4 holds no video, only audio"):
        opened(joined(tmp_path / "song.mp4", sound(tmp_path / "sound.mp4"), covers=[cover]))
    source = opened(joined(tmp_path / "film.mp4", video(tmp_path / "v.mp4"), covers=[cover]))
    found = played(source)
    assert (found.error, source.note, source.damaged) == ("", "", 0)
    assert found.in_order(30)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("ten bits.mp4", "libx265", "yuv420p10le"),
        ("grey.mkv", "ffv1", "gray"),
        ("sixteen bits.mkv", "ffv1", "gray16le"),
        ("transparent.webm", "libvpx-vp9", "yuva420p"),
        ("transparent.mov", "qtrle", "argb"),
        ("transparent png.mov", "png", "rgba"),
        ("4:4:4 %d.mp4", "libx264", "yuv444p"),
        ("twelve bits.mkv", "ffv1", "yuv444p12le"),
        ("odd.mkv", "ffv1", "bgr0"),
    ],
)
def test_formats_of_pixels(tmp_path: Path, name: str, codec: str, pixel_format: str) -> None:
    size = (63, 47) if name == "odd.mkv" else (64, 48)
    path = video(tmp_path / name, every(0.04, 30), codec=codec, pixel_format=pixel_format, sizes=(size,))
    source = opened(path)
    found = played(source)
    assert (found.error, source.note) == ("", "")
    assert found.in_order(30)
    assert found.upright
    assert set(found.sizes) == {size}
    first = opened(path).read()
    assert first is not None
    assert np.abs(first.pixels.astype(int) - picture(0, size)).mean() < 3.5  # without a tint too
    if pixel_format.startswith("gray"):  # of 16 bits, the upper 8
        assert (first.pixels == first.pixels[:, :, :1]).all()
    if pixel_format == "gray16le":
        assert np.abs(first.pixels.astype(int) - picture(0, size)).max() <= 1


def test_files_that_hold_no_video_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"sound\.mp4 holds no video, only audio"):
        opened(sound(tmp_path / "sound.mp4"))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(SourceError, match=r"empty\.mp4 is empty: it has 0 bytes"):
        opened(empty)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(SourceError, match=r"text\.mp4 cannot be opened: Invalid data.* \(is it a video"):
        opened(text)


@pytest.mark.parametrize("name", ["pipe.mp4", "pipe.jpg"])
def test_a_pipe_is_refused_before_it_blocks(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match=rf"{name} is not a file"):
        opened(tmp_path / name)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_file_in_a_folder_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", picture(7))[1].tobytes())
    odd = tmp_path / "b.png"
    {"folder": odd.mkdir, "pipe": lambda: os.mkfifo(odd), "link": lambda: odd.symlink_to("nowhere")}[kind]()
    found = played(opened(tmp_path))
    assert found.numbers == [7]
    assert str(odd) in found.error
    assert "defect in HAMS" not in found.error


@pytest.mark.parametrize("name", ["v.mp4", "v.png", "shots", "shots/v.png", "shots/*.png"])
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "shots").mkdir()
    for file in ("v.mp4", "v.png", "shots/v.png"):
        (tmp_path / file).write_bytes(b"it is not read")
    opened(tmp_path / "v.png").close()  # all is imported
    tmp_path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # may read all
            os.seteuid(65534)
        with pytest.raises(SourceError, match=r"cannot be read: Permission denied \(may the pipeline's user"):
            opened(tmp_path / name)
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)


def test_key_frames_alone(tmp_path: Path) -> None:
    found = played(opened(video(tmp_path / "v.mp4", every(0.04, 60)), decode={"every": "keyframe"}))
    assert found.error == ""
    assert found.numbers == [0, 12, 24, 0, 12]
    assert found.times == pytest.approx([0.0, 0.48, 0.96, 1.44, 1.92])


def test_a_file_starts_over(tmp_path: Path) -> None:
    source = opened(video(tmp_path / "v.mkv", uneven()))
    for _ in range(2):
        found = [source.read() for _ in range(10)]
        assert [shot.at for shot in found if shot] == pytest.approx(every(0.04, 10))
        source.rewind()
    assert played(source).in_order(60)


def test_what_decodes_it_is_reported(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mp4")
    source = opened(path)
    assert source.decoder == "h264 64×48, software"
    source.close()
    source = opened(path, decode={"hardware": "auto"})  # where there is none, why
    assert source.decoder.startswith("h264 64×48, ")
    assert "software, no " in source.decoder or "software" not in source.decoder
    assert played(source).in_order(30)
