"""Image files: their limits, which are known before they are decoded; folders; animations."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from hams_services.pipeline.pixel_budget import PixelBudget
from hams_services.pipeline.sources import base
from hams_services.pipeline.sources.base import MAX_PIXELS
from hams_services.pipeline.sources.image_files import Images
from hams_services.pipeline.sources.images import as_frame, decode_image, image_size
from hams_shared.errors import OverloadedError, SourceError
from hams_shared.wire.frame_pool import POOLED_BYTES, FrameStore
from support.bombs import bmp, png
from support.media import number_of, picture, video
from support.sources import opened, played
from support.up import ROOT


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_the_size_is_in_the_header(suffix: str) -> None:
    data = cv2.imencode(suffix, np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    assert image_size(data) == (40, 30)
    assert decode_image(data).shape == (30, 40, 3)


@pytest.mark.parametrize("data", [png(20000, 20000), png(12000, 12000), bmp(40000, 40000), bmp(40000, -40000)])
def test_more_pixels_than_are_taken_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"million allowed|cannot? be decoded"):
        decode_image(data)


@pytest.mark.parametrize(
    "data", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"]
)
def test_what_is_no_image_is_named(data: bytes) -> None:
    with pytest.raises(SourceError, match="can be decoded"):
        decode_image(data)


def test_raw_pixels_are_limited_alike() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(SourceError, match="million allowed"):
        as_frame(bytes(side * side * 3), (side, side, 3))
    with pytest.raises(SourceError, match="send height×width×3"):
        as_frame(b"123", (1, 1, 4))


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    """Refused in a process that has 400 MB more than it needs; decoded it would take 1.2 GB."""
    (tmp_path / "bomb.png").write_bytes(png(20000, 20000))
    code = """
import resource, sys
from pathlib import Path
from hams_services.pipeline.sources.image_files import Images
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 400_000_000,) * 2)
Images([Path(sys.argv[1])]).read()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bomb.png")],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'shared'}", "PATH": "/usr/bin:/bin"},
    )
    assert "SourceError" in done.stderr, done.stderr
    assert "20000×20000 pixels" in done.stderr


def test_a_folder_goes_up_to_the_bomb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(png(12000, 12000))
    images = Images([tmp_path / "a.png", tmp_path / "b.png"])
    assert images.read() is not None
    with pytest.raises(SourceError, match=r"b\.png has 12000×12000 pixels"):
        images.read()


@pytest.mark.parametrize("broken", [b"", b"no image", "half"])
def test_a_folder_goes_up_to_its_broken_image(tmp_path: Path, broken: bytes | str) -> None:
    for number, name in enumerate(["a.png", "b.png", "d.png"]):
        cv2.imwrite(str(tmp_path / name), picture(number))
    whole = cv2.imencode(".png", picture(2, noise=20))[1].tobytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2] if isinstance(broken, str) else broken)
    found = played(opened(tmp_path))
    assert found.numbers[:2] == [0, 1]
    assert f"{tmp_path / 'c.png'} is " in found.error


def test_a_video_of_huge_frames_is_refused_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "large.avi", codec="mjpeg", pixel_format="yuvj420p", sizes=((640, 480),))
    opened(path).close()
    monkeypatch.setattr(base, "MAX_PIXELS", 640 * 479)
    with pytest.raises(SourceError, match=r"large\.avi has 640×480 pixels"):
        opened(path)


def test_only_so_many_pixels_are_under_way() -> None:
    budget = PixelBudget(limit=100)
    with budget.taken(20, 20), pytest.raises(OverloadedError, match="under way"), budget.taken(1, 1):
        pass  # alone, any is taken
    with budget.taken(5, 10), budget.taken(5, 10), pytest.raises(OverloadedError), budget.taken(1, 1):
        pass
    with budget.taken(10, 10):
        pass


def test_huge_frames_are_kept_out_of_shared_memory() -> None:
    store = FrameStore(2)
    store.put(0, np.zeros((1, POOLED_BYTES // 3 + 1, 3), np.uint8))
    found = store.get(0)
    assert found is not None
    assert found[1] is None
    store.drop(0)
    store.close()


animated = pytest.mark.skipif(not hasattr(cv2, "imencodeanimation"), reason="OpenCV before 4.11 makes no animations")


def animation(suffix: str, numbers: list[int], durations: list[int]) -> bytes:
    """Frames `numbers`, each shown for as many ms as in `durations`."""
    made = cv2.Animation()
    made.frames = [np.dstack([picture(number), np.full((48, 64), 255, np.uint8)]) for number in numbers]
    made.durations = durations
    good, data = cv2.imencodeanimation(suffix, made)
    assert good
    return bytes(data)


@animated
@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_animations_are_played_whole(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hams_services.pipeline.sources.animated.PIXELS_AT_ONCE", 64 * 48 * 2)  # in batches of two
    path = tmp_path / f"moving{suffix}"
    path.write_bytes(animation(suffix, [0, 10, 20, 30, 35], [100, 100, 700, 100, 100]))
    source = opened(path)
    for _ in range(2):
        found = [source.read() for _ in range(5)]
        assert [number_of(shot.pixels) for shot in found if shot] == [0, 10, 20, 30, 35]
        assert [shot.at for shot in found if shot] == pytest.approx([0.0, 0.1, 0.2, 0.9, 1.0], abs=0.011)
        assert source.read() is None
        source.rewind()
    source.close()


@animated
def test_a_closed_animation_gives_its_frames_back_at_once(tmp_path: Path) -> None:
    """They can be 268 MB, which should not wait for the collection of garbage."""
    path = tmp_path / "moving.webp"
    path.write_bytes(animation(".webp", [0, 10, 20], [100] * 3))
    source = opened(path)
    assert source.read() is not None
    kept = weakref.ref(source)
    source.close()
    gc.disable()
    try:
        del source
        assert kept() is None
    finally:
        gc.enable()


@animated
def test_an_animation_in_a_folder_is_played_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "b.webp").write_bytes(animation(".webp", [5, 10, 15], [100] * 3))
    for name, number in (("a.png", 0), ("c.png", 20)):
        cv2.imwrite(str(tmp_path / name), picture(number))
    found = played(opened(tmp_path))
    assert found.numbers == [0, 5, 10, 15, 20]
    assert found.times == [None] * 5  # the folder has no clock


@animated
@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_an_animation_cut_off_is_an_error(tmp_path: Path, suffix: str) -> None:
    data = animation(suffix, list(range(25)), [100] * 25)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: len(data) * 2 // 3])
    assert "truncated or corrupt" in played(opened(path)).error
