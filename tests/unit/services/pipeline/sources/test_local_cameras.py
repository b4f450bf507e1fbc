"""Cameras at this host are found by names that stay, in folders such as udev makes; and what `camera:` opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from hams_services.pipeline.sources.camera import Camera, captured
from hams_services.pipeline.sources.v4l2 import Found, LocalCamera, cameras, find
from hams_shared.errors import SourceError

HALL = "usb-046d_HD_Pro_Webcam_C920_1A2B3C4D-video-index0"
HALL_METADATA = HALL.replace("index0", "index1")
DOOR = "usb-Arducam_USB_Camera_UC684-video-index0"


def devices(dev: Path, kind: str = "by-id", **names: str) -> Path:
    """/dev as udev would have it: numbered devices, and names that are linked to them."""
    folder = dev / "v4l" / kind
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*dev.glob("video*"), *folder.iterdir()]:
        old.unlink()
    for number, name in names.items():
        (dev / number).touch()
        (folder / name).symlink_to(f"../../{number}")
    return dev


def error(wanted: str, dev: Path, known: str = "") -> str:
    with pytest.raises(SourceError) as raised:
        find(wanted, known, dev)
    return str(raised.value)


def test_a_number_is_a_device_with_its_name(tmp_path: Path) -> None:
    dev = devices(tmp_path, video0=HALL, video1=HALL_METADATA, video2=DOOR)
    assert find("2", dev=dev) == Found(f"{dev}/video2", DOOR)
    assert find("/dev/video0", dev=dev) == Found(f"{dev}/video0", HALL)
    assert find("7", dev=dev) == Found(f"{dev}/video7", "")  # opening it tells that there is none


def test_a_path_is_opened_as_it_is(tmp_path: Path) -> None:
    assert find(f"/dev/v4l/by-id/{DOOR}", dev=tmp_path) == Found(f"/dev/v4l/by-id/{DOOR}", "")


@pytest.mark.parametrize("wanted", [HALL, "C920", "c920", "1A2B3C4D"])
def test_a_name_or_a_unique_part_of_it_is_enough(tmp_path: Path, wanted: str) -> None:
    dev = devices(tmp_path, video3=HALL_METADATA, video4=HALL, video5=DOOR)
    assert find(wanted, dev=dev) == Found(f"{dev}/video4", HALL)
    assert find(HALL_METADATA, dev=dev).path == f"{dev}/video3"


def test_a_name_that_fits_several_or_none_lists_what_there_is(tmp_path: Path) -> None:
    dev = devices(tmp_path, video0=HALL, video2=DOOR)
    assert error("usb", dev) == f"camera usb is ambiguous (it may be {HALL}, {DOOR})"
    assert error("Brio", dev) == f"camera Brio cannot be opened: no camera has this name (there are {HALL}, {DOOR})"
    assert f"{tmp_path}/none/v4l/by-id holds none" in error("Brio", tmp_path / "none")


def test_a_numbered_camera_is_found_under_another_number(tmp_path: Path) -> None:
    first = find("0", dev=devices(tmp_path, video0=HALL, video2=DOOR))
    assert first.name == HALL
    assert find("0", first.name, devices(tmp_path, video3=HALL, video2=DOOR)) == Found(f"{tmp_path}/video3", HALL)


def test_another_camera_with_its_number_is_not_opened_instead(tmp_path: Path) -> None:
    dev = devices(tmp_path, video0=DOOR)
    told = error("0", dev, HALL)
    assert f"{HALL} is not plugged in" in told
    assert f"{dev}/video0 is another camera now: camera:{DOOR}" in told
    assert "plug it in again" in error("0", devices(tmp_path), HALL)


def test_a_name_whose_device_is_gone_is_no_name(tmp_path: Path) -> None:
    dev = devices(tmp_path, video0=HALL)
    (dev / "video0").unlink()
    assert "no camera has this name" in error("C920", dev)


def test_cameras_are_listed_by_names_that_stay(tmp_path: Path) -> None:
    """What cannot be asked whether it gives pictures (here: files) is listed."""
    dev = devices(tmp_path, video10=DOOR, video2=HALL)
    (dev / "video0").touch()
    by_path = "platform-csi-video-index0"
    (dev / "v4l" / "by-path").mkdir()
    (dev / "v4l" / "by-path" / by_path).symlink_to("../../video0")
    (dev / "video1").touch()
    assert cameras(dev) == [
        LocalCamera(f"camera:{dev}/v4l/by-path/{by_path}", f"{dev}/video0", ""),
        LocalCamera(f"camera:{dev}/video1", f"{dev}/video1", ""),
        LocalCamera(f"camera:{HALL}", f"{dev}/video2", ""),
        LocalCamera(f"camera:{DOOR}", f"{dev}/video10", ""),
    ]
    assert cameras(tmp_path / "none") == []


def test_no_device_and_no_camera_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no /dev/video250"):
        Camera("250")
    page = tmp_path / "no-camera"
    page.write_text("a page")
    with pytest.raises(SourceError, match=r"camera /.*/no-camera cannot be opened: Inappropriate ioctl for device"):
        Camera(str(page))


def test_the_capture_time_is_that_of_the_drivers_clock() -> None:
    assert captured(99.9, 100.0, 1e9) == pytest.approx(1e9 - 0.1)
    assert captured(None, 100.0, 1e9) is None
    assert captured(1e9, 100.0, 1e9) is None  # of another clock
    assert captured(80.0, 100.0, 1e9) is None


def test_a_real_camera_gives_pictures() -> None:
    here = cameras()
    if not here:
        pytest.skip("CAMERAS ARE NOT TESTED HERE: this machine has no /dev/video device")
    camera = Camera(here[0].source.partition(":")[2])
    try:
        picture = camera.read()
        assert picture is not None
        assert picture.pixels.ndim == 3
    finally:
        camera.close()
