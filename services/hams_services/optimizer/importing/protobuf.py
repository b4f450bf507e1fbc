"""The outermost fields of a protobuf message, without its schema: enough to tell what it is, and whether it is all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hams_shared.errors import ModelError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Field:
    """One field: its number, how it is written, and where its content lies."""

    number: int
    kind: int
    start: int
    end: int
    value: int = 0
    """Of a varint."""


def fields(data: bytes | memoryview, limit: int = 1_000_000) -> Iterator[Field]:
    """Yield the outermost fields of `data`.

    Raises:
        ModelError: it is not a message, or is cut short.
    """
    at = 0
    count = 0
    while at < len(data):
        count += 1
        if count > limit:
            raise ModelError(f"more than {limit} fields in one message")
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ModelError("not a protobuf message")
        start = at
        value = 0
        match kind:
            case 0:
                value, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                length, start = _varint(data, at)
                at = start + length
            case 5:
                at += 4
            case _:
                raise ModelError("not a protobuf message")
        if at > len(data):
            raise ModelError(f"cut short: a field ends at byte {at}, the file at {len(data)}", "fetch it again")
        yield Field(number, kind, start, at, value)


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index in range(10):
        if at + index >= len(data):
            raise ModelError("cut short in the middle of a number", "fetch it again")
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ModelError("not a protobuf message")
