"""A TensorFlow graph, and a SavedModel around one.

By tensorflow/core/protobuf/saved_model.proto and meta_graph.proto, and by tensorflow/core/framework/graph.proto,
node_def.proto, attr_value.proto, tensor.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

FLOAT, UINT8 = 1, 4
"""Of tensorflow/core/framework/types.proto."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensors(field: int, tensors: Mapping[str, tuple[str, int]]) -> bytes:
    """SignatureDef.inputs or .outputs: a map of names to TensorInfo {1: name, 2: dtype}."""
    return b"".join(
        _field(field, _field(1, key) + _field(2, _field(1, name) + _field(2, dtype)))
        for key, (name, dtype) in tensors.items()
    )


def _node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    """NodeDef {1: name, 2: op, 3: input, 5: attr}, in a GraphDef."""
    given = b"".join(_field(3, each) for each in inputs)
    attr = b"".join(_field(5, _field(1, key) + _field(2, value)) for key, value in attributes.items())
    return _field(1, _field(1, name) + _field(2, op) + given + attr)


def frozen(shape: tuple[int, ...]) -> bytes:
    """A GraphDef that takes ``image`` and says ``twice`` of it and ``more``, which is one more."""
    sizes = b"".join(_field(2, _field(1, size)) for size in shape)
    number = _field(6, FLOAT)  # AttrValue.type
    constants = (
        _node(name, "Const", dtype=number, value=_field(8, _field(1, FLOAT) + _field(2, b"") + _field(4, value)))
        for name, value in (("two", struct.pack("<f", 2.0)), ("one", struct.pack("<f", 1.0)))
    )
    return b"".join(
        (
            _node("image", "Placeholder", dtype=number, shape=_field(7, sizes)),
            *constants,
            _node("twice", "Mul", "image", "two", T=number),
            _node("more", "AddV2", "image", "one", T=number),
        )
    )


def saved_model(
    folder: Path, graph: bytes, inputs: Mapping[str, tuple[str, int]], outputs: Mapping[str, tuple[str, int]]
) -> Path:
    """Write `graph` (a GraphDef without variables) as a SavedModel into `folder`.

    Inputs and outputs are {name: (tensor, DataType)}: FLOAT or UINT8.
    """
    signature = _tensors(1, inputs) + _tensors(2, outputs) + _field(3, "tensorflow/serving/predict")
    meta = (
        _field(1, _field(4, "serve"))  # MetaInfoDef.tags
        + _field(2, graph)
        + _field(5, _field(1, "serving_default") + _field(2, signature))
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_bytes(_field(1, 1) + _field(2, meta))
    (folder / "variables").mkdir(exist_ok=True)
    return folder
