"""A camera that speaks RTSP: a server in a process of its own, to be killed, frozen, and started at the same address.

Server, H.264 encoder and RTP are those of the package `rtsp` (PyAV, libx264): nothing of ours is on that side.
``python -m support.rtsp_server PORT`` serves grey pictures, 25 frames/s, for ever: :func:`value` of 0, 1, 2 …
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hams_services.ctl.system.broker import check_port
from support.wait import until_sync

SIZE = (320, 240)
FPS = 25
STEPS = 36


def value(number: int) -> int:
    """The grey of frame `number`."""
    return 40 + 5 * (number % STEPS)


class RtspServer:
    """`with` starts and kills it; `start`, `freeze` and `kill` as the test likes."""

    def __init__(self) -> None:
        if importlib.util.find_spec("rtsp") is None or importlib.util.find_spec("av") is None:
            pytest.skip("RTSP IS NOT TESTED HERE: a real server is missing (pip install rtsp)")
        self.port = check_port("127.0.0.1", 0)
        self.url = f"rtsp://127.0.0.1:{self.port}/live"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
        self._process = subprocess.Popen([sys.executable, "-m", "support.rtsp_server", str(self.port)], env=env)
        until_sync(self._listening, 60, "the RTSP server")

    def freeze(self) -> None:
        """It keeps its connections and says nothing more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def _listening(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the RTSP server ended"
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", self.port)) == 0


def main() -> None:
    import rtsp
    from PIL import Image

    pictures = [Image.new("RGB", SIZE, (value(n),) * 3) for n in range(STEPS)]
    with rtsp.Source(f"rtsp://0.0.0.0:{sys.argv[1]}/live", fps=FPS, frame_buffer=pictures):
        threading.Event().wait()


if __name__ == "__main__":
    main()
