"""Sources that are not files: cameras over the network that come and go, and frames of applications."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

import hams_client
from hams_client import Pushed
from hams_shared.errors import NotFoundError
from support.grey import LENGTH, STEP, group_file, picture, video
from support.ports import free_port
from support.results import Subscriber
from support.sources import opened, played
from support.up import ROOT, Up
from support.wait import PATIENCE, until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


class CameraServer:
    """A camera that sends Motion JPEG, and can be switched off and on again at the same address."""

    def __init__(self, port: int = 0, *, lengths: bool = True) -> None:
        camera = self
        self._lengths = lengths

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                number = 0
                while not camera.off.is_set():
                    data = cv2.imencode(".jpg", picture(number % LENGTH))[1].tobytes()
                    length = f"Content-Length: {len(data)}\r\n" if camera._lengths else ""
                    try:
                        head = f"--frame\r\nContent-Type: image/jpeg\r\n{length}\r\n"
                        self.wfile.write(head.encode() + data + b"\r\n")
                    except OSError:
                        return
                    number += 1
                    camera.off.wait(0.02)

            def log_message(self, *args: object) -> None: ...

        self.off = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.off.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def state(up: Up) -> str:
    return str(up.stream()["state"])


@pytest.mark.parametrize("lengths", [True, False], ids=["with lengths", "without lengths"])
def test_a_network_camera_that_is_not_there_comes_goes_and_comes_back(tmp_path: Path, lengths: bool) -> None:
    port = free_port()
    with Up(tmp_path / "home", "openvino:CPU@0") as up:
        up.ctl("deploy", group_file(tmp_path, f"http://127.0.0.1:{port}/video"))
        until_sync(lambda: state(up) == "reconnecting", 30, "reconnecting")
        assert "cannot be opened" in up.stream()["text"]
        for _ in range(2):
            camera = CameraServer(port, lengths=lengths)
            before = up.stream()["delivered"]
            until_sync(lambda before=before: up.stream()["delivered"] >= before + 20, 60, "frames")
            up.json_when(lambda s: s["streams"][0]["state"] == "playing" and not s["streams"][0]["text"], "status")
            camera.stop()
            until_sync(lambda: state(up) == "reconnecting", 30, "reconnecting")
        stream = up.check_ledger()
        assert not stream["failed"]
        up.ctl("undeploy", "grey")


def test_a_page_that_is_no_video_says_so(tmp_path: Path) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Up(tmp_path / "home", "openvino:CPU@0") as up:
        up.ctl("deploy", group_file(tmp_path, f"http://user:secret@127.0.0.1:{server.server_port}/"))
        until_sync(lambda: "the server sends no video" in up.stream()["text"], 30, "the reason")
        assert "secret" not in up.ctl("status", "--json") + up.logs()
    server.shutdown()
    server.server_close()


async def feed(url: str, count: int) -> list[hams_client.Result]:
    """Push frames as numpy arrays, PNG bytes and files in turn, and gather their results."""
    received: list[hams_client.Result] = []
    async with hams_client.connect(url) as hams, hams.results("grey") as results:
        for number in range(count):
            image: hams_client.Image = picture(number)
            if number % 3 == 1:
                image = cv2.imencode(".png", picture(number))[1].tobytes()
            assert (await hams.push("grey", "s0", image)).frame == number
        while len(received) < count:
            async with asyncio.timeout(30):
                received.append(await anext(results))
        large = np.full((1600, 2000, 3), 80, np.uint8)  # 9.2 MiB: more than the broker takes in one message
        assert len(large.tobytes()) > hams.bus.max_payload
        assert abs((await hams.infer("grey", large)).objects[0]["light"]["value"] - 80) < 1
        single = await hams.infer("grey", picture(10))
        assert abs(single.objects[0]["light"]["value"] - 10 * STEP) < 1
    return received


def test_frames_of_an_application(tmp_path: Path) -> None:
    with Up(tmp_path / "home", "openvino:CPU@0") as up:
        up.ctl("deploy", group_file(tmp_path, "push", mode="lossless"))
        received = asyncio.run(feed(up.url, 30))
        assert [r.frame for r in received] == list(range(30))
        for result in received:
            [one] = result.objects
            assert one.label == "frame"
            assert tuple(one.box) == (0, 0, 640, 480)
            assert abs(one["light"]["value"] - STEP * result.frame) < 1

        with hams_client.sync.connect(up.url) as hams:
            assert hams.push("grey", "s0", picture(7)) == Pushed(30, overloaded=False)
            assert abs(hams.infer("grey", picture(9)).objects[0]["light"]["value"] - 9 * STEP) < 1
            with pytest.raises(NotFoundError):
                hams.infer("nobody", picture(0))
            with pytest.raises(TimeoutError):
                next(hams.results("grey", timeout=0.2))

        # the application that draws live, on frames of its own
        app = [
            sys.executable,
            str(ROOT / "examples" / "apps" / "draw.py"),
            "grey",
            str(video(tmp_path)),
            "--nats",
            up.url,
        ]
        drawn = tmp_path / "drawn.mp4"
        done = subprocess.run(
            [*app, "--stream", "s0", "--out", str(drawn)], capture_output=True, text=True, timeout=120 * PATIENCE
        )
        assert done.returncode == 0, done.stderr
        assert f"{LENGTH} frames" in done.stdout
        assert len(played(opened(drawn)).numbers) == LENGTH


def test_a_pattern_of_images_and_an_application_that_counts(tmp_path: Path) -> None:
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"shot{number}.png"), picture(number))
    (tmp_path / "notes.txt").write_text("no image")
    with Up(tmp_path / "home", "openvino:CPU@0") as up:
        file = group_file(tmp_path, str(tmp_path / "shot*.png"), mode="lossless", pace="max")
        with Subscriber(up.url, "grey") as results:
            app = [
                sys.executable,
                str(ROOT / "examples" / "apps" / "count.py"),
                "grey",
                "--frames",
                "8",
                "--nats",
                up.url,
            ]
            with subprocess.Popen(app, stdout=subprocess.PIPE, text=True) as counting:
                assert counting.stdout is not None
                assert counting.stdout.readline() == "listening to grey\n"
                up.ctl("deploy", file)
                results.until(8)
                assert counting.wait(90 * PATIENCE) == 0
                assert counting.stdout.read().splitlines() == ["s0 #0: 1 frame"]
        assert [round(r.objects[0]["light"]["value"] / STEP) for r in results.received] == list(range(8))
        up.ctl("undeploy", "grey")
        bad = group_file(tmp_path, str(tmp_path / "none*.png"))
        said = up.deploy_says("stream grey/s0 failed: no image matches", bad, code=2)
        assert "on the pipeline's host" in said or "in the pipeline's container" in said
        assert up.stream()["state"] == "failed"
