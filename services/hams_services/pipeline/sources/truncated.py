"""Whether a video file is complete, by the lengths in its container; nothing is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Literal

TS_PACKETS = ((188, 0), (192, 4), (204, 0))
"""Lengths of packets of MPEG transport streams, and where the sync byte stands: plain, M2TS, with error correction."""
HEAD = 4 * 204
MAX_BOXES = 1 << 20
MOST_TAG = 1 << 22
"""Largest tag of a Flash video, bytes."""
FLV_TAGS = (8, 9, 18)
"""Kinds of tags: sound, pictures, data."""
GIF_END = b";"
"""The last byte of a GIF, but for padding."""


def container(path: Path) -> Literal["mp4", "avi", "matroska", "ts", "gif", "flv", ""]:
    """Return the kind of container, by the file's first bytes; empty: another kind."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        return "mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] == b"FLV\x01":
        return "flv"
    return "ts" if _packet_length(head) else ""


def cut_off(path: Path) -> str:
    """Return how the file ends too early: ``its last 1200 bytes are missing``. Empty: it does not, or unknown."""
    size = path.stat().st_size
    with path.open("rb") as file:
        match container(path):
            case "mp4":
                missing = _missing_mp4(file, size)
            case "avi":
                missing = _missing_riff(file, size)
            case "matroska":
                missing = _missing_matroska(file.read(HEAD), size)
            case "gif":
                file.seek(max(0, size - HEAD))
                whole = file.read().rstrip(b"\0").endswith(GIF_END)
                return "" if whole else "its end is missing"
            case "flv":
                missing = _missing_flv(file, size)
            case "ts":
                return "it ends in the middle of a packet" if size % _packet_length(file.read(HEAD)) else ""
            case _:
                return ""
    return f"its last {missing} bytes are missing" if missing > 0 else ""


def _missing_mp4(file: IO[bytes], size: int) -> int:
    """Boxes follow each other: length, name. 1 means a length of 64 bits, 0 to the end of the file."""
    at = 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isascii():
            break  # to the end, or no box at all: padding
        at += length
    return at - size


def _missing_riff(file: IO[bytes], size: int) -> int:
    """Files above 1 GB are several RIFF chunks. A length of 0: the recorder was killed before it wrote one."""
    at = 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if len(head) < 8 or head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):
            break
        at += 8 + length
    return at - size


def _missing_flv(file: IO[bytes], size: int) -> int:
    """A header, then tags: kind, length, times, data; behind each stands its length again."""
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(11)
        if not head or head[0] & 0x1F not in FLV_TAGS:
            break  # the end, or no tag at all: padding
        at += 11 + int.from_bytes(head[1:4], "big") + 4 if len(head) == 11 else 11
    return at - size if at - size < MOST_TAG else 0  # such a length is damage in the middle


def _missing_matroska(head: bytes, size: int) -> int:
    """The EBML header, then one segment, whose length may be unknown."""
    length, used = _vint(head, 4)
    segment = 4 + used + length
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    length, used = _vint(head, segment + 4)
    unknown = length == (1 << 7 * used) - 1 or not used
    return 0 if unknown else segment + 4 + used + length - size


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of EBML and how many bytes it takes; 0 bytes where there is none."""
    if at >= len(data) or not data[at]:
        return 0, 0
    used = 9 - data[at].bit_length()
    return int.from_bytes(data[at : at + used], "big") & ((1 << 7 * used) - 1), used


def _packet_length(head: bytes) -> int:
    """Return the length of a transport stream's packets, 0 where the file is none."""
    for length, sync in TS_PACKETS:
        if len(head) > sync + 3 * length and all(head[sync + i * length] == 0x47 for i in range(4)):
            return length
    return 0
