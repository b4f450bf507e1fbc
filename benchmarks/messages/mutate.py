"""Messages that nobody should send: random bytes, and mutations of valid ones. Pure, given a generator."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import msgpack

from hams_shared.bus.chunks import MAGIC

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**32, 2**63 - 1, -(2**63), 2**64 - 1, math.nan, math.inf, -math.inf, 1e308,
    -0.0, 5e-324, "", " ", "*", ">", ".", "..", "../../etc/passwd", "/dev/zero", "\x00", "\ud83d\ude00" * 8, "a" * 5000,
    "hams.v1.work.box.stub.sim", "$KV.hams-groups.grey", "=HYPERLINK(1)", "<script>", "%s%n", "{0}", "${HOME}", b"",
    b"\x00" * 64, b"\xff" * 4096, [], {}, [[]], [None] * 1000, {"": ""}, {"version": 2}, [1e999], [0, 0, 0, 0],
    [2**31, 2**31, 3], [-1, -1, 3], [1, 2**40, 1, 3],
)  # fmt: skip
"""Values of wrong types and sizes, also as shapes and paths."""
DEEP = 200
"""Nesting of some messages: msgpack and JSON readers recurse."""


def nested(rng: random.Random) -> Any:
    """A value that is nested deeply."""
    value: Any = rng.choice(NASTY)
    for _ in range(rng.randrange(1, DEEP)):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def packed(value: Any) -> bytes:
    """Encode any of these values."""
    data: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass")
    return data


def random_bytes(rng: random.Random) -> bytes:
    """Bytes without meaning, mostly few."""
    return rng.randbytes(int(2 ** rng.uniform(0, 14)) - 1)


def flipped(data: bytes, rng: random.Random) -> bytes:
    """`data` with some bytes changed, cut, repeated or inserted."""
    if not data:
        return random_bytes(rng)
    out = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(out) or 1)
        match rng.randrange(5):
            case 0:
                out[at : at + 1] = rng.randbytes(1)
            case 1:
                del out[at:]
            case 2:
                del out[at : at + rng.randrange(1, 9)]
            case 3:
                out[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                out[at : at + 5] = struct.pack(">BI", rng.choice((0xC6, 0xDB, 0xDD, 0xDF)), rng.getrandbits(32))
    return bytes(out[: 1 << 20])


def changed(value: Any, rng: random.Random) -> Any:
    """`value` with one part replaced, dropped, added or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                return {one: of for one, of in value.items() if one != key}
            case 1:
                return {**value, rng.choice(("", "version", "unknown", "a" * 300)): rng.choice(NASTY)}
            case _:
                return {**value, key: changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        match rng.randrange(8):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value * rng.randrange(2, 20)
            case _:
                return [*value[:at], changed(value[at], rng), *value[at + 1 :]]
    if isinstance(value, bytes) and rng.random() < 0.5:
        return flipped(value, rng)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((-value, value + 1, value * 1000, -(2**31) + int(rng.random() * 100), float(value)))
    return nested(rng) if rng.random() < 0.05 else rng.choice(NASTY)


def chunk(data: bytes, rng: random.Random) -> bytes:
    """A part of a message whose numbers are wrong, or right."""
    count = rng.choice((0, 1, 2, 3, 1000, 2**16, 2**32 - 1))
    return struct.pack("<5s16sII", MAGIC, rng.randbytes(1) * 16, rng.choice((0, 1, count % 2**32)), count) + data[:4096]


def message(valid: list[bytes], rng: random.Random) -> bytes:
    """One message for a subject on which `valid` ones travel."""
    base = rng.choice(valid) if valid else b""
    roll = rng.random()
    if not base or roll < 0.1:
        return random_bytes(rng)
    if roll < 0.3:
        return flipped(base, rng)
    if roll < 0.36:
        return chunk(base, rng)
    if roll < 0.4:
        return packed(nested(rng))
    try:
        value = msgpack.unpackb(base, raw=False, strict_map_key=False)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            value = changed(value, rng)
        return packed(value)
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException):
        return flipped(base, rng)
