"""Cameras for tests: servers in processes of their own, which can be killed and come back at the same address.

    python -m support.cameras rtsp PORT     H.264 over RTSP, by the package `rtsp` (PyAV, libx264)
    python -m support.cameras mjpeg PORT    Motion JPEG over HTTP

Both send grey pictures of 320×240, 25 frames/s, for ever: frame n has the value 40 + 5 × (n mod 36).
"""

from __future__ import annotations

import http.server
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hams_services.ctl.broker import check_port
from support.wait import until_sync

SIZE = (320, 240)
FPS = 25
STEPS = 36


def picture(number: int) -> np.ndarray:
    return np.full((SIZE[1], SIZE[0], 3), value(number), np.uint8)


def value(number: int) -> int:
    return 40 + 5 * (number % STEPS)


class CameraServer:
    """A camera's server; `with` starts and kills it, `start` and `kill` in between."""

    def __init__(self, kind: str, port: int | None = None) -> None:
        if kind == "rtsp" and (importlib.util.find_spec("rtsp") is None or importlib.util.find_spec("av") is None):
            pytest.skip("RTSP IS NOT TESTED: the packages `rtsp` and `av` are missing (pip install rtsp)")
        self._kind = kind
        self.port = port or check_port("127.0.0.1", 0)
        self.url = f"{'rtsp' if kind == 'rtsp' else 'http'}://127.0.0.1:{self.port}/live"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        root = Path(__file__).parents[1]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", ""), *sys.path])}
        argv = [sys.executable, "-m", "support.cameras", self._kind, str(self.port)]
        self._process = subprocess.Popen(argv, env=env)
        until_sync(self._listening, 30, f"{self._kind} server")

    def _listening(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the camera's server ended"
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and says nothing more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> CameraServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


def serve_rtsp(port: int) -> None:
    import rtsp
    from PIL import Image

    pictures = [Image.fromarray(picture(n)) for n in range(STEPS)]
    with rtsp.Source(f"rtsp://0.0.0.0:{port}/live", fps=FPS, frame_buffer=pictures):  # played over and over
        threading.Event().wait()


class Pictures(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        import cv2

        if self.path != "/live":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        number = 0
        while True:
            jpeg = cv2.imencode(".jpg", picture(number))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return
            number += 1
            time.sleep(1 / FPS)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "rtsp":
        serve_rtsp(port)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Pictures).serve_forever()


if __name__ == "__main__":
    main()
