"""`hams-ctl cameras` as people run it, against simulated cameras."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from hams_services.ctl.actions.cameras import find
from hams_shared.errors import BadInputError, DeadlineError
from hams_shared.group.stream_spec import StreamSpec
from support.onvif_device import MAIN, SUB, OnvifDevice
from support.ports import free_port
from support.wait import PATIENCE, until

SECRET = "pass word%1"
URL = "rtsp://127.0.0.1:554/Streaming/Channels/101?transportmode=unicast"
SMALL = URL.replace("101", "102")
WAIT = ("--timeout", str(20 * PATIENCE))


async def started(*args: str, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hams_services.ctl", "cameras", *args,
        env={**os.environ, "COLUMNS": "80", **(env or {})},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ctl(*args: str, env: Mapping[str, str] | None = None) -> tuple[int | None, str, str]:
    """Exit code, standard output, standard error."""
    process = await started(*args, env=env)
    async with asyncio.timeout(60 * PATIENCE):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("columns", [80, 120])
async def test_a_camera_on_any_console(columns: int) -> None:
    env = {"COLUMNS": str(columns), "HAMS_CAMERA_USER": "admin", "HAMS_CAMERA_PASSWORD": SECRET}
    async with OnvifDevice(password=SECRET) as device:
        code, out, err = await ctl("discover", "--address", device.place, *WAIT, env=env)
    assert (code, err) == (0, "")
    assert SECRET not in out
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0].split(": ") == [device.place, "Acme DS-2CD�31m"]
    assert all(len(line) <= columns for line in lines if "source" not in line and "substream" not in line)
    shown = " ".join(out.split())
    assert all(word in shown for word in ("mainStream", "1920×1080", "25", "H264", "subStream", "640×360", URL, SMALL))
    assert ("profile" in lines[1]) == (columns == 120)  # a list where the table does not fit
    streams = yaml.safe_load("\n".join(lines[lines.index("streams:") :]))["streams"]
    assert streams == {"acme-ds-2cd-31m": {"source": URL, "substream": SMALL}}
    StreamSpec.model_validate(streams["acme-ds-2cd-31m"])


async def test_one_bad_device_hides_no_other() -> None:
    async with OnvifDevice() as good, OnvifDevice(password=SECRET) as closed, OnvifDevice(mood="malformed") as bad:
        places = [closed.place, bad.place, good.place]
        where = [part for place in places for part in ("--address", place)]
        code, out, _ = await ctl("discover", *where, *WAIT, "--json")
        answer = json.loads(out)
        assert code == 0
        told = [camera["error"] and camera["error"]["code"] for camera in answer["cameras"]]
        assert told == ["refused", "bad-message", None]
        assert answer["streams"] == {"acme-ds-2cd-31m": {"source": URL, "substream": SMALL}}
        assert [p["name"] for p in answer["cameras"][2]["profiles"]] == ["mainStream", "subStream"]

        code, out, err = await ctl("discover", *where[:4], *WAIT)
        assert code == 7
        assert "asks for a user and password" in " ".join(out.split())
        assert "not valid ONVIF" in " ".join(out.split())
        assert "streams:" not in out
        assert "Traceback" not in err


async def test_secrets_in_a_cameras_address_are_hidden_and_mentioned() -> None:
    leaky = type(MAIN)("main", 640, 480, "rtsp://10.1.1.1/user=admin_password=hunter2_channel=1")
    async with OnvifDevice(profiles=(leaky, SUB)) as device:
        code, out, _ = await ctl("discover", "--address", device.place, *WAIT, "--debug")
    assert code == 0
    assert "hunter2" not in out
    assert "source: rtsp://10.1.1.1/user=admin_password=***\n" in out
    assert "write it instead of ***" in out


async def test_cameras_of_the_network_are_found_and_ctrl_c_ends_the_search() -> None:
    """With WS-Discovery's own group and port: a camera of this network may answer, too."""
    async with OnvifDevice("Gate 7", multicast=("239.255.255.250", 3702)) as device:
        code, out, _ = await ctl("discover", "--timeout", str(3 * PATIENCE))
        assert code == 0
        assert f"{device.place}: Gate 7, Acme DS-2CD" in out
        assert "  gate-7:\n" in out

        asked = len(device.probes)
        process = await started("discover", "--timeout", "600")
        await until(lambda: len(device.probes) > asked, 30, "the search")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20 * PATIENCE):
            out_, err = await process.communicate()
        assert (process.returncode, out_) == (130, b"")
        assert b"Traceback" not in err


async def test_no_camera_on_the_network() -> None:
    with pytest.raises(DeadlineError, match="no ONVIF camera answered within 0.3 s") as raised:
        await find([], None, None, 0.3, ("239.255.255.250", free_port(udp=True)))
    assert all(word in raised.value.hint for word in ("same network", "firewall", "multicast", "--address"))


@pytest.mark.parametrize("bad", ["", "a b", "host:port", "host:99999", "ftp://host/", "http://u:pw@host/", "host:0"])
async def test_addresses_that_are_none(bad: str) -> None:
    with pytest.raises(BadInputError, match="--address is not HOST") as raised:
        await find([bad], None, None, 1.0)
    assert "pw" not in str(raised.value)


async def test_a_login_needs_both() -> None:
    code, _, err = await ctl("discover", "--user", "admin")
    assert code == 2
    assert "HAMS_CAMERA_PASSWORD is not set" in " ".join(err.split())
    code, _, err = await ctl("discover", "--password-file", "none")
    assert code == 2
    assert "--password-file goes with --user" in " ".join(err.split())
    code, _, err = await ctl("discover", "--user", "admin", "--password-file", "none")
    assert code == 2
    assert "cannot read none" in " ".join(err.split())


async def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "onvif.py").write_text("raise ModuleNotFoundError('not here', name='onvif')\n")
    code, _, err = await ctl(
        "discover", env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    )
    assert code == 2
    assert err == "error: ONVIF needs onvif (pip install 'hams[onvif]')\n"


async def test_the_cameras_of_this_host() -> None:
    code, out, err = await ctl("list")
    if any(name.startswith("video") for name in os.listdir("/dev")):
        assert code == 0
        assert "camera:" in out
    else:
        assert code == 5
        assert "this host has no camera" in err
        assert json.loads((await ctl("list", "--json"))[1]) == {"cameras": []}
