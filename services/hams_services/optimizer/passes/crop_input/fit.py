"""The constants of a network on a part of its image, from what the whole network says of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from hams_services.models.cut import used
from hams_services.optimizer.onnx_graph.run_onnx import tapped

Array = NDArray[np.generic]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Constants that bring what the network says on fewer places near to what it says on all of them."""

    tensor: str
    """What is to be met, of the network as it was."""
    near: str
    """What there is of it."""
    rest: str
    """The constant that is added."""
    share: str = ""
    """The constant that it is multiplied by, before; none: it is not."""
    usual: float = 1.0
    """What that constant is where the samples say little."""


def fit(model: Any, before: Any, fits: Sequence[Fit], few: Array, images: Array) -> None:
    """Set the constants of `model`, one after another: what follows rests on them.

    `few` are the parts of `images`, N×…, that it looks at; `before` looks at all of them.
    """
    wanted = _seen(before, {one.tensor: bool(one.share) for one in fits}, images)
    for together in _waves(model, fits):
        found = _seen(model, {one.near: bool(one.share) for one in together}, few)
        for one in together:
            near, target = found[one.near], wanted[one.tensor]
            rest = target - near
            if one.share:
                share, rest = _line(near, target, one.usual)
                set_constant(model, one.share, share.astype(np.float32))
            set_constant(model, one.rest, rest.astype(np.float32))


def set_constant(model: Any, name: str, values: Array) -> None:
    """Set a constant, which may be new."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(values, name))
            return
    model.graph.initializer.append(numpy_helper.from_array(values, name))


def _waves(model: Any, fits: Sequence[Fit]) -> list[list[Fit]]:
    """What is fitted together: no tensor of a wave rests on a constant of the same wave, or of a later one."""
    constants = {one.rest for one in fits}
    level: dict[str, int] = {}
    for node in model.graph.node:
        here = max((level.get(name, 0) for name in used(node)), default=0)
        level |= dict.fromkeys(node.output, here + any(name in constants for name in node.input))
    waves: dict[int, list[Fit]] = {}
    for one in fits:
        waves.setdefault(level[one.near], []).append(one)
    return [waves[number] for number in sorted(waves)]


def _line(x: Floats, y: Floats, usual: float) -> tuple[Floats, Floats]:
    """Factor and offset, per number, that bring the samples `x` (the first axis) nearest to `y`."""
    middle, target = x.mean(axis=0), y.mean(axis=0)
    spread = np.square(x - middle).mean(axis=0)
    little = 0.05 * spread.mean() + 1e-12
    factor = (((x - middle) * (y - target)).mean(axis=0) + usual * little) / (spread + little)
    return factor, target - factor * middle


def _seen(model: Any, names: Mapping[str, bool], images: Array) -> dict[str, Floats]:
    """What the network says of images: of each, N×1×…, where `names` says so, else their mean, 1×…"""
    session, source = tapped(model, list(names)), model.graph.input[0].name
    found: dict[str, Any] = {name: [] if each else 0.0 for name, each in names.items()}
    for image in images:
        said = session.run(list(names), {source: np.ascontiguousarray(image[None])})
        for name, values in zip(names, said, strict=True):
            found[name] = found[name] + ([values] if names[name] else values.astype(np.float64) / len(images))
    return {name: np.asarray(values, np.float64) for name, values in found.items()}
