"""Drivers that fail on compiling, as functions of a child process."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any


def aborts(device: str, model: dict[str, Any]) -> None:
    print("driver says: no tiles left", file=sys.stderr, flush=True)
    os.abort()


def hangs(device: str, model: dict[str, Any]) -> None:
    time.sleep(600)


def is_killed(device: str, model: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
