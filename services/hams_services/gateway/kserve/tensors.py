"""Tensors of the protocol: images out of inputs, outputs out of results, and their bytes. Pure.

A tensor's bytes are its elements in row-major order, little endian; an element of BYTES has its length before it, as
four bytes.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hams_client import Result
from hams_shared.errors import BadInputError

INPUT = "image"
OUTPUTS = {
    "objects": (
        "BYTES",
        (-1,),
        "for each image a JSON list: what the root node found, with its children's predictions",
    ),
    "counts": ("INT32", (-1,), "for each image the number of its objects"),
    "boxes": ("FP32", (-1, 4), "of all objects, image after image: x0, y0, x1, y1 in pixels"),
    "scores": ("FP32", (-1,), "of all objects"),
    "labels": ("BYTES", (-1,), "of all objects"),
}
"""By name: datatype, shape (-1: any) and meaning."""
TAKES = "encoded images as BYTES [n], or pixels as UINT8 [height, width, 3] or [n, height, width, 3]"
MAX_IMAGES = 64
"""In one request."""
_LENGTH = struct.Struct("<I")
_DTYPES = {"FP32": "<f4", "INT32": "<i4"}

Pixels = NDArray[np.uint8]
Image = bytes | Pixels
"""An encoded image, or height×width×3 of B, G, R."""


@dataclass(frozen=True)
class InputTensor:
    """An input as it came: its bytes (`raw`), or its elements one by one (`items`), maybe in nested lists."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview | None = None
    items: Sequence[Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OutputTensor:
    """An output: `values` are numbers (row-major), or bytes where the datatype is BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]

    def raw(self) -> bytes:
        """Return the tensor's bytes."""
        if self.datatype == "BYTES":
            return join_bytes(self.values)
        return np.asarray(self.values, _DTYPES[self.datatype]).tobytes()


def join_bytes(elements: Sequence[bytes]) -> bytes:
    """Return the bytes of a tensor of BYTES."""
    return b"".join(part for one in elements for part in (_LENGTH.pack(len(one)), one))


def split_bytes(raw: bytes | memoryview, count: int) -> list[bytes]:
    """Return the `count` elements of a tensor of BYTES. Raises BadInputError: its bytes are fewer or more."""
    view = memoryview(raw).cast("B")
    elements: list[bytes] = []
    at = 0
    for index in range(count):
        if len(view) - at < _LENGTH.size:
            raise BadInputError(f"input {INPUT}: element {index} of {count} is missing: {len(view)} bytes in all")
        [size] = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size
        if size > len(view) - at:
            raise BadInputError(f"input {INPUT}: element {index} has {size} bytes, but {len(view) - at} follow")
        elements.append(bytes(view[at : at + size]))
        at += size
    if at != len(view):
        raise BadInputError(f"input {INPUT}: {len(view) - at} bytes follow its {count} elements")
    return elements


def images_of(inputs: Sequence[InputTensor], order: str = "bgr") -> list[Image]:
    """Return the images of a request, not decoded; `order`: of the colours of pixels, ``bgr`` or ``rgb``.

    Raises:
        BadInputError: these are not the inputs of a group, with what it takes.
    """
    if [one.name for one in inputs] != [INPUT]:
        named = ", ".join(one.name for one in inputs[:5]) or "none"
        raise BadInputError(f"a group has one input, {INPUT}; there are: {named}", f"it takes {TAKES}")
    [tensor] = inputs
    if order not in ("bgr", "rgb"):
        raise BadInputError(f"pixel_order is {order!r}", "bgr or rgb")
    if tensor.datatype == "BYTES":
        return list(_encoded(tensor))
    if tensor.datatype == "UINT8":
        return list(_pixels(tensor, order))
    raise BadInputError(f"input {INPUT} has the datatype {tensor.datatype}", f"it takes {TAKES}")


def _encoded(tensor: InputTensor) -> list[bytes]:
    shape = tensor.shape
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)) or shape[0] < 1:
        raise _wrong_shape(tensor)
    count = _count(shape[0])
    if tensor.raw is not None:
        return split_bytes(tensor.raw, count)
    items = [inner for one in tensor.items or () for inner in (one if isinstance(one, list) else [one])]
    if len(items) != count:
        raise BadInputError(f"input {INPUT}: {len(items)} elements of data, {count} by its shape")
    return [_decoded(item, index) for index, item in enumerate(items)]


