"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replaced(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `path` at the end of the block, after it is on the disk; an error deletes it.

    Readers see the old file or the whole new one, also after a crash. Until then only this user can read it. Raises
    OSError.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write(path: Path, data: bytes | bytearray, mode: int = 0o644) -> None:
    """Replace `path` by a file that holds `data`; see :func:`replaced`."""
    with replaced(path, mode) as file:
        file.write(data)
