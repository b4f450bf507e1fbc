"""Cameras of Video for Linux without a driver: a small library, loaded before all others, plays them in one process.

The drivers of the kernel's own test cameras (vivid, v4l2loopback) can be loaded by few; FFmpeg's part is the real one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.preload import compiled


class VideoDevices:
    """A folder such as /dev: `plug` and `unplug` cameras, and `python` runs a script that sees them."""

    def __init__(self, folder: Path) -> None:
        source = Path(__file__).with_suffix(".c")
        self._library = compiled(source, folder, "CAMERAS AT THE HOST ARE NOT TESTED HERE")
        self.dev = folder / "dev"
        (self.dev / "v4l" / "by-id").mkdir(parents=True)

    def python(self, script: str, timeout: float = 120) -> str:
        """What a script prints. It has `dev`, a Path, and `plug(number, name, kind="capture")` and `unplug(number)`."""
        env = {**os.environ, "LD_PRELOAD": str(self._library), "FAKE_VIDEO": str(self.dev), "DEV": str(self.dev)}
        argv = [sys.executable, "-c", _BEFORE + script]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stderr
        return done.stdout


_BEFORE = """
import os, time
from pathlib import Path

dev = Path(os.environ["DEV"])

def plug(number, name, kind="capture", size=(642, 362)):
    new = dev / "new"
    new.write_text(f"{kind} {size[0]} {size[1]} {name}")
    new.rename(dev / f"video{number}")
    link = dev / "v4l" / "by-id" / f"usb-{name}-video-index{int(kind == 'metadata')}"
    link.unlink(missing_ok=True)
    link.symlink_to(dev / f"video{number}")

def unplug(number):
    for link in (dev / "v4l" / "by-id").iterdir():
        if link.resolve() == (dev / f"video{number}"):
            link.unlink()
    (dev / f"video{number}").unlink()

"""
