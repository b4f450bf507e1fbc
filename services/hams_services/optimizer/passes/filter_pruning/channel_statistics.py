"""Channel statistics, and the network pruned by them; in a job's process.

Statistics are each chain's second moments over the samples, the order of its channels by saliency, and how much the
network's outputs lose without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import cv2
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from hams_services.optimizer.accuracy.heatmaps import is_heat
from hams_services.optimizer.augmentation import varied
from hams_services.optimizer.onnx_graph import graph
from hams_services.optimizer.passes.filter_pruning.chains import Chain, chains, layers, mapped
from hams_services.optimizer.passes.filter_pruning.saliency import (
    Elimination,
    Layer,
    Loss,
    Matrix,
    allocate,
    eliminate,
    left,
    refit,
)
from hams_shared.errors import ModelError, UnsupportedModelError

MULTIPLICATIONS = 3e11
"""For all images that the network is run on: the samples, and changed ones of them."""
FEWEST, MOST = 40, 1000
"""Of those images."""
PLACES = 300
"""Places of each map that are sampled in an image."""
NEAR = 20.0
"""How much more likely a place is sampled where the network finds something."""
AROUND = 0.15
"""How far around it, as a share of the map's longer side."""
LUKEWARM = 0.1
"""A probability below it is nothing found."""
PROBES = 16
"""Samples, at most, on which the loss of the outputs is measured."""
APART = 5
"""Every so many-th sample is used for that, and nothing is fitted to it."""
GONE = (1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Parts of a chain's channels that are taken out for it: outputs lose little at first, then much."""

Images = Iterator[NDArray[np.generic]]
Outputs = list[NDArray[np.floating]]


def channel_statistics(
    source: str, out: str, tensors: str, layout: str, seed: int = 0, most: int = MOST
) -> dict[str, Any]:
    """Run the ONNX file `source` on the images in `tensors` (.npy, one after another) and write the file `out`.

    It runs on `most` images or fewer. Returns ``chains``: how many it has.

    Raises:
        UnsupportedModelError: it has no layers whose channels can be taken out.
    """
    model = graph.load(source)
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
    eliminations = [eliminate(gram, _weight_of(one), prod(one.kernel)) for one, gram in zip(found, grams, strict=True)]
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


def prune(source: str, statistics: str, out: str, share: float) -> dict[str, Any]:
    """Write the ONNX file `source` with `share` of its multiplications left, by what :func:`channel_statistics` wrote.

    Returns ``files``, ``share`` (what is left in fact), ``tools``.
    """
    model = graph.load(source)
    found, known = chains(model), np.load(statistics)
    eliminations = [Elimination(known[f"order{i}"], known[f"error{i}"]) for i in range(len(found))]
    costs = [
        Layer(float(cost), tuple(np.flatnonzero(inside).tolist()))
        for cost, inside in zip(known["costs"], known["chains"], strict=True)
    ]
    losses = [Loss(known[f"counts{i}"], known[f"factors{i}"]) for i in range(len(found))]
    lost = allocate(eliminations, losses, costs, share)
    for index, (chain, one, count) in enumerate(zip(found, eliminations, lost, strict=True)):
        if count:
            _prune_chain(chain, known[f"gram{index}"], one.kept(count))
    return {
        "files": [graph.save(model, out)],
        "share": left(costs, [one.channels for one in found], lost),
        "tools": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
    }


def sizes(model: ir.Model, image: NDArray[np.generic]) -> dict[str, tuple[int, ...]]:
    """Return the shapes for one `image` of the maps that its convolutions work on, by running it."""
    given, image = model.graph.inputs[0].name, np.ascontiguousarray(image)
    names = [name for name in dict.fromkeys(mapped(model)) if name != given]
    found = graph.session(model, names).run(names, {given: image})
    return {given: image.shape} | {name: one.shape for name, one in zip(names, found, strict=True)}


def _weight_of(chain: Chain) -> Matrix:
    """Return the weights of a chain's reader, rows × (channels·places + 1), the bias last."""
    weight, *bias = (values.astype(np.float64) for values in graph.weights_of(chain.reader))
    last = bias[0] if bias else np.zeros(len(weight))
    return np.concatenate([weight.reshape(len(weight), -1), np.reshape(last, (-1, 1))], axis=1)


def _prune_chain(chain: Chain, gram: Matrix, kept: NDArray[np.integer]) -> None:
    """Leave the channels `kept` of a chain, and fit its reader."""
    weight = _weight_of(chain)
    found = refit(gram, weight, kept, prod(chain.kernel))
    chain.take(kept, found[:, :-1].reshape(len(weight), len(kept), *chain.kernel), found[:, -1])


def _images(
    samples: NDArray[np.generic], some: NDArray[np.integer], count: int, layout: str, random: np.random.Generator
) -> Images:
    """Yield the samples `some`, spread evenly where they are more than `count`, then changed ones."""
    spread = some[np.linspace(0, len(some) - 1, min(count, len(some))).astype(int)]
    for index in range(count):
        one = samples[spread[index % len(spread)]]
        yield (one if index < len(spread) else varied(one, layout, random))[None]


def _grams(model: ir.Model, found: Sequence[Chain], images: Images, random: np.random.Generator) -> list[Matrix]:
    """Return the second moments of what each chain's reader takes."""
    reads, names = [one.reader.inputs[0].name for one in found], [value.name for value in model.graph.outputs]
    session = graph.session(model, reads)
    grams: list[Matrix] = [np.zeros(()) for _ in found]
    for image in images:
        outputs = session.run([*names, *reads], {session.get_inputs()[0].name: np.ascontiguousarray(image)})
        near = _near(outputs[: len(names)])
        for index, (one, values) in enumerate(zip(found, outputs[len(names) :], strict=True)):
            columns = _columns(one, values[0], near, random)
            grams[index] = grams[index] + columns @ columns.T
    if not all(np.isfinite(gram).all() for gram in grams):
        raise ModelError("the outputs of its layers are not finite")
    return grams


def _near(outputs: Outputs) -> NDArray[np.float32] | None:
    """Return where the network finds something, by its heat maps, H×W in 0…1; None: it has none."""
    heat = [one[0].max(0) for one in outputs if _is_heat(one)]
    if not heat:
        return None
    hottest = np.asarray(np.max(heat, axis=0) if len({one.shape for one in heat}) == 1 else heat[0], np.float32)
    side = int(AROUND * max(hottest.shape)) // 2 * 2 + 1
    return np.asarray(cv2.dilate(hottest, np.ones((side, side), np.uint8)), np.float32)


def _is_heat(values: NDArray[np.floating]) -> bool:
    return values.ndim == 4 and min(values.shape[2:]) > 1 and is_heat(values)


def _columns(
    chain: Chain, values: NDArray[np.float32], near: NDArray[np.float32] | None, random: np.random.Generator
) -> Matrix:
    """Return what the reader takes at some places, and a constant 1: (C·rows·columns of the kernel + 1) × places."""
    get_ints, sides = chain.reader.attributes.get_ints, chain.kernel
    strides, dilations = get_ints("strides", [1, 1]), get_ints("dilations", [1, 1])
    pads = get_ints("pads", [0, 0, 0, 0])
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
    model: ir.Model,
    found: Sequence[Chain],
    grams: Sequence[Matrix],
    eliminations: Sequence[Elimination],
    samples: NDArray[np.generic],
    apart: NDArray[np.integer],
) -> list[Loss]:
    """Return what the outputs lose per error of each chain: parts of it are taken out, and the network is run."""
    some = apart[np.linspace(0, len(apart) - 1, min(PROBES, len(apart))).astype(int)]
    probes = [np.ascontiguousarray(samples[index : index + 1]) for index in some]
    reference = _run(model, probes)
    counts = [_counts(one) for one in reference]
    scale = _scale(reference, counts)
    losses = []
    for chain, gram, one in zip(found, grams, eliminations, strict=True):
        gone = np.unique([min(max(round(part * chain.channels), 1), len(one.order)) for part in GONE])
        factors = []
        for count in gone:
            with chain.restored():
                _prune_chain(chain, gram, one.kept(int(count)))
                lost = _lost(reference, _run(model, probes), scale, counts)
            factors.append(lost / max(float(one.error[count]), 1e-12))
        losses.append(Loss(gone, np.array(factors)))
    return losses


