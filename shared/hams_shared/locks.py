"""Files that one process at a time may hold."""

from __future__ import annotations

import time
from typing import IO

LOCKED_S = 10.0
"""Longest wait for a file that another process changes, s: a change takes milliseconds."""
LOOK_S = 0.01


def lock(file: int | IO[bytes] | IO[str]) -> bool:
    """Lock an open file for this process until it is closed; return False when another process holds it.

    Systems without advisory locks (Windows) lock nothing and return True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(file: int | IO[bytes] | IO[str]) -> None:
    """Lock an open file as :func:`lock` does, waiting for a process that holds it. Raises TimeoutError, an OSError."""
    end = time.monotonic() + LOCKED_S
    while not lock(file):
        if time.monotonic() >= end:
            raise TimeoutError(None, f"another process has held the lock for {LOCKED_S:g} s")
        time.sleep(LOOK_S)
