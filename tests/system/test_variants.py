"""Variants in the formats that real runtimes read: the fastest above the floor serves, and results stay right."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from hams_client import Result
from hams_services.models.groups import load_group
from hams_services.models.prepare import prepare_group
from hams_shared.bus.control import Control
from hams_shared.bus.nats.client import NatsBus
from hams_shared.group.node_spec import NodeSpec
from hams_shared.wire.messages.group import ModelRef
from hams_shared.wire.variants import (
    Agreement,
    Made,
    Precision,
    RuntimeFormat,
    VariantRecord,
    embedded_input,
    model_ref,
    task_key,
)
from support.grey import LENGTH, STEP, video
from support.networks import write
from support.results import Subscriber
from support.up import Up, cores
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SIDE, CHANNELS = 64, 32
GOOD, ROUGH = 300.0, 600.0
"""What each variant adds to the brightness, so that a result tells who said it; the source adds nothing."""


def network(path: Path, layers: int, adds: float, *, takes_bytes: bool = False) -> Path:
    """Brightness + `adds`, with `layers` convolutions that cost time and weigh next to nothing."""
    rng = np.random.default_rng(1)
    nodes, weights = [], {"least": np.float32([1e-12]), "adds": np.float32([adds])}
    x = "x"
    if takes_bytes:
        nodes += [
            helper.make_node("Cast", ["b"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["f"], ["x"], perm=[0, 3, 1, 2]),
        ]
    last, depth = x, 3
    for i in range(layers):
        weights[f"w{i}"] = rng.normal(0, 0.05, (CHANNELS, depth, 3, 3)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        last, depth = f"c{i}", CHANNELS
    nodes += [
        helper.make_node("ReduceMean", [x], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("ReduceMean", [last], ["heavy"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["heavy", "least"], ["little"]),
        helper.make_node("Add", ["mean", "little"], ["sum"]),
        helper.make_node("Add", ["sum", "adds"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "axis"], ["y"]),
    ]
    shape = ["n", SIDE, SIDE, 3] if takes_bytes else ["n", 3, SIDE, SIDE]
    element = TensorProto.UINT8 if takes_bytes else TensorProto.FLOAT
    tensors = [numpy_helper.from_array(v, k) for k, v in {**weights, "axis": np.int64([1])}.items()]
    return write(
        path,
        helper.make_graph(
            nodes,
            "brightness",
            [helper.make_tensor_value_info("b" if takes_bytes else "x", element, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
            tensors,
        ),
    )


def group_file(folder: Path, floor: float) -> Path:
    spec = {
        "name": "grey",
        "nodes": {
            "light": {
                "model": str(folder / "source.onnx"),
                "input": {"size": [SIDE, SIDE]},
                "task": {"type": "regression", "unit": "grey"},
                "min_agreement": floor,
            }
        },
        "streams": {"s0": {"source": str(folder / "grey.avi"), "mode": "lossless", "loop": True}},
    }
    path = folder / "group.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def record(
    source: ModelRef,
    node: NodeSpec,
    files: list[tuple[str, bytes]],
    agreement: float,
    *,
    format: RuntimeFormat,
    precision: Precision,
    embedded: bool = False,
) -> VariantRecord:
    takes = embedded_input(node.input) if embedded else None
    return VariantRecord(
        model=model_ref("light", files),
        made=Made(source_digest=source.digest, source_format="onnx", format=format, precision=precision, input=takes),
        agreements={task_key(node): Agreement(value=agreement, samples=100, samples_digest="0" * 64)},
    )


async def register(url: str, file: Path, folder: Path) -> ModelRef:
    """Put two variants where the scheduler sees them: an accurate one as IR, and a faster, less accurate one."""
    group, _ = prepare_group(load_group(file), folder, lambda *_: None)
    source, node = group.models["light"], group.spec.nodes["light"]
    xml = folder / "good.xml"
    ov.save_model(
        ov.convert_model(network(folder / "good.onnx", 6, GOOD, takes_bytes=True)), xml, compress_to_fp16=False
    )
    good = [(".xml", xml.read_bytes()), (".bin", xml.with_suffix(".bin").read_bytes())]
    rough = [(".onnx", network(folder / "rough.onnx", 0, ROUGH).read_bytes())]
    made = [
        (good, record(source, node, good, 0.99, format="openvino", precision="int8", embedded=True)),
        (rough, record(source, node, rough, 0.90, format="onnx", precision="fp16")),
    ]
    async with NatsBus(url, name="test") as bus:
        for files, found in made:
            contents = {part.digest: data for part, (_, data) in zip(found.model.parts, files, strict=True)}
            await Control(bus).add_variant(source, found, contents, lambda *_: None)
    return source


def added(result: Result) -> float:
    """What was added to the brightness of this frame, which is known up to what Motion JPEG loses."""
    [one] = result.objects
    extra = float(one["light"]["value"]) - STEP * (result.frame % LENGTH)
    nearest = min((0.0, GOOD, ROUGH), key=lambda value: abs(value - extra))
    assert abs(nearest - extra) < STEP / 2, result
    return nearest


def test_the_fastest_variant_above_the_floor_serves(tmp_path: Path) -> None:
    network(tmp_path / "source.onnx", 24, 0.0)
    video(tmp_path)
    with Up(tmp_path / "home", *cores()) as up:
        group_file(tmp_path, 0.98)
        asyncio.run(register(up.url, tmp_path / "group.yaml", tmp_path))
        with Subscriber(up.url, "grey") as results:
            up.ctl("deploy", tmp_path / "group.yaml")
            results.until(5)
            assert {added(r) for r in results.received} == {GOOD}
            shown = up.ctl("matrix", "--variants")
            assert re.search(r"→ [\d,.]+ \*", shown), shown
            assert "onnx fp16 agrees to 0.9000, 0.0800 below the floor of 0.98" in " ".join(shown.split()), shown
            assert "does not read .xml" not in shown  # a form made for OpenVINO: nobody expects it of ONNX Runtime
            assert "light int8" in up.ctl("status")
            planned = up.ctl("plan", tmp_path / "group.yaml", "--explain", "-s", "mfs")
            assert re.search(r"int8 \(agreement 0\.990\): \S+ instead of \S+ FPS", planned), planned
            assert re.search(r"FPS with variants, \S+ FPS without, ×", planned), planned

            up.ctl("deploy", group_file(tmp_path, 0.85))
            until_sync(lambda: added(results.received[-1]) == ROUGH, 120, f"the faster variant\n{up.logs()}")
            assert "light fp16" in up.ctl("status")
            assert {added(r) for r in results.received} == {GOOD, ROUGH}
        stream = up.check_ledger()
        assert not stream["failed"]
        assert not stream["dropped"]
