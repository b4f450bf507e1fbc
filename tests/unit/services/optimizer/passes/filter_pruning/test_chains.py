"""Where channels may be pruned, and that outputs stay the same where others make up for them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from hams_services.optimizer.onnx_graph import graph as onnx_graph
from hams_services.optimizer.passes.filter_pruning.chains import chains, layers
from hams_services.optimizer.passes.filter_pruning.channel_statistics import channel_statistics, prune, sizes
from hams_shared.errors import UnsupportedModelError
from support.networks import graph, run, write

WIDE, SIDE = 32, 16
Nodes = list[onnx.NodeProto]
Weights = dict[str, np.ndarray]


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def twins(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Weights of which the second half of the channels is like the first."""
    half = random.normal(size=(shape[0] // 2, *shape[1:])).astype(np.float32)
    return np.concatenate([half, half])


def doubled(
    between: Nodes, weights: Weights, reader: dict[str, object] | None = None, kernel: int = 1
) -> onnx.GraphProto:
    """A convolution of twins, `between` (from ``a`` to ``b``), what reads it, and the mean of that."""
    random = np.random.default_rng(0)
    nodes = [
        node("Conv", "x w bias", "a", pads=[1] * 4),
        *between,
        node("Conv", "b v", "c", **(reader or {})),
        node("GlobalAveragePool", "c", "y"),
    ]
    constants = {
        "w": twins(random, WIDE, 3, 3, 3),
        "bias": twins(random, WIDE),
        "v": random.normal(size=(4, WIDE, kernel, kernel)).astype(np.float32),
        **weights,
    }
    return graph(nodes, constants=constants, sides=(SIDE, SIDE))


RANDOM = np.random.default_rng(1)
BETWEEN: dict[str, tuple[Nodes, Weights]] = {
    "relu": ([node("Relu", "a", "b")], {}),
    "clip": ([node("Clip", "a low high", "b")], {"low": np.float32(0), "high": np.float32(6)}),
    "leaky": ([node("LeakyRelu", "a", "b")], {}),
    "prelu": ([node("PRelu", "a slope", "b")], {"slope": twins(RANDOM, WIDE, 1, 1)}),
    "one slope": ([node("PRelu", "a slope", "b")], {"slope": np.float32([[[0.1]]])}),
    "swish": ([node("Sigmoid", "a", "s"), node("Mul", "a s", "b")], {}),
    "normal": (
        [node("BatchNormalization", "a g o m v2", "n"), node("Relu", "n", "b")],
        {
            "g": twins(RANDOM, WIDE),
            "o": twins(RANDOM, WIDE),
            "m": twins(RANDOM, WIDE),
            "v2": np.square(twins(RANDOM, WIDE)) + 0.1,
        },
    ),
    "scaled": (
        [node("Mul", "a by", "m"), node("Add", "m plus", "b")],
        {"by": twins(RANDOM, WIDE, 1, 1)[None], "plus": np.float32([0.5])},
    ),
    "depthwise": (
        [
            node("Relu", "a", "r"),
            node("Conv", "r d", "e", group=WIDE, pads=[1] * 4, strides=[2, 2]),
            node("Relu", "e", "b"),
        ],
        {"d": twins(RANDOM, WIDE, 1, 3, 3)},
    ),
    "pooled": ([node("Relu", "a", "r"), node("MaxPool", "r", "b", kernel_shape=[2, 2], strides=[2, 2])], {}),
    "nothing": ([node("Identity", "a", "b")], {}),
}


FEW = 60
"""Images that are looked at: enough for channels of which each has a twin."""


def statistics_of(file: Path, folder: Path, layout: str = "nchw") -> Path:
    """The channel statistics of a network."""
    random = np.random.default_rng(2)
    samples = random.normal(size=(20, 3, SIDE, SIDE)).astype(np.float32)
    np.save(folder / "tensors.npy", samples)
    channel_statistics(str(file), str(folder / "known.npz"), str(folder / "tensors.npy"), layout, most=FEW)
    return folder / "known.npz"


def pruned(file: Path, known: Path, share: float) -> tuple[Path, float]:
    """The network with `share` of its multiplications, and how many are left in truth."""
    done = prune(str(file), str(known), str(known.parent / "made"), share)
    return Path(done["files"][0]), done["share"]


KERNELS: dict[str, tuple[int, dict[str, object]]] = {
    "1x1": (1, {}),
    "3x3": (3, {"pads": [1, 1, 1, 1]}),
    "sparse": (3, {"strides": [2, 2], "dilations": [2, 2], "pads": [0, 1, 1, 2]}),
}


@pytest.mark.parametrize(
    ("between", "kernel"),
    [*((one, "1x1") for one in BETWEEN), *itertools.product(("swish", "depthwise", "pooled"), ("3x3", "sparse"))],
)
def test_twins_go_and_nothing_changes(tmp_path: Path, between: str, kernel: str) -> None:
    side, reader = KERNELS[kernel]
    file = write(tmp_path / "net.onnx", doubled(*BETWEEN[between], reader, side))
    [chain] = chains(onnx_graph.load(file))
    assert chain.channels == WIDE
    known = statistics_of(file, tmp_path)
    target, share = pruned(file, known, 0.5)
    assert share == pytest.approx(0.5, abs=0.01)
    made = onnx.load(target)
    assert {tuple(one.dims) for one in made.graph.initializer if one.name in ("w", "v")} == {
        (WIDE // 2, 3, 3, 3),
        (4, WIDE // 2, side, side),
    }
    unseen = np.random.default_rng(7).normal(size=(5, 3, SIDE, SIDE)).astype(np.float32)
    before, after = run(file, unseen), run(target, unseen)
    assert np.abs(before - after).max() < 0.01 * np.abs(before).max()
    assert np.abs(before - run(pruned(file, known, 0.3)[0], unseen)).max() > 0  # less than that is felt


ELSEWHERE: dict[str, tuple[Nodes, Weights]] = {
    "two readers": ([node("Relu", "a", "b"), node("Conv", "b v", "z")], {}),
    "from outside": ([node("ReduceMean", "x", "m", axes=[1]), node("Add", "a m", "b")], {}),
    "over the channels": ([node("Softmax", "a", "b", axis=1)], {}),
    "squeezed": (
        [
            node("GlobalAveragePool", "a", "p"),
            node("Conv", "p q", "t"),
            node("Sigmoid", "t", "s"),
            node("Mul", "a s", "b"),
        ],
        {"q": RANDOM.normal(size=(WIDE, WIDE, 1, 1)).astype(np.float32)},
    ),
    "grouped": ([node("Conv", "a q", "b", group=2)], {"q": RANDOM.normal(size=(WIDE, 16, 1, 1)).astype(np.float32)}),
    "shared weights": ([node("Mul", "a by", "m"), node("Mul", "m by", "b")], {"by": twins(RANDOM, WIDE, 1, 1)}),
}


@pytest.mark.parametrize("between", ELSEWHERE)
def test_where_something_else_would_notice_nothing_goes(tmp_path: Path, between: str) -> None:
    built = doubled(*ELSEWHERE[between])
    if between == "two readers":
        built.output.append(onnx.ValueInfoProto(name="z"))
    assert chains(onnx_graph.load(write(tmp_path / "net.onnx", built))) == []


def test_an_output_is_left_alone(tmp_path: Path) -> None:
    built = doubled(*BETWEEN["relu"])
    built.output.append(onnx.ValueInfoProto(name="b"))
    file = write(tmp_path / "net.onnx", built)
    assert chains(onnx_graph.load(file)) == []
    with pytest.raises(UnsupportedModelError, match="no layers whose channels can be taken out"):
        statistics_of(file, tmp_path)


def stacked(layers: int) -> onnx.GraphProto:
    """Convolutions one after another: each but the first and last reads one chain and makes the next."""
    random = np.random.default_rng(3)
    nodes, constants, last, taken = [], {}, "x", 3
    for index in range(layers):
        nodes += [
            node("Conv", f"{last} w{index}", f"c{index}", pads=[1] * 4),
            node("Relu", f"c{index}", f"r{index}"),
        ]
        constants[f"w{index}"] = random.normal(size=(WIDE, taken, 3, 3)).astype(np.float32) / taken
        last, taken = f"r{index}", WIDE
    nodes.append(node("GlobalAveragePool", last, "y"))
    return graph(nodes, constants=constants, sides=(SIDE, SIDE))


def test_layers_between_two_chains_get_narrower_on_both_sides(tmp_path: Path) -> None:
    file = write(tmp_path / "net.onnx", stacked(3))
    model = onnx_graph.load(file)
    found, nodes = chains(model), list(model.graph)
    assert [(nodes.index(one.maker), nodes.index(one.reader)) for one in found] == [(0, 2), (2, 4)]
    image = np.zeros((1, 3, SIDE, SIDE), np.float32)
    costs = layers(model, found, sizes(model, image))
    assert [one.chains for one in costs] == [(0,), (0, 1), (1,)]
    assert [one.cost for one in costs] == [27 * WIDE * 256, 9 * WIDE * WIDE * 256, 9 * WIDE * WIDE * 256]
    target, share = pruned(file, statistics_of(file, tmp_path), 0.5)
    assert 0.3 < share <= 0.5
    narrower = onnx_graph.load(target)
    left = layers(narrower, chains(narrower), sizes(narrower, image))
    assert sum(one.cost for one in left) / sum(one.cost for one in costs) == pytest.approx(share)
    assert run(target, np.zeros((2, 3, SIDE, SIDE), np.float32)).shape == (2, WIDE, 1, 1)


def test_it_is_reproducible(tmp_path: Path) -> None:
    file = write(tmp_path / "net.onnx", stacked(3))
    known = statistics_of(file, tmp_path)
    first = pruned(file, known, 0.6)[0].read_bytes()
    assert first != pruned(file, known, 0.5)[0].read_bytes()
    assert first == pruned(file, statistics_of(file, tmp_path), 0.6)[0].read_bytes()


def test_weights_that_are_constants_are_weights(tmp_path: Path) -> None:
    """As Paddle2ONNX writes them."""
    plain = onnx.ModelProto()
    plain.CopyFrom(onnx.load_model(write(tmp_path / "plain.onnx", doubled(*BETWEEN["clip"]))))
    file = tmp_path / "constants.onnx"
    constants = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in plain.graph.initializer]
    nodes = list(plain.graph.node)
    del plain.graph.node[:], plain.graph.initializer[:]
    plain.graph.node.extend([*constants, *nodes])
    file.write_bytes(plain.SerializeToString())
    path, share = pruned(file, statistics_of(file, tmp_path), 0.6)
    assert share <= 0.6
    images = np.random.default_rng(3).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    np.testing.assert_allclose(run(path, images), run(file, images), atol=1e-3)


def test_weights_in_half_precision_stay_so(tmp_path: Path) -> None:
    plain = onnx.load_model(write(tmp_path / "plain.onnx", doubled(*BETWEEN["relu"])))
    file = tmp_path / "half.onnx"
    file.write_bytes(convert_float_to_float16(plain, keep_io_types=True).SerializeToString())
    path, share = pruned(file, statistics_of(file, tmp_path), 0.5)
    assert share == pytest.approx(0.5, abs=0.01)
    kinds = {one.data_type for one in onnx.load_model(path).graph.initializer if len(one.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}
    images = np.random.default_rng(7).normal(size=(5, 3, SIDE, SIDE)).astype(np.float32)
    before = run(file, images)
    assert np.abs(before - run(path, images)).max() < 0.02 * np.abs(before).max()
