"""The constants of a cropped network, fitted to the outputs of the whole network for samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hams_services.optimizer.least_squares import line
from hams_services.optimizer.onnx_graph import graph

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
INNER_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


@dataclass(frozen=True)
class Fit:
    """Constants that bring a tensor for fewer places near to what it is for all of them."""

    target: str
    """The tensor of the whole network."""
    near: ir.Value
    """The tensor of the cropped one."""
    rest: ir.Value
    """The constant that is added."""
    factor: ir.Value | None = None
    """The constant that it is multiplied by before, if any."""
    usual: float = 1.0
    """What that constant is where the samples vary little."""


def fit(model: ir.Model, before: ir.Model, fits: Sequence[Fit], few: Array, images: Array) -> None:
    """Set the constants of `model`, one after another: those that follow rest on them.

    `few` are the parts of `images`, N×…, that `model` takes; `before` takes all of them.
    """
    wanted = _run(before, {one.target: one.factor is not None for one in fits}, images)
    for together in _waves(model, fits):
        found = _run(model, {one.near.name: one.factor is not None for one in together}, few)
        for one in together:
            near, target = found[one.near.name], wanted[one.target]
            rest = target - near
            if one.factor is not None:
                factor, rest = (each[0] for each in line(near, target, 1.0, (0,), one.usual, damping=0.05))
                graph.set_constant(one.factor, factor.astype(np.float32))
            graph.set_constant(one.rest, rest.astype(np.float32))


def _waves(model: ir.Model, fits: Sequence[Fit]) -> list[list[Fit]]:
    """Group what is fitted together: no tensor of a group rests on a constant of the same group, or of a later one."""
    constants = {one.rest for one in fits}
    level: dict[ir.Value | None, int] = {}
    for node in model.graph:
        conditional = any(one.type in INNER_GRAPHS for one in node.attributes.values())
        given = level if conditional else node.inputs  # inner graphs may read any tensor before them
        here = max((level.get(value, 0) for value in given), default=0)
        level |= dict.fromkeys(node.outputs, here + (not constants.isdisjoint(node.inputs)))
    waves: dict[int, list[Fit]] = {}
    for one in fits:
        waves.setdefault(level[one.near], []).append(one)
    return [waves[number] for number in sorted(waves)]


def _run(model: ir.Model, names: Mapping[str, bool], images: Array) -> dict[str, Floats]:
    """Return tensors for all images: of each, N×1×…, where `names` states so, else their mean, 1×…"""
    session, source = graph.session(model, names), model.graph.inputs[0].name
    found: dict[str, Any] = {name: [] if each else 0.0 for name, each in names.items()}
    for image in images:
        outputs = session.run(list(names), {source: np.ascontiguousarray(image[None])})
        for name, values in zip(names, outputs, strict=True):
            found[name] = found[name] + ([values] if names[name] else values.astype(np.float64) / len(images))
    return {name: np.asarray(values, np.float64) for name, values in found.items()}
