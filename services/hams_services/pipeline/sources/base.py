"""What a source is, and what it gives."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

MAX_PIXELS = 1 << 26
"""Most pixels of a frame: 8192×8192, 201 MB as B, G, R. More is refused before it is decoded."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame as its source gives it."""

    pixels: Pixels
    """H×W×3 B, G, R, upright."""
    at: float | None = None
    """Presentation time by the source's own clock, s; None where it has none."""
    captured: float | None = None
    """When the camera took it, Unix time, s, by the camera's own clock, which may be wrong; None: unknown."""
    reduced: Pixels | None = None
    """The same moment in fewer pixels, H×W×3 B, G, R: of a camera's second, smaller stream."""
    read_s: float | None = None
    """How long reading it took, s; of a live source, which is waited for, the CPU time. None: it was not measured."""
    traceparent: str = ""
    """The trace context that an application sent it with."""


class Source(Protocol):
    """An opened source. Blocking; all its calls come from one thread, that of its reader."""

    fps: float | None
    """Its own frames/s, or None when it has no clock."""
    endless: bool
    """Whether it sends frames at its own pace, as a camera does; one that ends is lost and opened again."""
    decoder: str = ""
    """Codec and size, and what decodes it; with the reason where that is not the hardware that was asked for."""
    damaged: int = 0
    """Packets and frames so far that were lost or damaged; those that could not be decoded were skipped."""
    note: str = ""
    """A defect that does not end the source; `status` shows it, and it is logged."""

    def read(self, into: Pixels | None = None) -> Picture | None:
        """Return the next frame; None at the end. Its pixels may be `into`, filled, when the shape is the same.

        Raises:
            SourceError: it is damaged here, or lost; all frames before were returned.
        """
        ...

    identity: str = ""
    """Of a file or files: other ones have another; empty: it has no beginning to go on from."""

    def skip(self, count: int, at: float | None = None) -> None:
        """Leave out the first `count` frames of a source that was just opened; `at`: the time of the last of them.

        The next read returns the one behind them, exactly. Raises SourceError: it has not so many.
        """
        for _ in range(count):
            if self.read() is None:
                raise SourceError(f"the source has ended before frame {count}", "has it changed?")

    def rewind(self) -> None:
        """Start over. A source without a beginning goes on."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


def identity_of(paths: Iterable[Path]) -> str:
    """Return what tells these files from others and from later contents: of their names, sizes and times."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = path.stat()
            about = f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}\n"
        except OSError:  # reading it will report why
            about = f"{path.name}\n"
        digest.update(about.encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def check_size(width: int, height: int, origin: str) -> None:
    """Raise SourceError when a frame has more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise SourceError(
            f"{origin} has {width}×{height} pixels, more than the {MAX_PIXELS / 1e6:.0f} million allowed",
            "send it smaller, or in tiles",
        )


@contextmanager
def os_errors_named() -> Iterator[None]:
    """Raise SourceError, with the path and the system's reason, where a file or folder cannot be read."""
    try:
        yield
    except OSError as error:
        denied = isinstance(error, PermissionError)
        hint = f"may the pipeline's user ({os.geteuid()}) read it?" if denied else "is its disk or mount connected?"
        raise SourceError(f"{error.filename or 'the source'} cannot be read: {error.strerror or error}", hint) from None


def check_regular(path: Path) -> None:
    """Raise SourceError when `path` is no regular file. A pipe would block whoever opens it."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise SourceError(f"{path} is not a file", "give a video or an image, no folder, pipe or device")
