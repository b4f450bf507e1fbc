"""Files in the cache: written as a whole or not at all, and checked before they are believed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hams_shared.errors import DigestError, ModelFetchError

Progress = Callable[[int, int], None]
"""Told (done, total) in bytes; total 0 when it is not known."""

MAX_BYTES = 4 << 30
"""Larger files are refused."""
CHUNK = 1 << 18


def silent(done: int, total: int) -> None:
    """Tell nobody."""


def digest_of(path: Path) -> str:
    """Return a file's SHA-256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(what: str, found: str, promised: str | None) -> None:
    """Compare digests. Raises DigestError."""
    if promised is not None and found != promised:
        raise DigestError(
            f"{what} has SHA-256 {found}, not {promised}",
            "the file is not the promised one: check its source, and correct sha256 only if you trust it",
        )


def cached(path: Path, sha256: str | None) -> bool:
    """Say whether `path` is in the cache, whole; with another digest than `sha256` it does not count."""
    try:
        recorded = _record(path).read_text("ascii").strip()
        return digest_of(path) == recorded and (sha256 is None or recorded == sha256)
    except (OSError, UnicodeDecodeError):
        return False


def copy(source: IO[bytes], path: Path, sha256: str | None, progress: Progress, total: int, what: str) -> None:
    """Write what `source` gives to `path` and record its digest; `total` is its length in bytes, 0 unknown.

    Raises:
        DigestError: it is not `sha256`; no file stays.
        ModelFetchError: it is longer than 4 GiB, or ends before `total`.
    """
    digest = hashlib.sha256()
    with staged(path) as target:
        done = 0
        while chunk := source.read(CHUNK):
            done += len(chunk)
            if done > MAX_BYTES:
                raise ModelFetchError(f"{what} is larger than {MAX_BYTES >> 30} GiB")
            digest.update(chunk)
            target.write(chunk)
            progress(done, total)
        if total and done != total:
            raise ModelFetchError(f"{what} ended after {done} of {total} bytes", "the connection was cut: try again")
        check(what, digest.hexdigest(), sha256)
    with staged(_record(path)) as target:
        target.write(digest.hexdigest().encode())


@contextmanager
def staged(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of `path` at the end, and vanishes when an exception passes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
