"""Files: a video, images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from hams_services.pipeline.sources.animated import decode_animation, is_animated
from hams_services.pipeline.sources.base import Source, check_capture, decode_image, grab
from hams_services.pipeline.sources.packets import Packets
from hams_services.pipeline.sources.truncated import container, cut_off
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

MAX_FILE = 1 << 28
"""Largest image file, bytes: that of the largest message of an application."""
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class Video(Source):
    """A video file; each frame has its time in the file."""

    endless = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        self._count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 0 < rate <= 1000 else None

    def _open(self) -> None:
        self._capture = cv2.VideoCapture(str(self._path))
        if not self._capture.isOpened():
            raise SourceError(f"{self._path} is not a video that can be read", "is the file complete?")
        check_capture(self._capture, str(self._path))
        self._packets = Packets(self._path)
        self._read = 0
        self.at = None

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`."""
        image = grab(self._capture, into)
        self._packets.read_to(self._read)
        if image is None:
            self._check_end()
            return None
        if self._packets.changes_at(self._read, float(self._capture.get(cv2.CAP_PROP_PTS))):
            self._refuse_change()
        time = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        self.at = time if time > 0 or self._read == 0 else None  # elementary streams have no times: all are 0
        self._read += 1
        return image

    def _refuse_change(self) -> None:
        assert self._packets.change is not None
        assert self._packets.size is not None
        width, height = self._packets.change.size
        before = self._packets.size
        raise SourceError(
            f"{self._path} changes from {before[0]}×{before[1]} to {width}×{height} pixels after {self._read} frames",
            f"make them one size, for example by `ffmpeg -i IN -vf scale={width}:{height} OUT`, or split it there",
        )

    def _check_end(self) -> None:
        """Raise SourceError if the file is certainly damaged; note what may be damage.

        Its own count of frames alone proves nothing: it may be estimated from the sound, or include empty chunks.
        """
        if self._read == 0:
            raise SourceError(f"{self._path} holds no frame that can be decoded")
        least = self._read + max(1, self._count // 50)
        short = self._count > least
        length = self._count / self.fps if self.fps else 0.0
        early = short and self.at is not None and length - self.at > max(length / 50, 2 / (self.fps or 25.0))
        kind, cut = container(self._path), cut_off(self._path)
        certain = (short and kind == "mp4") or (early and kind == "avi") or (short and self._packets.read_all() > least)
        if cut or certain:
            of = f" of {self._count}" if short else ""
            raise SourceError(
                f"{self._path} is truncated or corrupt: it ends after {self._read}{of} frames{cut and ': '}{cut}"
            )
        if short and kind == "avi":
            self.note = f"of {self._count} frames {self._read} hold a picture: the others are empty or damaged"
        elif early:
            self.note = f"pictures end at {self.at:.1f} s of {length:.1f} s: is its sound longer, or is it damaged?"

    def rewind(self) -> None:
        """Open the file again, since seeking is not exact in all formats."""
        self.close()
        self._open()

    def close(self) -> None:
        """Release the file."""
        self._capture.release()
        self._packets.close()


class Images(Source):
    """One image, or the images of a folder in name order; an animated one gives all its frames."""

    endless = False
    fps: float | None = None

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._frames = self._all()
        self._due = 0.0

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next image; see :class:`Source`. Only one animated image by itself has times."""
        image, seconds = next(self._frames, (None, None))
        if image is not None and seconds is not None and len(self._paths) == 1:
            self.at, self._due = self._due, self._due + seconds
        return image

    def rewind(self) -> None:
        """Start over."""
        self._frames = self._all()
        self._due = 0.0
        self.at = None

    def _all(self) -> Iterator[tuple[Pixels, float | None]]:
        """Yield frames, with how long each is shown, s, if it is of an animation."""
        for path in self._paths:
            size = path.stat().st_size
            if size > MAX_FILE:
                raise SourceError(f"{path} has {size >> 20} MiB, more than the {MAX_FILE >> 20} allowed")
            data = path.read_bytes()
            if is_animated(data):
                yield from decode_animation(data, str(path))
            else:
                yield decode_image(data, str(path)), None

    def close(self) -> None:
        """Nothing is held open."""


def is_image(path: Path) -> bool:
    """Return whether the name is that of an image file."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def images_of(folder: Path) -> list[Path]:
    """Return the images in `folder`, in name order. Raises SourceError when there are none."""
    images = sorted(path for path in folder.iterdir() if is_image(path))
    if not images:
        raise SourceError(f"{folder} holds no images", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return images
