"""Network files as an attacker, or a bad disk, would hand them in."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from support.networks import graph, means, write


def convolutions(folder: Path, size: int = 16, layers: int = 3, width: int = 8) -> Path:
    """A small classifier of 3×size×size: `layers` convolutions with ReLU, the mean over the picture, a matrix."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    nodes, weights, last, channels = [], [], "x", 3
    for index in range(layers):
        kernel = (random.normal(size=(width, channels, 3, 3)) * 0.4).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"k{index}"))
        nodes.append(helper.make_node("Conv", [last, f"k{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        last, channels = f"r{index}", width
    weights.append(numpy_helper.from_array(random.normal(size=(width, 4)).astype(np.float32), "m"))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, size, size])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])]
    return write(folder / "net.onnx", helper.make_graph(nodes, "net", inputs, outputs, weights))


def external(folder: Path, location: str, **entries: str) -> Path:
    """A network whose weights are said to lie at `location`."""
    path = write(
        folder / "external.onnx",
        graph([helper.make_node("Mul", ["x", "w"], ["y"])], constants={"w": np.ones(4, np.float32)}),
    )
    model = onnx.load_model(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    return path


def changed(folder: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A network that `change` has been at."""
    model = onnx.load_model(means(folder))
    change(model)
    path = folder / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def bomb(folder: Path, mib: int = 300) -> Path:
    """A TorchScript-like zip file that unpacks to `mib` MiB of zeros."""
    path = folder / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/code/x.py", b"")
        archive.writestr("net/data/0", bytes(mib << 20))
    return path


IR = """<?xml version="1.0"?>{doctype}
<net name="n" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="{shape}" element_type="f32"/>
<output><port id="0" precision="FP32">{dims}</port></output></layer>
<layer id="1" name="w" type="Const" version="opset1">
<data element_type="f32" shape="1" offset="{offset}" size="{size}"/>
<output><port id="0" precision="FP32"><dim>1</dim></port></output></layer>
<layer id="2" name="m" type="Multiply" version="opset1"><data auto_broadcast="numpy"/>
<input><port id="0">{dims}</port><port id="1"><dim>1</dim></port></input>
<output><port id="2" precision="FP32" names="y">{dims}</port></output></layer>
<layer id="3" name="r" type="Result" version="opset1"><input><port id="0">{dims}</port></input></layer>
</layers><edges>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/></edges></net>
"""


def ir(folder: Path, shape: str = "1,3,8,8", offset: str = "0", size: str = "4", doctype: str = "") -> Path:
    """An OpenVINO IR y = x * w, said as asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "net.xml"
    dims = "".join(f"<dim>{side}</dim>" for side in shape.split(","))
    path.write_text(IR.format(shape=shape, dims=dims, offset=offset, size=size, doctype=doctype))
    path.with_suffix(".bin").write_bytes(np.float32([2.0]).tobytes())
    return path
