"""Tiny TFLite networks, built with LiteRT's own schema; tests that use them skip where LiteRT is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHAPE = (1, 8, 8, 3)
MISSING = 'LiteRT is not installed: pip install "hams[litert]"'
_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int8": 9}


@dataclass(frozen=True)
class Port:
    """An input or output: its type and, quantised, its scale and zero point."""

    dtype: str = "float32"
    scale: float = 0.0
    zero: int = 0


class Builder:
    """Collects tensors and operators, then writes the file."""

    def __init__(self) -> None:
        self._s = pytest.importorskip("ai_edge_litert.schema_py_generated", reason=MISSING)
        self._model = self._s.ModelT()
        self._model.version, self._model.buffers, self._model.operatorCodes = 3, [self._s.BufferT()], []
        self._graph = self._s.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]

    def tensor(self, name: str, shape: Sequence[int], port: Port, value: np.ndarray | None = None) -> int:
        """Add a tensor; -1 in its shape: any size."""
        tensor = self._s.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, _TYPES[port.dtype], 0
        tensor.shape = [max(size, 1) for size in shape]
        if -1 in shape:
            tensor.shapeSignature = list(shape)
        if port.scale:
            tensor.quantization = self._s.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [port.scale], [port.zero]
        if value is not None:
            buffer = self._s.BufferT()
            buffer.data = list(value.tobytes())
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def operator(self, name: str, inputs: list[int], outputs: list[int], options: str = "", **values: Any) -> None:
        """Add a built-in operator by its name in the schema, or a custom one."""
        code, operator = self._s.OperatorCodeT(), self._s.OperatorT()
        builtin = getattr(self._s.BuiltinOperator, name, None)
        if builtin is None:
            code.builtinCode = code.deprecatedBuiltinCode = self._s.BuiltinOperator.CUSTOM
            code.customCode = name
        else:
            code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
        code.version = 2 if name == "MEAN" else 1
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self._model.operatorCodes), inputs, outputs
        if options:
            operator.builtinOptionsType = getattr(self._s.BuiltinOptions, options)
            operator.builtinOptions = getattr(self._s, f"{options}T")()
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        self._model.operatorCodes.append(code)
        self._graph.operators.append(operator)

    def write(self, path: Path, inputs: list[int], outputs: list[int]) -> Path:
        """Write the file with these tensors as the network's inputs and outputs."""
        import flatbuffers

        self._graph.inputs, self._graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def means(
    path: Path, image: Port = Port(), output: Port = Port(), shape: Sequence[int] = SHAPE, reshaped: bool = False
) -> Path:
    """The mean of each channel, N×C; `reshaped` states one image in the graph, so that no batch can be right."""
    net = Builder()
    x = net.tensor("image", shape, image)
    axes = net.tensor("axes", (2,), Port("int32"), np.array([1, 2], np.int32))
    y = net.tensor("mean", (shape[0], shape[3]), output)
    net.operator("MEAN", [x, axes], [y], "ReducerOptions", keepDims=False)
    if reshaped:
        to = net.tensor("to", (2,), Port("int32"), np.array([1, shape[3]], np.int32))
        z = net.tensor("reshaped", (1, shape[3]), output)
        net.operator("RESHAPE", [y, to], [z], "ReshapeOptions", newShape=[1, shape[3]])
        y = z
    return net.write(path, [x], [y])


def custom(path: Path, name: str) -> Path:
    """A network with an operator that nobody knows."""
    net = Builder()
    x, y = net.tensor("image", SHAPE, Port()), net.tensor("y", SHAPE, Port())
    net.operator(name, [x], [y])
    return net.write(path, [x], [y])


def fixed(path: Path) -> Path:
    """Takes any size by its input, but adds 8×8 numbers."""
    net = Builder()
    x, y = net.tensor("image", (-1, -1, -1, 3), Port()), net.tensor("y", (-1, -1, -1, 3), Port())
    net.operator("ADD", [x, net.tensor("fixed", SHAPE, Port(), np.ones(SHAPE, np.float32))], [y], "AddOptions")
    return net.write(path, [x], [y])


def two_inputs(path: Path, shape: Sequence[int] = SHAPE) -> Path:
    """The image plus a number per channel."""
    net = Builder()
    x, offset = net.tensor("image", shape, Port()), net.tensor("offset", (1, 3), Port())
    y = net.tensor("sum", shape, Port())
    net.operator("ADD", [x, offset], [y], "AddOptions")
    return net.write(path, [x, offset], [y])