def _decoded(item: object, index: int) -> bytes:
    if isinstance(item, bytes):
        return item
    try:
        if isinstance(item, str):
            return base64.b64decode(item, validate=True)
    except (ValueError, binascii.Error):
        pass
    raise BadInputError(
        f"input {INPUT}: element {index} is not base64", "in JSON an image is base64; or send it binary"
    )


def _pixels(tensor: InputTensor, order: str) -> list[Pixels]:
    shape = tensor.shape
    if len(shape) not in (3, 4) or shape[-1] != 3 or min(shape) < 1 or max(shape) > 1 << 24:
        raise _wrong_shape(tensor)
    count = _count(shape[0] if len(shape) == 4 else 1)
    flat = np.frombuffer(tensor.raw, np.uint8) if tensor.raw is not None else _flat(tensor.items or ())
    if flat.size != prod(shape):
        raise BadInputError(f"input {INPUT}: {flat.size} values of data, {prod(shape)} by its shape {list(shape)}")
    images = flat.reshape((count, *shape[-3:]))
    return list(images if order == "bgr" else np.ascontiguousarray(images[..., ::-1]))


def _flat(items: Sequence[Any]) -> Pixels:
    """Return lists of numbers, maybe nested, as one array."""
    try:
        values = np.asarray(items)
    except (ValueError, OverflowError, RecursionError):
        values = np.empty(0, object)
    if values.dtype.kind not in "iu" or (values.size and (values.min() < 0 or values.max() > 255)):
        raise BadInputError(f"input {INPUT}: data of UINT8 are whole numbers from 0 to 255")
    return values.astype(np.uint8).reshape(-1)


def _count(count: int) -> int:
    if count > MAX_IMAGES:
        raise BadInputError(f"{count} images in one request: {MAX_IMAGES} are the most", "send several requests")
    return count


def _wrong_shape(tensor: InputTensor) -> BadInputError:
    return BadInputError(
        f"input {INPUT} of {tensor.datatype} has the shape {list(tensor.shape)[:8]}", f"it takes {TAKES}"
    )


def wanted_outputs(names: Sequence[str]) -> tuple[str, ...]:
    """Return the outputs to give: those named, or all. Raises BadInputError: there is no such output."""
    for name in names:
        if name not in OUTPUTS:
            raise BadInputError(f"there is no output {name[:64]!r}", f"there are {', '.join(OUTPUTS)}")
    return tuple(dict.fromkeys(names)) or tuple(OUTPUTS)


def outputs_of(results: Sequence[Result], names: Sequence[str]) -> list[OutputTensor]:
    """Return the outputs `names` of one request, of the results of its images in order."""
    found = [result.data["objects"] for result in results]
    flat = [one for objects in found for one in objects]
    make: dict[str, Callable[[], Sequence[Any]]] = {
        "objects": lambda: [msgspec.json.encode(objects) for objects in found],
        "counts": lambda: [len(objects) for objects in found],
        "boxes": lambda: [float(side) for one in flat for side in one["box"]],
        "scores": lambda: [float(one["score"]) for one in flat],
        "labels": lambda: [str(one["label"]).encode() for one in flat],
    }
    outputs = []
    for name in names:
        datatype, shape, _ = OUTPUTS[name]
        size = len(found) if name in ("objects", "counts") else len(flat)
        outputs.append(OutputTensor(name, datatype, (size, *shape[1:]), make[name]()))
    return outputs
