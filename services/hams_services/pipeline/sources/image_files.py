"""Image files as a source: one, or those of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hams_services.pipeline.sources.animated import decode_animation, is_animated
from hams_services.pipeline.sources.base import Picture, Source, check_regular, identity_of, os_errors_named
from hams_services.pipeline.sources.images import decode_image
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

MAX_FILE = 1 << 28
"""Largest image file, bytes: that of the largest message of an application."""
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class Images(Source):
    """One image, or the images of a folder in name order; an animated one gives all its frames."""

    endless = False
    fps: float | None = None

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self.identity = identity_of(paths)
        self._frames = self._all()
        self._due = 0.0

    @os_errors_named()
    def read(self, into: Pixels | None = None) -> Picture | None:
        """Next image; see :class:`Source`. Only one animated image by itself has times."""
        image, seconds = next(self._frames, (None, None))
        if image is None:
            return None
        at, self._due = self._due, self._due + (seconds or 0.0)
        return Picture(image, at if seconds is not None and len(self._paths) == 1 else None)

    def skip(self, count: int, at: float | None = None) -> None:
        """Leave out frames; see :class:`Source`. Images that are left out are not decoded."""
        if len(self._paths) == 1:
            super().skip(count, at)
        else:
            self._frames = self._all(count)

    def rewind(self) -> None:
        """Start over."""
        self._frames = self._all()
        self._due = 0.0

    def _all(self, left_out: int = 0) -> Iterator[tuple[Pixels, float | None]]:
        """Yield frames but the first `left_out`, with how long each is shown, s, if it is of an animation."""
        for path in self._paths:
            check_regular(path)
            size = path.stat().st_size
            if size > MAX_FILE:
                raise SourceError(f"{path} has {size >> 20} MiB, more than the {MAX_FILE >> 20} allowed")
            data = path.read_bytes()
            if is_animated(data):
                for frame in decode_animation(data, str(path)):
                    if left_out:
                        left_out -= 1
                    else:
                        yield frame
            elif left_out:
                left_out -= 1
            else:
                yield decode_image(data, str(path)), None

    def close(self) -> None:
        """Give back the frames of an animation that are decoded already; no file is held open."""
        self._frames = iter(())


def is_image(path: Path) -> bool:
    """Return whether the name is that of an image file."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def images_of(folder: Path) -> list[Path]:
    """Return the images in `folder`, in name order. Raises SourceError when there are none."""
    images = sorted(path for path in folder.iterdir() if is_image(path))
    if not images:
        raise SourceError(f"{folder} holds no images", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return images
