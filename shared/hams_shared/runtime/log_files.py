"""Log files that other processes write stay bounded.

A child's standard output cannot be opened anew from outside, and a pipe through its parent would stop the child when
the parent stops. So a file that is too large is copied and then emptied in place: the child appends (O_APPEND), hence
goes on at the new end. Lines written in the microseconds between copying and emptying are lost.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

LIMIT = 16 << 20
"""A log that is larger is put aside, bytes; of what is put aside as much is kept."""
KEPT = 3
"""Files put aside: ``NAME.log.1`` is the newest."""
LOOK_S = 10.0
"""How often to look, s."""


def rotate(path: Path, limit: int = LIMIT, kept: int = KEPT) -> bool:
    """Put the end of `path` aside and empty it if it is larger than `limit`; return whether it was.

    Where there is no room to put it aside, it is emptied nevertheless: a disk that is full stays usable.
    Raises OSError when the file cannot be emptied.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if size <= limit:
        return False
    newest = _aside(path, 1)
    with suppress(OSError):
        for number in range(kept - 1, 0, -1):
            with suppress(FileNotFoundError):
                _aside(path, number).replace(_aside(path, number + 1))
        with path.open("rb") as old, newest.open("wb") as new:
            old.seek(size - limit)
            shutil.copyfileobj(old, new)
    os.truncate(path, 0)
    return True


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
