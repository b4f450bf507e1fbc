"""Processes whose wall clock is wrong: a small library that is loaded before all others moves it. Needs a C compiler.

Linux has no namespace for the wall clock (`unshare --time` moves the monotonic ones only).
"""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path

from support.preload import compiled


class Skew:
    """Environments of processes whose clock is ahead or behind."""

    def __init__(self, folder: Path) -> None:
        source = Path(__file__).with_suffix(".c")
        self._library = compiled(source, folder, "NOT TESTED: a process with another clock")
        shown = subprocess.run(
            [sys.executable, "-c", "import time; print(time.time())"],
            env=self.env(hours=5),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert abs(float(shown.stdout) - time.time() - 5 * 3600) < 60, "the library does not move Python's clock"

    def env(self, hours: float) -> dict[str, str]:
        """For a process whose clock is so far ahead; negative: behind."""
        return {"LD_PRELOAD": str(self._library), "SKEW_S": str(round(hours * 3600))}

    def jumping(self, file: Path) -> dict[str, str]:
        """For a process whose clock jumps whenever :func:`jump` is called with `file`."""
        jump(file, 0)
        return {"LD_PRELOAD": str(self._library), "SKEW_FILE": str(file)}


def jump(file: Path, hours: float) -> None:
    """Move the clocks of the processes that follow `file`: so far ahead of the right time from now on."""
    with file.open("r+b" if file.exists() else "wb") as moved:  # in place: it is mapped
        moved.write(struct.pack("@q", round(hours * 3600)))
