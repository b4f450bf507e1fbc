"""Files in the cache: each is written in one step, and its digest is checked before it is used."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hams_shared.errors import DISK_FULL, DigestError, ModelFetchError, NoSpaceError
from hams_shared.runtime.files import replaced

Progress = Callable[[int, int], None]
"""Receives (done, total) in bytes; total 0: unknown."""

MAX_BYTES = 4 << 30
"""Larger files are refused."""
CHUNK = 1 << 18
ALGORITHMS = {64: "sha256", 96: "sha384"}
"""By length of the digest, hex digits."""
_HEX = re.compile(r"^[0-9a-f]+$")


def no_progress(done: int, total: int) -> None:
    """Ignore the progress."""


def algorithm_of(digest: str | None) -> str:
    """Return the algorithm of a digest, by its length; SHA-256 for None. Raises ModelFetchError."""
    if digest is None:
        return "sha256"
    algorithm = ALGORITHMS.get(len(digest))
    if algorithm is None or not _HEX.match(digest):
        raise ModelFetchError(f"{digest!r} is not a digest", "64 hex digits are a SHA-256, 96 a SHA-384")
    return algorithm


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Return a file's digest, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def check(what: str, found: str, promised: str | None, *, kept: bool = False) -> None:
    """Compare digests. Raises DigestError; its text depends on whether the file is `kept`."""
    if promised is not None and found != promised:
        name = algorithm_of(promised)
        raise DigestError(
            f"{what} has {name.upper().replace('SHA', 'SHA-')} {found}, not {promised}",
            f"this is another file{'' if kept else ', and it was deleted'}: check its source, and correct "
            f"{name} only if you trust it",
        )


def cached(path: Path, digest: str | None) -> bool:
    """Return whether `path` is in the cache, complete, with `digest` or, without one, the digest next to it."""
    try:
        if digest is not None:
            return digest_of(path, algorithm_of(digest)) == digest
        return any(digest_of(path, algorithm) == digest for algorithm, digest in recorded(path).items())
    except OSError:
        return False


def copy(source: IO[bytes], path: Path, digest: str | None, progress: Progress, total: int, what: str) -> None:
    """Copy `source` to `path` and record its digest; `total` is its length in bytes, 0: unknown.

    Raises:
        DigestError: it has another digest; no file is left.
        ModelFetchError: it is longer than 4 GiB, or ends before `total`.
        NoSpaceError: the disk is too full for it.
    """
    hashing = hashlib.new(algorithm_of(digest))
    with ensure_disk_space(path.parent), staged(path) as target:
        need(path.parent, total, what)
        done = 0
        while chunk := source.read(CHUNK):
            done += len(chunk)
            if done > MAX_BYTES:
                raise ModelFetchError(f"{what} is larger than {MAX_BYTES >> 30} GiB")
            hashing.update(chunk)
            target.write(chunk)
            progress(done, total)
        if total and done != total:
            raise ModelFetchError(f"{what} ended after {done} of {total} bytes", "is it damaged?")
        check(what, hashing.hexdigest(), digest)
    record(path, hashing.hexdigest())


@contextmanager
def staged(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `path` at the end of the block; the folder is made. An exception deletes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        yield file


# Digests next to files


def record(path: Path, digest: str) -> None:
    """Write a file's digest next to it."""
    with ensure_disk_space(path.parent), staged(path.with_name(f"{path.name}.{algorithm_of(digest)}")) as target:
        target.write(digest.encode())


def recorded(path: Path) -> dict[str, str]:
    """Return the digests next to a file, by algorithm."""
    found: dict[str, str] = {}
    for algorithm in ALGORITHMS.values():
        try:
            found[algorithm] = path.with_name(f"{path.name}.{algorithm}").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
    return found


# Room on the disk


def need(folder: Path, size: int, what: str) -> None:
    """Raise NoSpaceError unless `size` more bytes fit into an existing folder."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise NoSpaceError(f"{what} needs {mib(size)} more, and {folder} has {mib(free)} left", _MAKE_ROOM)


@contextmanager
def ensure_disk_space(folder: Path) -> Iterator[None]:
    """Raise NoSpaceError in place of the operating system's error about a full disk or quota."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise NoSpaceError(f"the disk of {folder} is full: {error.strerror}", _MAKE_ROOM) from error


_MAKE_ROOM = "make room, or let HAMS_CACHE name a folder on another disk"


def mib(size: int) -> str:
    """Return a number of bytes as people read it."""
    if size < 100_000:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
