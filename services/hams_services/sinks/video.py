"""A video file per stream with what was found drawn in."""

from __future__ import annotations

from pathlib import Path

import cv2

from hams_client import Result
from hams_services.draw import annotate
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


class VideoFiles:
    """``OUT.mp4`` for the first stream, ``OUT-STREAM.mp4`` for further ones.

    Raises:
        SourceError: the name is not that of a video.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in CODECS:
            raise SourceError(f"cannot write a video into {path}", f"use a name that ends in {' or '.join(CODECS)}")
        self._path = path
        self._fps = fps
        self._writers: dict[str, tuple[cv2.VideoWriter, tuple[int, int], Path]] = {}

    def write(self, result: Result, image: Pixels) -> None:
        """Append one frame. Raises SourceError when the file cannot be written."""
        picture = annotate(image, result.objects)
        height, width = picture.shape[:2]
        if result.stream not in self._writers:
            self._writers[result.stream] = self._open(result.stream, (width, height))
        writer, size, _ = self._writers[result.stream]
        writer.write(picture if size == (width, height) else cv2.resize(picture, size))

    def close(self) -> list[Path]:
        """Finish the files; return their names."""
        for writer, _, _ in self._writers.values():
            writer.release()
        return [path for _, _, path in self._writers.values()]

    def _open(self, stream: str, size: tuple[int, int]) -> tuple[cv2.VideoWriter, tuple[int, int], Path]:
        path = self._path
        if self._writers:
            path = path.with_stem(f"{path.stem}-{stream}")
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        writer = cv2.VideoWriter(str(path), codec, self._fps, size)
        if not writer.isOpened():
            raise SourceError(f"cannot write {path}", "is the folder writable, and the disk not full?")
        return writer, size, path
