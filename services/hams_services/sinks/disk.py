"""Small files that sinks write, with a named error where that fails."""

from __future__ import annotations

from pathlib import Path

from hams_shared.errors import SourceError


def write(path: Path, data: bytes, mode: str = "wb") -> None:
    """Write `data`, and make the folder where it is missing; mode ``ab`` appends. Raises SourceError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as file:
            file.write(data)
    except OSError as error:
        hint = "is the folder writable, and the disk not full?"
        raise SourceError(f"cannot write {path}: {error.strerror}", hint) from None
