"""A video file per stream, with results drawn in; each frame stands at its own time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hams_client import Result
from hams_services.sinks.draw import annotate
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
LONGEST_GAP_S = 60.0
"""Without new frames the last picture is repeated for at most this long, s; longer gaps are shortened."""


@dataclass
class _Track:
    """The file of one stream."""

    writer: cv2.VideoWriter
    size: tuple[int, int]
    """Width, height, pixels."""
    path: Path
    begin: float
    """Time of the stream at which the file begins, s."""
    pictures: int = 0
    last: Pixels | None = None


class VideoFiles:
    """``OUT.mp4`` for the first stream, ``OUT-STREAM.mp4`` for further ones, each of `fps` pictures a second.

    Raises:
        SourceError: the name does not end in one of `CODECS`.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in CODECS:
            raise SourceError(f"cannot write a video into {path}", f"use a name that ends in {' or '.join(CODECS)}")
        self._path = path
        self._fps = fps
        self._tracks: dict[str, _Track] = {}

    def write(self, result: Result, image: Pixels) -> None:
        """Write one frame at its time. Raises SourceError when the file cannot be written."""
        time = result.captured if result.time is None else result.time
        picture = annotate(image, result.objects)
        track = self._tracks.get(result.stream)
        if track is None:
            track = self._tracks[result.stream] = self._open(result.stream, picture.shape[1::-1], time)
        place = round((time - track.begin) * self._fps)
        longest = track.pictures + round(LONGEST_GAP_S * self._fps)
        if place < track.pictures - 1 or place > longest:  # the stream restarted, or paused for long
            place = min(max(place, track.pictures), longest)
            track.begin = time - place / self._fps
        if place < track.pictures:
            return  # more frames a second than the video has
        while track.last is not None and track.pictures < place:
            track.writer.write(track.last)
            track.pictures += 1
        track.last = _fitted(picture, track.size)
        track.writer.write(track.last)
        track.pictures += 1

    def close(self) -> list[Path]:
        """Finish the files; return their names."""
        for track in self._tracks.values():
            track.writer.release()
        return [track.path for track in self._tracks.values()]

    def _open(self, stream: str, size: tuple[int, ...], time: float) -> _Track:
        path = self._path
        if self._tracks:
            path = path.with_stem(f"{path.stem}-{stream}")
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        width, height = size
        writer = cv2.VideoWriter(str(path), codec, self._fps, (width, height))
        if not writer.isOpened():
            raise SourceError(f"cannot write {path}", "is the folder writable, and the disk not full?")
        return _Track(writer, (width, height), path, time)


def _fitted(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Return `picture` at `size` (width, height), with its proportions kept and black borders."""
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    scale = min(size[0] / width, size[1] / height)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    fitted = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - wide) // 2, (size[1] - high) // 2
    fitted[top : top + high, left : left + wide] = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA)
    return fitted
