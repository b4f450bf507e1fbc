"""Cameras that speak RTSP, against a real server; and cameras that take a connection and then say nothing."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from hams_client import Result
from support.grey import LENGTH, STEP, group_file, video
from support.media import STEPS, value
from support.results import Subscriber
from support.rtsp_server import FPS, SIZE, RtspServer
from support.up import Up
from support.wait import until_sync

DARKER = 1.1
"""Of greys, see :func:`support.media.number_of`."""
pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def until_state(up: Up, state: str, text: str = "", timeout: float = 60) -> None:
    def reached() -> bool:
        stream = up.stream()
        return stream["state"] == state and text in stream["text"]

    until_sync(reached, timeout, f"{state} {text}")


def in_order(results: list[Result]) -> bool:
    """Whether these are frames sent, in order, by their grey and by both their times. A live stream may drop some."""
    seen = np.array([r.objects[0]["light"]["value"] for r in results]) + DARKER
    sent = np.array([value(n) for n in range(STEPS)])
    nearest = np.abs(seen[:, None] - sent).argmin(axis=1)
    assert np.abs(seen - sent[nearest]).max() < 2.5  # 5 apart
    steps = np.diff(nearest) % STEPS
    media = np.diff([r.media_time_s for r in results])
    assert (np.round(media * FPS) % STEPS == steps).all()
    assert np.diff([r.captured for r in results]) == pytest.approx(media, abs=0.002)
    return len(results) >= 40


def test_an_rtsp_camera_comes_falls_silent_dies_and_comes_back(tmp_path: Path) -> None:
    with RtspServer() as camera, Up(tmp_path / "home", "openvino:CPU@0") as up, Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group_file(tmp_path, camera.url))
        until_state(up, "reconnecting", "Connection refused")
        camera.start()
        results.until(80)
        up.json_when(lambda s: s["streams"][0]["state"] == "playing" and not s["streams"][0]["text"], "status")
        assert results.received[0].size == SIZE
        assert in_order(results.received[-60:])

        camera.freeze()
        until_state(up, "reconnecting")
        log = tmp_path / "home" / "logs" / "pipeline.log"  # the status tells it for some seconds only
        until_sync(lambda: "no data in time" in log.read_text(), 60, "why it is lost, in the log")
        camera.kill()
        count = len(results.received)
        camera.start()
        results.until(count + 30)
        until_state(up, "playing")
        frames = results.frames  # read once: they go on coming
        assert frames == sorted(set(frames))  # frames count on over all connections
        times = [r.media_time_s for r in results.received]
        assert times == sorted(times)  # and so do times
        assert not up.check_ledger()["failed"]


def test_a_camera_that_comes_and_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    def held() -> int:
        return sum(len(list(Path(f"/proc/{up.pid_of('pipeline')}/{kind}").iterdir())) for kind in ("fd", "task"))

    camera = RtspServer(frames=12, hangs_up=True, fps=50)
    with camera.start(), Up(tmp_path / "home", "openvino:CPU@0") as up, Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group_file(tmp_path, camera.url))
        results.until(5 * 12)
        before = held()
        results.until(35 * 12, 120)
        assert held() <= before + 4  # one connection and its socket may be open or not
        until_state(up, "reconnecting", "next try in 1 s")  # each frame starts the pauses anew
        frames = results.frames
        assert frames == sorted(set(frames))
        assert not up.check_ledger()["failed"]


def test_what_is_no_camera_is_named(tmp_path: Path) -> None:
    with Up(tmp_path / "home", "openvino:CPU@0") as up:
        up.ctl("deploy", group_file(tmp_path, up.url.replace("nats://", "rtsp://admin:hunter2@")))
        until_state(up, "reconnecting", "does not speak RTSP")
        up.ctl("deploy", group_file(tmp_path, "camera:250"))
        until_state(up, "reconnecting", "there is no /dev/video250")
        assert "hunter2" not in up.logs()


def test_cameras_that_hang_hold_up_neither_other_streams_nor_the_end(tmp_path: Path) -> None:
    """Twelve servers take connections and never answer, more than a process has threads to wait in by default."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        group = yaml.safe_load(group_file(tmp_path, video(tmp_path), mode="lossless", pace="max").read_text())
        for number in range(12):
            scheme = "rtsp" if number % 2 else "http"
            group["streams"][f"hung{number}"] = {"source": f"{scheme}://{address}/{number}"}
        file = tmp_path / "hung.yaml"
        file.write_text(yaml.safe_dump(group, sort_keys=False))
        with Up(tmp_path / "home", "openvino:CPU@0") as up, Subscriber(up.url, "grey") as results:
            start = time.monotonic()
            up.ctl("deploy", file)
            results.until(LENGTH, 60)
            assert [round(r.objects[0]["light"]["value"] / STEP) for r in results.received] == list(range(LENGTH))
            until_sync(lambda: up.stream("s0")["state"] == "ended", 20, "the file ends")
            until_sync(lambda: up.stream("hung1")["state"] == "reconnecting", 40, "the cameras are given up")
            print(f"deployed and played in {time.monotonic() - start:.1f} s")
            pid = up.pid_of("pipeline")
            start = time.monotonic()
            assert up.stop() == 0, up.output()
            print(f"stopped in {time.monotonic() - start:.1f} s")
            assert not Path(f"/proc/{pid}").exists()
            assert "Traceback" not in up.logs()
