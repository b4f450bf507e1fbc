"""What is to be known of a network before it is made narrower; in a job's process.

Each chain's channels over the samples, the order in which they are missed least, and how much the network's outputs
lose by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from hams_services.models.onnx_dims import hoist
from hams_services.optimizer.accuracy.heatmaps import is_heat
from hams_services.optimizer.onnx_graph.run_onnx import tapped
from hams_services.optimizer.passes.filter_pruning.augmentation import varied
from hams_services.optimizer.passes.filter_pruning.chains import Chain, array, attribute, chains, layers, mapped, take
from hams_services.optimizer.passes.filter_pruning.saliency import Elimination, Loss, Matrix, eliminate, refit
from hams_shared.errors import ModelError, UnsupportedModelError

MULTIPLICATIONS = 3e11
"""For all images that are looked at: the samples, and changed ones of them."""
FEWEST, MOST = 40, 1000
"""Of those images."""
PLACES = 300
"""Places of each map that are looked at in an image."""
NEAR = 20.0
"""How much more likely a place is looked at where the network finds something."""
AROUND = 0.15
"""How far around it, as a share of the map's longer side."""
LUKEWARM = 0.1
"""A chance below it is nothing found."""
PROBES = 16
"""Samples with which it is told what the outputs lose, at most."""
APART = 5
"""Every so many-th sample is kept for that, and nothing is fitted to it: whether a fit holds, others tell."""
GONE = (1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Parts of a chain's channels that are taken out for it: outputs lose little at first, then much."""

Images = Iterator[NDArray[np.generic]]
Outputs = list[NDArray[np.floating]]


def look(source: str, out: str, tensors: str, layout: str, seed: int = 0, most: int = MOST) -> dict[str, Any]:
    """Look at the ONNX file `source` with the images in `tensors` (.npy, one after another) and write the file `out`.

    It looks at `most` images or fewer. Returns ``chains``: how many it has.

    Raises:
        UnsupportedModelError: it has no layers whose channels can be taken out.
    """
    model = hoist(onnx.load_model(source))
    samples = np.load(tensors, mmap_mode="r")
    if samples.ndim != 4:
        raise UnsupportedModelError("its input is no image")
    found = chains(model)
    if not found:
        raise UnsupportedModelError("it has no layers whose channels can be taken out")
    costs = layers(model, found, sizes(model, samples[:1]))
    random = np.random.default_rng(seed)
    count = int(np.clip(MULTIPLICATIONS / max(sum(one.cost for one in costs), 1.0), FEWEST, most))
    apart = np.arange(APART - 1, len(samples), APART)
    fitted = np.setdiff1d(np.arange(len(samples)), apart)
    grams = _grams(model, found, _images(samples, fitted, count, layout, random), random)
    eliminations = [
        eliminate(gram, weight_of(model, one), prod(kernel_of(model, one)))
        for one, gram in zip(found, grams, strict=True)
    ]
    losses = _losses(model, found, grams, eliminations, samples, apart if len(apart) else fitted)
    known: dict[str, NDArray[Any]] = {
        "costs": np.array([one.cost for one in costs]),
        "chains": np.array([[index in one.chains for index in range(len(found))] for one in costs]),
    }
    for index, (gram, one, loss) in enumerate(zip(grams, eliminations, losses, strict=True)):
        known |= {f"gram{index}": gram, f"order{index}": one.order, f"error{index}": one.error}
        known |= {f"counts{index}": loss.counts, f"factors{index}": loss.factors}
    np.savez(out, **known)  # type: ignore[arg-type]
    return {"chains": len(found)}


def sizes(model: Any, image: NDArray[np.generic]) -> dict[str, tuple[int, ...]]:
    """The shapes of the maps that its convolutions are about, by running it."""
    own = {value.name for value in (*model.graph.input, *model.graph.output)}
    inner = [name for name in dict.fromkeys(mapped(model)) if name not in own]
    session, names = _session(model, inner)
    given = session.get_inputs()[0].name
    image = np.ascontiguousarray(image)
    said = session.run(None, {given: image})
    return {given: image.shape} | {name: one.shape for name, one in zip((*names, *inner), said, strict=True)}


def weight_of(model: Any, chain: Chain) -> Matrix:
    """The weights of what reads a chain, rows × (channels·places + 1), the bias last."""
    reader = model.graph.node[chain.reader]
    weight = array(model, reader.input[1]).astype(np.float64)
    bias = array(model, reader.input[2]) if len(reader.input) > 2 and reader.input[2] else np.zeros(len(weight))
    return np.concatenate([weight.reshape(len(weight), -1), np.reshape(bias, (-1, 1))], axis=1)


def kernel_of(model: Any, chain: Chain) -> tuple[int, int]:
    """Rows and columns of the kernel of what reads a chain."""
    rows, columns = array(model, model.graph.node[chain.reader].input[1]).shape[2:]
    return rows, columns


def narrow(model: Any, chain: Chain, gram: Matrix, kept: NDArray[np.integer]) -> None:
    """Leave the channels `kept` of a chain, and fit what reads them."""
    reader = model.graph.node[chain.reader]
    shape = array(model, reader.input[1]).shape
    found = refit(gram, weight_of(model, chain), kept, prod(kernel_of(model, chain)))
    take(model, chain, kept, found[:, :-1].reshape(shape[0], len(kept), *shape[2:]), found[:, -1])


def _images(
    samples: NDArray[np.generic], some: NDArray[np.integer], count: int, layout: str, random: np.random.Generator
) -> Images:
    """The samples `some`, spread evenly where they are more than `count`, then changed ones."""
    spread = some[np.linspace(0, len(some) - 1, min(count, len(some))).astype(int)]
    for index in range(count):
        one = samples[spread[index % len(spread)]]
        yield (one if index < len(spread) else varied(one, layout, random))[None]


def _grams(model: Any, found: Sequence[Chain], images: Images, random: np.random.Generator) -> list[Matrix]:
    """Second moments of what each chain's reader takes."""
    reads = [one.read for one in found]
    session, names = _session(model, reads)
    grams: list[Matrix] = [np.zeros(()) for _ in found]
    for image in images:
        said = session.run([*names, *reads], {session.get_inputs()[0].name: np.ascontiguousarray(image)})
        outputs, read = said[: len(names)], said[len(names) :]
        near = _near(outputs)
        for index, (one, values) in enumerate(zip(found, read, strict=True)):
            columns = _columns(model.graph.node[one.reader], kernel_of(model, one), values[0], near, random)
            grams[index] = grams[index] + columns @ columns.T
    if not all(np.isfinite(gram).all() for gram in grams):
        raise ModelError("what its layers say is not finite")
    return grams


def _near(outputs: Outputs) -> NDArray[np.float32] | None:
    """Where the network finds something, as its maps of chances say, H×W in 0…1; None: it says no such thing."""
    heat = [one[0].max(0) for one in outputs if _is_heat(one)]
    if not heat:
        return None
    hottest = np.asarray(np.max(heat, axis=0) if len({one.shape for one in heat}) == 1 else heat[0], np.float32)
    side = int(AROUND * max(hottest.shape)) // 2 * 2 + 1
    return np.asarray(cv2.dilate(hottest, np.ones((side, side), np.uint8)), np.float32)


def _is_heat(values: NDArray[np.floating]) -> bool:
    return values.ndim == 4 and min(values.shape[2:]) > 1 and is_heat(values)


def _columns(
    reader: Any,
    sides: tuple[int, int],
    values: NDArray[np.float32],
    near: NDArray[np.float32] | None,
    random: np.random.Generator,
) -> Matrix:
    """What the reader takes at some places, and a constant 1: (C·rows·columns of the kernel + 1) × places."""
    strides = attribute(reader, "strides", [1, 1])
    dilations = attribute(reader, "dilations", [1, 1])
    pads = attribute(reader, "pads", [0, 0, 0, 0])
    padded = np.pad(values, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    rows, columns = (
        (padded.shape[axis + 1] - dilations[axis] * (sides[axis] - 1) - 1) // strides[axis] + 1 for axis in (0, 1)
    )
    chance = np.ones(rows * columns)
    if near is not None:
        chance += NEAR * np.clip(cv2.resize(near, (columns, rows)).ravel(), 0, 1)
    count = min(PLACES, rows * columns)
    places = random.choice(rows * columns, count, replace=False, p=chance / chance.sum())
    row, column = np.divmod(places, columns)
    row, column = row * strides[0], column * strides[1]
    taken = np.stack(
        [
            padded[:, row + y * dilations[0], column + x * dilations[1]]
            for y in range(sides[0])
            for x in range(sides[1])
        ],
        axis=1,
    )
    return np.concatenate([taken.reshape(-1, count).astype(np.float64), np.ones((1, count))])


def _losses(
    model: Any,
    found: Sequence[Chain],
    grams: Sequence[Matrix],
    eliminations: Sequence[Elimination],
    samples: NDArray[np.generic],
    apart: NDArray[np.integer],
) -> list[Loss]:
    """What the outputs lose per error of each chain: parts of its channels are taken out, and the network is run."""
    some = apart[np.linspace(0, len(apart) - 1, min(PROBES, len(apart))).astype(int)]
    probes = [np.ascontiguousarray(samples[index : index + 1]) for index in some]
    truth = _run(model, probes)
    counts = [_counts(one) for one in truth]
    scale = _scale(truth, counts)
    losses = []
    for chain, gram, one in zip(found, grams, eliminations, strict=True):
        gone = np.unique([min(max(round(part * chain.channels), 1), len(one.order)) for part in GONE])
        factors = []
        for count in gone:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            narrow(copy, chain, gram, one.kept(int(count)))
            lost = _lost(truth, _run(copy, probes), scale, counts)
            factors.append(lost / max(float(one.error[count]), 1e-12))
        losses.append(Loss(gone, np.array(factors)))
    return losses


def _run(model: Any, images: Sequence[NDArray[np.generic]]) -> list[Outputs]:
    session, _ = _session(model, [])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: one}) for one in images]


