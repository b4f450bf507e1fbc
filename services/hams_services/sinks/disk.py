"""Small files that sinks write, with a named error where that fails."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from hams_shared.errors import SourceError


def moment(captured: float) -> str:
    """Return a Unix time, s, as names of files have it: ``20260131T120000.250Z``."""
    time = datetime.fromtimestamp(captured, UTC)
    return f"{time:%Y%m%dT%H%M%S}.{time.microsecond // 1000:03d}Z"


def free(path: Path, taken: Collection[Path] = ()) -> Path:
    """Return `path`, or with a number behind its stem if such a file is there or among `taken`."""
    found, number = path, 1
    while found.exists() or found in taken:
        number += 1
        found = path.with_stem(f"{path.stem}-{number}")
    return found


def write(path: Path, data: bytes, mode: str = "wb") -> None:
    """Write `data`, and make a missing folder; ``ab`` appends, ``xb`` is for a new file. Raises SourceError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as file:
            file.write(data)
    except OSError as error:
        hint = "is the folder writable, and the disk not full?"
        raise SourceError(f"cannot write {path}: {error.strerror}", hint) from None
