"""Bytes on the wire: msgpack, checked on the way in.

Control messages are pydantic models (:mod:`hams_shared.wire.messages`); data-plane messages are packed by hand in
:mod:`hams_shared.wire.frames`, because they are many and large.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, TypeVar

import msgpack
from pydantic import BaseModel, ValidationError

from hams_shared.errors import MessageError

M = TypeVar("M", bound=BaseModel)

MAX_ITEMS = 1 << 20
"""Most elements a received array or map may claim: a few bytes must not make us allocate gigabytes."""


MOST = 1 << 53
"""Largest whole number in a control message, either sign: JSON holds it exactly, and the sum of two can be packed."""


def pack(value: Any) -> bytes:
    """Encode plain values (None, bool, int, float, str, bytes, list, dict)."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def pack_json(value: Any) -> bytes:
    """Encode plain values as JSON; bytes become base64."""
    return json.dumps(value, ensure_ascii=False, default=_text).encode()


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def unpack(data: bytes) -> Any:
    """Decode msgpack, or JSON that is a map, which msgpack never begins like. Raises MessageError for anything else."""
    if data[:1] == b"{":
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise MessageError(f"not JSON: {error}"[:200]) from None
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise MessageError(f"not msgpack: {type(error).__name__}: {error}"[:200]) from None


def _check_numbers(value: Any) -> None:
    """Raise MessageError for a whole number beyond :data:`MOST`: who counts on from it could not pack the next one."""
    left = [value]
    while left:
        one = left.pop()
        if type(one) is int:
            if not -MOST <= one <= MOST:
                raise MessageError("a number is larger than 2^53")
        elif type(one) is dict:
            left.extend(one.values())
        elif type(one) is list:
            left.extend(one)


def encode(message: BaseModel, without: Iterable[str] = ()) -> bytes:
    """Encode a control message; of its fields those in `without` do not travel."""
    return pack(message.model_dump(mode="python", exclude=set(without) or None))


def decode(kind: type[M], data: bytes) -> M:
    """Decode and check a control message. Raises MessageError that names the wrong fields."""
    value = unpack(data)
    _check_numbers(value)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(p) for p in f['loc']) or 'message'}: {f['msg']}"
            for f in error.errors(include_url=False)[:5]
        )
        raise MessageError(f"not a {kind.__name__}: {wrong}") from None
