"""Network cameras are found and asked. They are simulated: SOAP, digests, WS-Discovery on the loopback network."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from hams_services.ctl.onvif.ask import Login, ask
from hams_services.ctl.onvif.camera import OnvifCamera, Profile, Suggestion, as_text, stream_url, suggestions
from hams_services.ctl.onvif.search import Answer, read, search
from hams_shared.errors import HamsError, MessageError
from hams_shared.group.findings import NAME_PATTERN
from support.onvif_device import MAIN, SUB, OnvifDevice
from support.ports import free_port
from support.wait import PATIENCE

GROUP = "239.255.255.250"
LONG = 20 * PATIENCE
LOGIN = Login("admin", "pass word")
URL = "rtsp://127.0.0.1:554/Streaming/Channels/101?transportmode=unicast"


def answer(device: OnvifDevice) -> Answer:
    return Answer(f"http://{device.place}/onvif/device_service", device.name)


async def failure(device: OnvifDevice, login: Login | None = None, seconds: float = LONG) -> HamsError:
    async with device:
        found = await ask(answer(device), login, seconds)
    assert found.error is not None
    assert device.place in found.error.text
    return found.error


async def test_a_camera_tells_model_profiles_and_streams() -> None:
    async with OnvifDevice(password=LOGIN.password) as device:
        found = await ask(answer(device), LOGIN, LONG)
    assert found.error is None
    assert (found.name, found.model) == ("Front door", "Acme DS-2CD�31m")
    assert found.profiles == (
        Profile("mainStream", "VideoSource_1", 1920, 1080, 25.0, "H264", URL),
        Profile("subStream", "VideoSource_1", 640, 360, 10.0, "H264", URL.replace("101", "102")),
    )
    assert suggestions([found]) == [Suggestion("front-door", found.profiles[0].url, found.profiles[1].url)]


async def test_a_camera_without_a_login_an_old_one_and_one_whose_clock_is_wrong() -> None:
    for device, login in (
        (OnvifDevice(), None),
        (OnvifDevice(old=True, password=LOGIN.password), LOGIN),
        (OnvifDevice(clock=timedelta(days=-4000, hours=3), password=LOGIN.password), LOGIN),
    ):
        async with device:
            found = await ask(answer(device), login, LONG)
        assert found.error is None
        assert [one.name for one in found.profiles] == ["mainStream", "subStream"]
    assert device.asked.count("GetStreamUri") == 2


async def test_a_camera_behind_nat_is_asked_where_it_answers() -> None:
    async with OnvifDevice(says="192.168.77.7") as device:
        found = await ask(answer(device), None, LONG)
    assert found.error is None
    assert found.profiles[0].url == URL.replace("127.0.0.1", "192.168.77.7")


@pytest.mark.parametrize("status", [400, 401])
async def test_a_wrong_password_and_none(status: int) -> None:
    device = OnvifDevice(password=LOGIN.password, refused=status)
    wrong = await failure(device, Login("admin", "wrong"))
    assert "refuses user and password" in wrong.text
    assert "wrong" not in str(wrong)
    none = await failure(device)
    assert "asks for a user and password (--user NAME" in str(none)


async def test_a_device_that_does_not_answer() -> None:
    silent = await failure(OnvifDevice(mood="silent"), seconds=0.5)
    assert "does not answer within 0.5 s" in silent.text


async def test_devices_that_are_no_cameras() -> None:
    assert "not valid ONVIF" in (await failure(OnvifDevice(mood="malformed"))).text
    assert "not valid ONVIF" in (await failure(OnvifDevice(mood="html"))).text
    assert "breaks off" in (await failure(OnvifDevice(mood="breaks"))).text
    assert "has no media profile" in (await failure(OnvifDevice(profiles=()))).text
    gone = await ask(Answer(f"http://127.0.0.1:{free_port()}/onvif/device_service"), None, LONG)
    assert gone.error is not None
    assert "cannot be reached: Connection refused" in gone.error.text


async def test_the_search_finds_every_camera_once_and_names_what_it_cannot_read() -> None:
    group = (GROUP, free_port(udp=True))
    door, gate, bad = (OnvifDevice(name, multicast=group) for name in ("Front door", "Gate", "Bad"))
    bad.mood = "malformed"
    async with door, gate, bad:
        found = await search(1.0 * PATIENCE, group)
    good = [one for one in found if one.error is None]
    assert {(one.address, one.name, one.model) for one in good} == {
        (f"http://{one.place}/onvif/device_service", one.name, "DS-2CD") for one in (door, gate)
    }
    (wrong,) = [one for one in found if one.error is not None]
    assert "answers the search with malformed XML" in str(wrong.error)


async def test_the_search_ends_without_an_answer() -> None:
    assert await search(0.5, (GROUP, free_port(udp=True))) == []


def test_answers_that_are_no_cameras() -> None:
    device = OnvifDevice()
    device.port = 80
    told = device.match(b"NetworkVideoTransmitter")
    assert told is not None
    (camera,) = read(told, "127.0.0.1")
    assert camera.address == "http://127.0.0.1:80/onvif/device_service"  # of its addresses the one that answered
    (other,) = read(told, "192.168.1.2")
    assert other == camera  # a device on two networks; link-local addresses need more than an address
    assert read(told.replace(b"onvif://www.onvif.org", b"ldap:///"), "127.0.0.1") == []  # a printer
    assert read(told.replace(b"http://127", b"file://127").replace(b"http://[", b"http://"), "127.0.0.1") == []
    for bad in (b"", b"\xff\xfe\x00", told[:-9], b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + told):
        with pytest.raises(MessageError, match="malformed XML"):
            read(bad, "127.0.0.1")


def profile(width: int, height: int, url: str, video: str = "1") -> Profile:
    return Profile(url, video, width, height, 25.0, "H264", url)


def test_the_largest_stream_is_the_source_and_a_smaller_one_the_substream() -> None:
    offered = (
        profile(640, 480, "other-shape"),
        profile(352, 198, "too-small"),
        profile(3840, 2160, "large"),
        profile(640, 352, "right"),
        profile(1920, 1080, "middle"),
        profile(3840, 2160, "as-large"),
        profile(0, 0, "unknown"),
        profile(9999, 9999, ""),
        profile(1280, 720, "second", "2"),
        profile(320, 180, "second-small", "2"),
        profile(1920, 1080, "third", "3"),
        profile(704, 576, "third-small", "3"),
        profile(704, 576, "fourth", "4"),
    )
    assert suggestions([OnvifCamera("a", "Recorder", profiles=offered)]) == [
        Suggestion("recorder", "large", "right"),
        Suggestion("recorder-2", "second", "second-small"),
        Suggestion("recorder-3", "third", "third-small"),
        Suggestion("recorder-4", "fourth", None),
    ]


def test_names_of_streams_fit_group_files_and_differ() -> None:
    names = ["IPC", "IPC", "Front door", "2. Stock", "正門", "x" * 60]
    cameras = [OnvifCamera(name, name, profiles=(profile(640, 480, "a"),)) for name in names]
    found = [one.name for one in suggestions([*cameras, OnvifCamera("none", "none")])]
    assert found == ["ipc", "ipc-2", "front-door", "camera-2-stock", "camera", "x" * 40]
    assert all(re.fullmatch(NAME_PATTERN, name) for name in found)


def test_addresses_have_no_secrets_and_a_host_that_works() -> None:
    for told, shown in (
        ("rtsp://admin:secret@10.0.0.2:554/1", "rtsp://10.0.0.2:554/1"),
        ("rtsp://10.0.0.2/user=admin_password=secret_channel=1", "rtsp://10.0.0.2/user=admin_password=***"),
        ("rtsp://0.0.0.0:8554/live", "rtsp://10.0.0.9:8554/live"),
        (" rtsp://10.0.0.2/a\n", "rtsp://10.0.0.2/a"),
        ("http://10.0.0.2/a", ""),
        ("rtsp://10.0.0.2/\x1b[31m", ""),
        (None, ""),
    ):
        assert stream_url(told, "10.0.0.9") == shown


def test_texts_of_cameras_cannot_command_the_terminal() -> None:
    assert as_text("A\x1b[31m\nB\x9b \u202e") == "A�[31m B�  �".replace("  ", " ")
    assert len(as_text("x" * 1000)) == 200
    assert as_text(None) == ""


def test_main_and_sub_of_the_simulated_camera_have_one_shape() -> None:
    assert MAIN.width * SUB.height == MAIN.height * SUB.width
