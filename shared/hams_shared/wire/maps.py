"""Maps in results, such as classes or depths of pixels: ``{"size": [h, w], "png": bytes, "to_frame": 2×3, …}``.

In JSON the PNG is base64. A map with ``scale`` and ``offset`` holds numbers, any other the numbers of classes.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_shared.errors import MessageError

MAX_SIDE = 1 << 13
"""Longest side of a map, pixels."""
_HEAD = struct.Struct(">16sIIBB")
"""Of a PNG: what all begin with, width, height, bits of a value, kind of colour."""
_BEGIN, _GREY = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 0


def is_map(value: Any) -> bool:
    """Return whether a value is a map with its pixels."""
    return isinstance(value, Mapping) and isinstance(value.get("png"), bytes | str)


def pixels(one: Mapping[str, Any]) -> NDArray[Any]:
    """Return the pixels of a map as they are in its PNG: H×W, uint8 or uint16. Raises MessageError: it is none."""
    import cv2  # 0.1 s, which programs that read no maps save

    data = one.get("png")
    if isinstance(data, str):
        try:
            data = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            data = b""
    if not isinstance(data, bytes) or not data:
        raise MessageError("a map has no PNG")
    if not _may_be_map(data):  # before it is unpacked: a few bytes may hold gigabytes
        raise MessageError(f"a map is not a grey PNG of 8 or 16 bits, and of {MAX_SIDE}×{MAX_SIDE} at most")
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.ndim != 2:
        raise MessageError("a map is a damaged PNG")
    return np.asarray(found)


def _may_be_map(data: bytes) -> bool:
    if len(data) < _HEAD.size:
        return False
    begin, width, height, bits, kind = _HEAD.unpack_from(data)
    return bool(begin == _BEGIN and kind == _GREY and bits <= 16 and max(width, height) <= MAX_SIDE)


def values(one: Mapping[str, Any]) -> NDArray[Any]:
    """Return a map's content: H×W numbers of classes, or float32 depths. Raises MessageError: it is none."""
    found = pixels(one)
    if "scale" not in one:
        return found
    try:
        scale, offset = float(one["scale"]), float(one.get("offset", 0.0))
    except (TypeError, ValueError):
        raise MessageError("a map's scale and offset are no numbers") from None
    return (found * scale + offset).astype(np.float32)
