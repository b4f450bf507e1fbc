"""A video file per stream with what was found drawn in."""

from __future__ import annotations

from pathlib import Path

import cv2

from hams_client import Result
from hams_services.draw import annotate
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels


class VideoFiles:
    """``OUT.mp4`` for the first stream, ``OUT-STREAM.mp4`` for further ones."""

    def __init__(self, path: Path, fps: float) -> None:
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
        codec = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix.lower() == ".avi" else "mp4v"))
        writer = cv2.VideoWriter(str(path), codec, self._fps, size)
        if not writer.isOpened():
            raise SourceError(f"cannot write {path}", "use a name that ends in .mp4 or .avi, in a folder that exists")
        return writer, size, path
