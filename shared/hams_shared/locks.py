"""Files that one process at a time may hold."""

from __future__ import annotations

from typing import IO


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
