"""Motion JPEG in AVI, written chunk by chunk: an empty chunk is a tick of the clock without a picture."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def jpeg(value: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A grey picture of width and height `size`."""
    data: bytes = cv2.imencode(".jpg", np.full((size[1], size[0], 3), value, np.uint8))[1].tobytes()
    return data


def ticks(times: Iterable[float], rate: int, values: Iterable[int]) -> list[bytes]:
    """Chunks that show pictures of `values` at `times`, s, in a file of `rate` chunks a second."""
    chunks: list[bytes] = []
    for time, value in zip(times, values, strict=True):
        chunks += [b""] * (round(time * rate) - len(chunks)) + [jpeg(value)]
    return chunks


def avi(path: Path, chunks: list[bytes], rate: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Write `chunks`, `rate` a second; return `path`."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    def many(name: bytes, *parts: bytes) -> bytes:
        return chunk(b"LIST", name + b"".join(parts))

    count, (width, height) = len(chunks), size
    avih = struct.pack("<14I", 1_000_000 // rate, 0, 0, 0x10, count, 0, 1, 0, width, height, 0, 0, 0, 0)
    strh = b"vidsMJPG" + struct.pack("<IHHIIIIIIIIHHHH", 0, 0, 0, 0, 1, rate, 0, count, 0, 0, 0, 0, 0, width, height)
    strf = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0)
    head = many(b"hdrl", chunk(b"avih", avih), many(b"strl", chunk(b"strh", strh), chunk(b"strf", strf)))
    index, at = b"", 4
    for data in chunks:
        index += b"00dc" + struct.pack("<III", 0x10, at, len(data))
        at += 8 + len(data) + len(data) % 2
    body = many(b"movi", *(chunk(b"00dc", data) for data in chunks))
    path.write_bytes(chunk(b"RIFF", b"AVI " + head + body + chunk(b"idx1", index)))
    return path
