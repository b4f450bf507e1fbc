"""Keeps solvers off stdout, which belongs to the answer (`hams-ctl plan --json`).

HiGHS and CP-SAT are set to print nothing, but some versions print a few stray lines from C++ regardless.
While one of them runs, file descriptor 1 points to stderr. Where that cannot be done (no such descriptors), nothing
is changed.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any


@contextmanager
def silence_stdout() -> Iterator[None]:
    """Send what native code writes to stdout to stderr instead."""
    try:
        saved = os.dup(1)
    except OSError:
        yield
        return
    try:
        _flush()
        with suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        _flush()
        os.dup2(saved, 1)
        os.close(saved)


def _flush() -> None:
    """Empty Python's and C's buffers, so that a line goes where stdout pointed when it was written."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    library = _c_library()
    if library is not None:
        library.fflush(None)


@lru_cache(maxsize=1)
def _c_library() -> Any:
    try:
        return ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    except (OSError, TypeError):
        return None
