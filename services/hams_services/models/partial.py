"""A partial download: when the connection breaks, ``NAME.part`` is kept, and the next attempt continues it.

One process at a time writes a part, under a lock that ends with the process. The part lies in the folder of the file's
digest, so another server may continue it; ``NAME.part.from`` holds the address that it came from.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hams_services.models.files import Progress, check, digest_of, ensure_disk_space, record
from hams_shared.errors import ModelFetchError
from hams_shared.locks import lock

POLL_S = 0.2
"""Between two looks at the progress of another process, s."""


class Part:
    """The bytes of a file that have arrived so far."""

    def __init__(self, target: Path, fd: int) -> None:
        self.path = part_of(target)
        self._target = target
        self._fd = fd
        self.size = os.fstat(fd).st_size
        """Bytes."""

    def validator(self, url: str) -> str:
        """Return the value for ``If-Range``: the server's name for this version of the file; empty: unknown."""
        try:
            source = json.loads(self._from.read_text("utf-8"))
            return str(source["validator"]) if source["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def remember(self, url: str, validator: str) -> None:
        """Note where the bytes come from."""
        with ensure_disk_space(self.path.parent):
            self._from.write_text(json.dumps({"url": url, "validator": validator}), "utf-8")

    def write(self, data: bytes) -> None:
        """Append. Raises NoSpaceError, or OSError as ModelFetchError: trying again does not help."""
        try:
            with ensure_disk_space(self.path.parent):
                while data:
                    count = os.pwrite(self._fd, data, self.size)
                    self.size += count
                    data = data[count:]
        except OSError as error:
            raise ModelFetchError(f"cannot write {self.path}: {error.strerror}", "is its disk healthy?") from error

    def restart(self) -> None:
        """Drop the bytes that have arrived."""
        os.ftruncate(self._fd, 0)
        self.size = 0

    def digest(self, algorithm: str) -> str:
        """Return the digest of the bytes that have arrived, hex."""
        return digest_of(self.path, algorithm)

    def finish(self, found: str, promised: str, what: str) -> None:
        """Move the complete file to its place. Raises DigestError; then nothing is kept."""
        try:
            check(what, found, promised)
        except BaseException:
            self.drop()
            raise
        with ensure_disk_space(self.path.parent):
            os.fsync(self._fd)
        os.replace(self.path, self._target)
        self._from.unlink(missing_ok=True)
        record(self._target, found)

    def drop(self) -> None:
        """Delete the part."""
        self.path.unlink(missing_ok=True)
        self._from.unlink(missing_ok=True)

    @property
    def _from(self) -> Path:
        return self.path.with_name(f"{self.path.name}.from")


def part_of(target: Path) -> Path:
    """Return the path of a file's part."""
    return target.with_name(f"{target.name}.part")


@contextmanager
def claimed(target: Path, deadline: float, progress: Progress) -> Iterator[Part | None]:
    """Claim the part of `target`; None when another process completed `target` meanwhile.

    Waits for another process that holds it, and reports its progress. An empty part is deleted.

    Raises:
        ModelFetchError: the other process still holds it at `deadline`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path, waited = part_of(target), False
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        if lock(fd) and _same(fd, path):
            break
        progress(os.fstat(fd).st_size, 0)
        os.close(fd)
        waited = True
        if time.monotonic() > deadline:
            raise ModelFetchError(f"another process did not complete {path} in time", "is it still running?")
        time.sleep(POLL_S)
    try:
        if waited and target.exists():
            path.unlink()
            yield None
            return
        part = Part(target, fd)
        try:
            yield part
        finally:
            if part.size == 0:
                part.drop()
    finally:
        os.close(fd)


def _same(fd: int, path: Path) -> bool:
    """Return whether `path` is still the file that was opened; another process may have moved it meanwhile."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
