"""What shapes and metadata of a network file tell of its outputs: helpers of the tasks' ``fits``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hams_agents.tasks.base import TensorInfo
from hams_agents.tasks.names import names_in

Shape = Sequence[int | None]

FEWEST_CLASSES = 2
MOST_FLAGS = 64
"""Attributes in one output, or values of one attribute."""
MOST_NUMBERS = 8
SHORTEST_VECTOR = 32
AGES = range(50, 151)
"""Classes of a network whose classes are years (DEX: 101) or degrees."""
MOST_CHARACTERS = 128

_POINTS = {
    10: (5, 2), 15: (5, 3), 42: (21, 2), 63: (21, 3), 70: (35, 2), 136: (68, 2), 195: (39, 5), 196: (98, 2),
    212: (106, 2), 213: (71, 3), 1404: (468, 3), 1434: (478, 3),
}  # fmt: skip
"""Points and numbers per point, by the length of a vector: published networks for faces, hands, irises and bodies."""


def width(tensor: TensorInfo) -> int | None:
    """Return K of a vector N×K, N×K×1×1 …; None where it is none, or of any length."""
    sizes = [size for size in tensor.shape[1:] if size != 1]
    if len(tensor.shape) < 2 or len(sizes) > 1 or None in sizes:
        return None
    return math.prod(size for size in sizes if size is not None)


def named(tensor: TensorInfo, among: Sequence[TensorInfo]) -> dict[str, Any]:
    """Return the parameter `output`, where there are several outputs."""
    return {"output": tensor.name} if len(among) > 1 else {}


def key(name: str) -> str:
    """Return an output's name as one for a result: letters, digits and ``_``, none other in front."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "value"


def image_size(tensor: TensorInfo) -> tuple[int, int] | None:
    """Return width and height of an image input (N×C×H×W or N×H×W×C), or None."""
    if len(tensor.shape) != 4:
        return None
    last = tensor.shape[3] in (1, 3) and tensor.shape[1] not in (1, 3)
    height, wide = tensor.shape[1:3] if last else tensor.shape[2:]
    return None if height is None or wide is None else (wide, height)


# Metadata


def class_names(metadata: Mapping[str, str], count: int | None = None) -> list[str]:
    """Return the classes' names as Ultralytics (`names`) or OpenVINO's Model API (`labels`) write them, in order.

    With `count` only if there are so many; empty: there are none.
    """
    found = names_in(metadata) or metadata.get("model_info:labels", "").split()
    distinct = _distinct(found)
    return distinct if count is None or len(distinct) == count else []


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names of which none is empty or there twice (ImageNet has two cranes): the second gets its number."""
    seen: set[str] = set()
    result = []
    for number, name in enumerate(names):
        one = " ".join(name.split()) or f"class{number}"
        result.append(one if one not in seen else f"{one} {number}")
        seen.add(result[-1])
    return result


def kind_of(metadata: Mapping[str, str]) -> str:
    """Return Ultralytics' name of the task: detect, segment, classify, pose, obb; empty: not known."""
    return metadata.get("task", "").strip().lower()


def is_ultralytics(metadata: Mapping[str, str]) -> bool:
    """Return whether Ultralytics exported the network."""
    return "names" in metadata and ("stride" in metadata or "Ultralytics" in metadata.get("author", ""))


def is_text(sizes: Shape) -> bool:
    """Return whether T×C can be characters by steps: more classes than ten digits, and no list of boxes."""
    steps, classes = sizes
    return (steps is None or 8 <= steps <= 256) and (classes or 0) > MOST_NUMBERS + 2


def points_of(tensor: TensorInfo) -> dict[str, Any] | None:
    """Return the parameters `points` and `dims` of an output that can be points, or None."""
    sizes = [size for size in tensor.shape[1:] if size != 1]
    if len(sizes) == 2 and None not in sizes and sizes[1] in (2, 3) and 2 <= (sizes[0] or 0) <= 1000:
        points, dims = sizes[0], sizes[1]
    else:
        known = _POINTS.get(width(tensor) or 0)
        if known is None:
            return None
        points, dims = known
    return {"points": points, **({} if dims == 2 else {"dims": dims})}


def points_in(outputs: Sequence[TensorInfo]) -> dict[str, Any] | None:
    """Return `landmarks` parameters for the widest of `outputs` and the one score beside it; None: no points."""
    widths = [width(one) or 0 for one in outputs]
    best = max(range(len(outputs)), key=lambda i: widths[i], default=None)
    found = None if best is None else points_of(outputs[best])
    if best is None or found is None or any(one.shape[1:] == (found["points"], 4) for one in outputs):
        return None  # with as many boxes: scores of objects
    scores = [one for one, size in zip(outputs, widths, strict=True) if size == 1]
    score = {"score_output": scores[0].name} if len(scores) == 1 and len(outputs) == 2 else {}
    return {**found, **named(outputs[best], outputs), **score}
