"""The undecoded packets of a video file, read alongside its pictures.

OpenCV scales pictures to the size of the first one and hides what it could not decode. The packets show both: how many
pictures there are, and where their size changes.
"""

from __future__ import annotations

import io
import re
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagesize

JPEG = b"\xff\xd8"
AHEAD = 16
"""Packets read ahead of the pictures: decoders lose some at a change of size, and return pictures late."""
HEAD = 64
"""Leading bytes of a key packet, which hold the size in most codecs: equal bytes mean equal sizes."""
_H264_SPS = re.compile(rb"\0\0\x01[\x07\x27\x47\x67](.+?)(?=\0\0\0|\0\0\x01|$)", re.S)
_HEVC_SPS = re.compile(rb"\0\0\x01\x42.(.+?)(?=\0\0\0|\0\0\x01|$)", re.S)
PARAMETERS = {
    **dict.fromkeys(("h264", "avc1", "x264"), _H264_SPS),
    **dict.fromkeys(("hevc", "hev1", "hvc1", "h265"), _HEVC_SPS),
}
"""Where other codecs keep the size: behind other data."""
IVF_CODECS = {"VP80": b"VP80", "VP90": b"VP90", "AV01": b"AV01", "vp08": b"VP80", "vp09": b"VP90", "av01": b"AV01"}


@dataclass(frozen=True)
class Change:
    """A key packet whose pictures have another size."""

    index: int
    """Packets before it."""
    time: float
    """Its presentation time in the file's own units; 0 where the file has none."""
    size: tuple[int, int]
    """Width, height."""


class Packets:
    """The video packets of a file; a file without readable packets has none."""

    def __init__(self, path: Path) -> None:
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
        codec = int(self._capture.get(cv2.CAP_PROP_FOURCC))
        self._codec = codec.to_bytes(8, "little", signed=True)[:4].decode("latin-1")
        self.size: tuple[int, int] | None = None
        """Of the first pictures, as packed: before any rotation; None where it is unknown."""
        self._head = b""
        self._blind = False
        self._ended = not self._capture.isOpened()
        self.count = 0
        """Packets read so far."""
        self.change: Change | None = None
        """The first change of size found so far."""

    def read_to(self, pictures: int) -> None:
        """Read on, until `AHEAD` packets more than `pictures` are read."""
        while self.count < pictures + AHEAD and not self._ended:
            self._next()

    def read_all(self) -> int:
        """Read to the end; return the number of packets."""
        while not self._ended:
            self._next()
        return self.count

    def changes_at(self, picture: int, time: float) -> bool:
        """Return whether picture number `picture` (from 0), shown at `time`, is the first of another size."""
        if self.change is None:
            return False
        early = self.change.index - picture
        return early <= 0 or (early <= AHEAD and 0 < self.change.time == time)

    def close(self) -> None:
        """Release the file."""
        self._capture.release()

    def _next(self) -> None:
        good, packet = self._capture.read()
        if not good or packet is None:
            self._ended = True
            return
        if self.change is None and not self._blind and self._capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME):
            data = packet.tobytes()
            head = _parameters(data, self._codec)
            if head != self._head:
                self._head = head
                size = size_of_packet(data, self._codec)
                self.size = self.size or size
                self._blind = self.size is None  # packets of this codec do not hold a size
                if size is not None and size != self.size:
                    self.change = Change(self.count, float(self._capture.get(cv2.CAP_PROP_PTS)), size)
        self.count += 1


def _parameters(data: bytes, codec: str) -> bytes:
    """Return the bytes that hold the size of a key packet's pictures; another size gives other bytes."""
    if data[:2] == JPEG:
        return repr(imagesize.get(io.BytesIO(data))).encode()
    pattern = PARAMETERS.get(codec.lower())
    found = pattern.search(data) if pattern else None
    return found[1] if found else data[:HEAD]


def size_of_packet(data: bytes, codec: str) -> tuple[int, int] | None:
    """Return width and height of the picture in a key packet, or None where they are unknown."""
    if data[:2] == JPEG:
        width, height = imagesize.get(io.BytesIO(data))
        return (int(width), int(height)) if min(width, height) > 0 else None
    if codec in IVF_CODECS:
        head = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, IVF_CODECS[codec], 0, 0, 25, 1, 1, 0)
        data = head + struct.pack("<IQ", len(data), 0) + data
    with tempfile.NamedTemporaryFile(prefix="hams-packet-") as file:
        file.write(data)
        file.flush()
        capture = cv2.VideoCapture(file.name, cv2.CAP_FFMPEG)
        try:
            if not capture.isOpened():
                return None
            width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        finally:
            capture.release()
    return (width, height) if min(width, height) > 0 else None