def _counts(outputs: Outputs) -> Outputs:
    """How much each number of the outputs counts: in maps and in lists of anchors, where something is found."""
    heat = [one.max(1, keepdims=True) for one in outputs if _is_heat(one)]
    places = heat or [_unusual(one) for one in outputs if _is_choice(one)]
    where = np.clip(places[0] - LUKEWARM, 0, None) if places else np.ones(())
    axes = slice(2, None) if heat else slice(1, 2)  # N×C×H×W or N×P×C
    counted = [bool(places) and one.ndim == where.ndim and one.shape[axes] == where.shape[axes] for one in outputs]
    return [np.broadcast_to(where if it else 1.0, one.shape) for it, one in zip(counted, outputs, strict=True)]


def _is_choice(values: NDArray[np.floating]) -> bool:
    """Whether these are chances of classes at many places, N×P×C."""
    many = values.ndim == 3 and values.shape[1] > 1 and values.shape[2] > 1
    return many and bool(values.min() >= 0 and np.allclose(values.sum(-1), 1, atol=1e-3))


def _unusual(chances: NDArray[np.floating]) -> NDArray[np.floating]:
    """The chance of anything but what is said at most places (background, blank), N×P×1."""
    usual = int(chances.mean((0, 1)).argmax())
    return 1 - chances[..., usual : usual + 1]