def _run(model: ir.Model, images: Sequence[NDArray[np.generic]]) -> list[Outputs]:
    session = graph.session(model)
    name = session.get_inputs()[0].name
    return [session.run(None, {name: one}) for one in images]


def _counts(outputs: Outputs) -> Outputs:
    """Return how much each number of the outputs counts: in maps and lists of anchors, where something is found."""
    heat = [one.max(1, keepdims=True) for one in outputs if _is_heat(one)]
    places = heat or [_unusual(one) for one in outputs if _is_choice(one)]
    where = np.clip(places[0] - LUKEWARM, 0, None) if places else np.ones(())
    axes = slice(2, None) if heat else slice(1, 2)  # N×C×H×W or N×P×C
    counted = [bool(places) and one.ndim == where.ndim and one.shape[axes] == where.shape[axes] for one in outputs]
    return [np.broadcast_to(where if it else 1.0, one.shape) for it, one in zip(counted, outputs, strict=True)]


def _is_choice(values: NDArray[np.floating]) -> bool:
    """Return whether these are probabilities of classes at many places, N×P×C."""
    many = values.ndim == 3 and values.shape[1] > 1 and values.shape[2] > 1
    return many and bool(values.min() >= 0 and np.allclose(values.sum(-1), 1, atol=1e-3))


def _unusual(probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the probability of any but the most frequent class (background, blank), N×P×1."""
    usual = int(probabilities.mean((0, 1)).argmax())
    return 1 - probabilities[..., usual : usual + 1]


def _scale(reference: Sequence[Outputs], counts: Sequence[Outputs]) -> list[float]:
    """Return the variance of each output over samples and places, by how much they count."""
    found = []
    for index in range(len(reference[0])):
        values = np.stack([one[index] for one in reference]).astype(np.float64)
        weight = np.stack([one[index] for one in counts])
        over = tuple(axis for axis in range(values.ndim) if values.ndim < 5 or axis != 2)  # each map has its own mean
        total = max(float(weight.sum()), 1e-12)
        mean = (values * weight).sum(over, keepdims=True) / np.maximum(weight.sum(over, keepdims=True), 1e-12)
        found.append(max(float((np.square(values - mean) * weight).sum()) / total, 1e-12))
    return found


def _lost(
    reference: Sequence[Outputs], found: Sequence[Outputs], scale: Sequence[float], counts: Sequence[Outputs]
) -> float:
    """Return the mean squared error of the outputs, in their variances."""
    lost = 0.0
    for right, given, weights in zip(reference, found, counts, strict=True):
        for a, b, unit, weight in zip(right, given, scale, weights, strict=True):
            error = np.square(np.subtract(b, a, dtype=np.float64)) * weight
            lost += float(error.sum()) / max(float(weight.sum()), 1e-12) / unit
    return lost / (len(reference) * len(scale))
