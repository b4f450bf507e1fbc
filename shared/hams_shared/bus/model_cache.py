"""The folder of networks that the processes of one box have pulled: bounded, the longest unused ones go first.

    <cache>/models/<digest>/model.onnx …

The modification time of ``<digest>`` tells when a network was last used. Several processes share the folder, without a
lock: each deletes by renaming first, so that others see a whole network or none.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hams_shared.errors import BadInputError

log = logging.getLogger(__name__)

VARIABLE = "HAMS_CACHE_GIB"
DEFAULT_GIB = 20.0
IN_USE_S = 3600.0
"""A network that was used within this time is not deleted, s."""

_NETWORK = re.compile("[0-9a-f]{64}")
_GONE = ".gone-"
"""Begin of the name of a folder that is being deleted."""


@dataclass(frozen=True)
class Kept:
    """A network in the folder."""

    path: Path
    size: int
    """Bytes."""
    used: float
    """When it was last used, Unix time, s."""


def limit() -> int:
    """Return how many bytes of networks may be kept: HAMS_CACHE_GIB, or 20 GiB. Raises BadInputError: no number."""
    text = os.environ.get(VARIABLE, "").strip() or str(DEFAULT_GIB)
    try:
        gib = float(text)
    except ValueError:
        gib = math.nan
    if not 0 <= gib < math.inf:
        raise BadInputError(f"{VARIABLE} is {text!r}, not a number of GiB", "for example 20, or 0.5")
    return int(gib * 2**30)


def mark_used(folder: Path) -> None:
    """Note that the network in `folder` is used now; nothing if it is not there, or belongs to others."""
    with suppress(OSError):
        os.utime(folder)


def surplus(kept: Sequence[Kept], limit: int, now: float) -> list[Kept]:
    """Return what to delete so that at most `limit` bytes stay: the longest unused, nothing that is in use. Pure."""
    total, found = sum(one.size for one in kept), []
    for one in sorted(kept, key=lambda one: one.used):
        if total <= limit or now - one.used < IN_USE_S:
            break
        found.append(one)
        total -= one.size
    return found


def trim(folder: Path, limit: int, now: float, new: Path) -> None:
    """Delete what is beyond `limit` bytes in `folder`, but not `new`; what cannot be deleted stays.

    `now` is Unix time, s.
    """
    for left in folder.glob(f"{_GONE}*"):  # of a process that ended while it deleted
        shutil.rmtree(left, ignore_errors=True)
    kept = [replace(one, used=now) if one.path == new else one for one in _kept(folder)]
    gone = [one for one in surplus(kept, limit, now) if _delete(one)]
    if gone:
        log.info(
            "the cache held too much: networks unused for the longest time are deleted: %d, %.2f GiB",
            len(gone),
            sum(one.size for one in gone) / 2**30,
        )


def _kept(folder: Path) -> list[Kept]:
    found = []
    for path in folder.glob("*"):
        with suppress(OSError):  # another process has deleted it
            if _NETWORK.fullmatch(path.name) and path.is_dir():
                found.append(Kept(path, _size(path), path.stat().st_mtime))
    return found


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _delete(one: Kept) -> bool:
    """Delete a network unless it was used since it was looked at; return whether it was deleted."""
    gone = one.path.with_name(f"{_GONE}{one.path.name}-{os.getpid()}")
    with suppress(OSError):
        one.path.rename(gone)
        if gone.stat().st_mtime == one.used:
            shutil.rmtree(gone, ignore_errors=True)
            return True
        gone.rename(one.path)
    return False
