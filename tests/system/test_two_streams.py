"""A camera's two streams, from real servers with a password, through a real system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.grey import group_file
from support.results import Subscriber
from support.rtsp_server import RtspServer
from support.up import Up
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
PASSWORD = "p4ss/W@rd"
LARGE, SMALL = (640, 480), (160, 120)


def test_two_streams_of_a_camera_play_fail_and_come_back_and_their_passwords_are_nowhere(tmp_path: Path) -> None:
    with (
        RtspServer(user="admin", password=PASSWORD, sizes=(LARGE,)) as large,
        RtspServer(user="admin", password=PASSWORD, sizes=(SMALL,)) as small,
        Up(tmp_path / "home", "openvino:CPU@0") as up,
        Subscriber(up.url, "grey") as results,
    ):
        source, substream = (one.start().url.replace("//", f"//admin:{PASSWORD}@") for one in (large, small))
        shown = [up.ctl("deploy", group_file(tmp_path, source, substream=substream))]
        results.until(40)
        assert {result.size for result in results.received} == {LARGE}
        times = [result.media_time_s for result in results.received]
        assert all(time is not None for time in times)
        assert (np.diff(np.array(times, float)) > 0).all()
        stream = up.json_when(lambda s: s["streams"][0]["state"] == "playing", "status")["streams"][0]
        assert f"{LARGE[0]}" in stream["decoder"]
        assert f"{SMALL[0]}" in stream["decoder"].partition("substream:")[2]

        small.kill()
        until_sync(lambda: up.stream()["state"] == "reconnecting", 60, "reconnecting")
        shown += [up.ctl("status"), up.ctl("status", "--json"), up.ctl("plan", tmp_path / "group.yaml", "--json")]
        count = len(results.received)
        small.start()
        results.until(count + 20)
        frames = results.frames  # read once: they go on coming
        assert frames == sorted(set(frames))
        shown += [up.logs(), up.output(), repr(results.received[-1].data)]
        for text in shown:
            for secret in (PASSWORD, "W@rd", "p4ss"):
                assert secret not in text
