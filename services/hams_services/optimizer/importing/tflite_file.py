"""A TFLite file's tables, walked with bounds checks before OpenVINO follows them; the schema's few fields that matter.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from hams_services.optimizer.importing.shapes import check_dims
from hams_shared.errors import ModelError

MAX_TABLES = 1_000_000
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3
_SHAPE, _BUFFER = 0, 2
_OP_INPUTS, _OP_OUTPUTS = 1, 2


def check_tflite(path: Path) -> None:
    """Check that all tables lie within the file and tensors are sane.

    Raises:
        ModelError: they do not.
    """
    try:
        _check(_Buffer(path.read_bytes()))
    except (struct.error, IndexError):
        raise ModelError(f"{path.name} is damaged: it points outside of itself", "fetch or export it again") from None


class _Buffer:
    """Flatbuffer tables; positions are bytes from the start."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = MAX_TABLES

    def u32(self, at: int) -> int:
        self._inside(at)
        return int(struct.unpack_from("<I", self.data, at)[0])

    def i32s(self, at: int) -> tuple[int, ...]:
        """Return a vector of int32; () when `at` is 0."""
        if at == 0:
            return ()
        count = self.u32(at)
        if count > (len(self.data) - at - 4) // 4:
            raise IndexError
        return struct.unpack_from(f"<{count}i", self.data, at + 4)

    def size(self, at: int, width: int) -> int:
        """Return the length of a vector of `width` bytes an element, after checking that it is all there."""
        count = self.u32(at) if at else 0
        if count * width > len(self.data) - at - 4:
            raise IndexError
        return count

    def tables(self, at: int) -> Iterator[int]:
        """Yield the tables of a vector of them."""
        for index in range(self.size(at, 4)):
            self.left -= 1
            if self.left < 0:
                raise ModelError(f"more than {MAX_TABLES} tables in a TFLite file")
            yield self.follow(at + 4 + 4 * index)

    def field(self, table: int, index: int) -> int:
        """Return the position of a field of a table, 0 when it is absent."""
        self._inside(table)
        base = table - int(struct.unpack_from("<i", self.data, table)[0])
        self._inside(base)
        length, _ = struct.unpack_from("<HH", self.data, base)
        entry = 4 + 2 * index
        if entry + 2 > length:
            return 0
        offset = int(struct.unpack_from("<H", self.data, base + entry)[0])
        return table + offset if offset else 0

    def vector(self, table: int, index: int) -> int:
        """Return the position of a vector that a field of a table points to, 0 when it is absent."""
        at = self.field(table, index)
        return self.follow(at) if at else 0

    def follow(self, at: int) -> int:
        target = at + self.u32(at)
        self._inside(target)
        return target

    def _inside(self, at: int) -> None:
        if not 0 <= at <= len(self.data) - 4:
            raise IndexError


def _check(buffer: _Buffer) -> None:
    model = buffer.follow(0)
    buffers = buffer.vector(model, _BUFFERS)
    sizes = [_data_size(buffer, table) for table in buffer.tables(buffers)] if buffers else []
    graphs = buffer.vector(model, _SUBGRAPHS)
    if not graphs or not buffer.size(graphs, 4):
        raise ModelError("a TFLite file without a network in it")
    for graph in buffer.tables(graphs):
        tensors = buffer.vector(graph, _TENSORS)
        count = 0
        for tensor in buffer.tables(tensors) if tensors else ():
            _check_tensor(buffer, tensor, count, len(sizes))
            count += 1
        for index in (_INPUTS, _OUTPUTS):
            _check_indices(buffer.i32s(buffer.vector(graph, index)), count, 0)
        operators = buffer.vector(graph, _OPERATORS)
        for operator in buffer.tables(operators) if operators else ():
            for index in (_OP_INPUTS, _OP_OUTPUTS):
                _check_indices(buffer.i32s(buffer.vector(operator, index)), count, -1)


def _data_size(buffer: _Buffer, table: int) -> int:
    at = buffer.vector(table, 0)
    return buffer.size(at, 1) if at else 0


def _check_tensor(buffer: _Buffer, tensor: int, index: int, buffers: int) -> None:
    shape = buffer.i32s(buffer.vector(tensor, _SHAPE))
    if any(size < -1 for size in shape):
        raise ModelError(f"tensor {index} has a negative size")
    check_dims(f"tensor {index}", shape)
    at = buffer.field(tensor, _BUFFER)
    if at and buffer.u32(at) >= max(buffers, 1):
        raise ModelError(f"tensor {index} has its numbers in buffer {buffer.u32(at)} of {buffers}")


def _check_indices(indices: tuple[int, ...], count: int, least: int) -> None:
    for index in indices:
        if not least <= index < count:
            raise ModelError(f"an operator wants tensor {index} of {count}")
