"""Cameras at this host: names that stay, in folders such as udev makes; and what `camera:` opens and reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from hams_services.pipeline.sources.camera import Camera, captured
from hams_services.pipeline.sources.v4l2 import Found, LocalCamera, cameras, find, settings
from hams_shared.errors import SourceError
from support.video_device import VideoDevices

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


@pytest.fixture
def devices_played(tmp_path: Path) -> VideoDevices:
    return VideoDevices(tmp_path)


def test_frames_come_as_the_driver_gives_them(devices_played: VideoDevices) -> None:
    """Odd sizes are not multiples of what FFmpeg aligns rows to."""
    told = devices_played.python("""
import json
from hams_services.pipeline.sources.camera import Camera
from hams_services.pipeline.sources.v4l2 import cameras

plug(0, "Hall")
plug(1, "Hall", "metadata")
print([[c.source, c.card] for c in cameras(dev)])
camera = Camera("Hall", dev)
seen = [camera.read() for _ in range(6)]
age = time.time() - seen[-1].captured
print(camera.fps, camera.decoder, {p.pixels.shape for p in seen}, 0 <= age < 5)
print([int(p.pixels[100, 100].mean()) for p in seen])
print(sorted(p.at for p in seen) == [p.at for p in seen] and seen[-1].at - seen[0].at >= 0.19)
print(all(int(p.pixels.max()) - int(p.pixels.min()) <= 2 for p in seen))
try:
    Camera("/".join([str(dev), "video1"]), dev)
except Exception as error:
    print(error)
""").splitlines()
    assert told[0] == "[['camera:usb-Hall-video-index0', 'Hall']]"
    assert told[1] == "25.0 rawvideo 642×362, software {(362, 642, 3)} True"
    greys = [(5 * n * 255 / 219) for n in range(6)]
    assert [int(value) for value in told[2].strip("[]").split(",")] == pytest.approx(greys, abs=1.5)
    assert told[3:5] == ["True", "True"]
    assert "gives no pictures (`hams-ctl cameras list`" in told[5]


def test_a_camera_that_is_plugged_in_again_under_another_number(devices_played: VideoDevices) -> None:
    told = devices_played.python("""
from hams_services.pipeline.sources.camera import Camera

def opened():
    try:
        return Camera("0", dev)
    except Exception as error:
        print(error)

def lost(camera):
    try:
        for _ in range(100):
            camera.read()
    except Exception as error:
        print(error)
        camera.close()

plug(0, "Hall")
camera = opened()
camera.read()
unplug(0)
lost(camera)
opened()
plug(0, "Door", size=(320, 240))
opened()
plug(3, "Hall")
camera = opened()
print(camera.read().pixels.shape)
camera.close()  # not lost: camera:0 means a number again
print(opened().read().pixels.shape)
""").splitlines()
    assert told == [
        "camera 0 is lost: No such device (was it unplugged?)",
        "camera 0 cannot be opened: usb-Hall-video-index0 is not plugged in (plug it in again)",
        "camera 0 cannot be opened: usb-Hall-video-index0 is not plugged in "
        f"({devices_played.dev}/video0 is another camera now: camera:usb-Door-video-index0)",
        "(362, 642, 3)",
        "(240, 320, 3)",
    ]


def test_size_and_rate_of_a_camera_can_be_set(devices_played: VideoDevices) -> None:
    told = devices_played.python("""
from hams_services.pipeline.sources.camera import Camera

plug(0, "Hall")
for wanted in ("0?size=320x180&fps=10", "Hall?fps=50", "0", "0?format=mjpeg"):
    try:
        camera = Camera(wanted, dev)
        print(camera.fps, camera.read().pixels.shape)
        camera.close()
    except Exception as error:
        print(error)
""").splitlines()
    assert told[:3] == ["10.0 (180, 320, 3)", "50.0 (362, 642, 3)", "25.0 (362, 642, 3)"]
    assert told[3].startswith("camera 0?format=mjpeg cannot be opened: Invalid argument")


def test_what_a_camera_is_asked_for() -> None:
    assert settings("C920?size=1280x720&fps=29.97&format=mjpeg") == (
        "C920", {"video_size": "1280x720", "framerate": "29.97", "input_format": "mjpeg"}
    )  # fmt: skip
    assert settings("0?") == ("0", {})
    for bad in ("size=big", "size=0x0", "fps=-1", "format=a,b", "colour=red", "fps"):
        with pytest.raises(SourceError, match=r"cannot be opened: .*there are size=1280x720, fps=30, format=mjpeg"):
            settings(f"0?{bad}")


def test_a_silent_camera_is_lost_and_can_be_opened_again(devices_played: VideoDevices) -> None:
    """No call hangs in the driver: a silent camera is opened, and lost after the deadline, as one that falls silent."""
    told = devices_played.python("""
import hams_services.pipeline.sources.camera as module

module.SILENT_S = 0.5
plug(0, "Hall", "silent")
for _ in range(2):
    camera = module.Camera("0", dev)
    try:
        for number in range(100):
            camera.read()
    except Exception as error:
        print(number > 0, error)
    camera.close()
    plug(0, "Hall")
    if _ == 0:
        camera = module.Camera("0", dev)
        camera.read()
        camera.close()
        plug(0, "Hall", "silent")
""").splitlines()
    assert told == ["False camera 0 is lost: no picture within 0.5 s (was it unplugged?)"] * 2


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