def _scale(truth: Sequence[Outputs], counts: Sequence[Outputs]) -> list[float]:
    """Variance of each output over samples and places, by how much they count."""
    found = []
    for index in range(len(truth[0])):
        values = np.stack([one[index] for one in truth]).astype(np.float64)
        weight = np.stack([one[index] for one in counts])
        over = tuple(axis for axis in range(values.ndim) if values.ndim < 5 or axis != 2)  # each map has its own mean
        total = max(float(weight.sum()), 1e-12)
        mean = (values * weight).sum(over, keepdims=True) / np.maximum(weight.sum(over, keepdims=True), 1e-12)
        found.append(max(float((np.square(values - mean) * weight).sum()) / total, 1e-12))
    return found


def _lost(
    truth: Sequence[Outputs], said: Sequence[Outputs], scale: Sequence[float], counts: Sequence[Outputs]
) -> float:
    """Mean squared error of the outputs, in their variances."""
    lost = 0.0
    for right, given, weights in zip(truth, said, counts, strict=True):
        for a, b, unit, weight in zip(right, given, scale, weights, strict=True):
            error = np.square(np.subtract(b, a, dtype=np.float64)) * weight
            lost += float(error.sum()) / max(float(weight.sum()), 1e-12) / unit
    return lost / (len(truth) * len(scale))


def _session(model: Any, inner: Sequence[str]) -> tuple[Any, list[str]]:
    """Run a network on one core, with inner tensors as further outputs; and the names of its own."""
    return tapped(model, inner), [value.name for value in model.graph.output]
