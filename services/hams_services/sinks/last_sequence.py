"""The place in HAMS's journal where a restart reads on, as a small file."""

from __future__ import annotations

from pathlib import Path

from hams_shared.errors import SourceError
from hams_shared.runtime import files


class LastSequence:
    """The sequence of the last event that was dealt with, in a file; None: it is not kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> int | None:
        """Return it, or None where there is no file yet. Raises SourceError."""
        if self._path is None or not self._path.exists():
            return None
        try:
            return int(self._path.read_text())
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot read {self._path}: {error}", "delete it to begin with new events") from None

    def write(self, sequence: int) -> None:
        """Keep it. Raises SourceError."""
        if self._path is not None:
            try:
                files.write(self._path, b"%d\n" % sequence)
            except OSError as error:
                raise SourceError(f"cannot write {self._path}: {error.strerror}") from None
