"""Answers against stored ones, with tolerances. Pure.

Answers are kept short: boxes, scores, labels, numbers, some of many points. What is near a decision is no expectation:
an object whose score is within MARGIN of its node's threshold may be there or not, a label is expected only where it is
clear, and a value that the recorder found unsteady is not looked at. So the same expectations hold on other processors
and runtimes, whose numbers differ a little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MARGIN = 0.05
"""An object is expected, or not, where its score is so far above the threshold of its node."""
CLEAR = 0.6
"""A label or a text is expected where its score is so high: another label has at most 0.4."""
SAME = 0.5
"""Least intersection over union of a box with that of the object it is compared with."""
POINTS, NUMBERS = 12, 32
"""Most points, and most numbers of a vector, that are kept."""
UNSTEADY = "unsteady"
"""Key of an item: which of its values are not looked at."""
OPTIONAL = "optional"
"""Key of an object that may be there or not; nothing of it is looked at."""

Item = dict[str, Any]


@dataclass(frozen=True)
class Tolerance:
    """How far the answers of one node may be off."""

    iou: float = 0.95
    """Least intersection over union of a box with the expected one."""
    score: float = 0.02
    """Of scores and probabilities, absolute."""
    value: float = 0.5
    """Of other numbers (years), absolute."""
    angle: float = 1.5
    """Degrees."""
    points: float = 0.02
    """Of points, as part of the longer side of the rectangle that they span; at least one pixel."""
    cosine: float = 0.99
    """Least cosine of a vector with the expected one."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as expected."""

    text: str
    item: Item | None = None
    """The expected one."""
    key: str = ""
    """What of it differs; empty: it is missing, or `found` was not expected."""
    siblings: list[Item] | None = None
    """The expected objects beside `found`."""
    found: Item | None = None
    """An object that was not expected."""


def brief(objects: list[Item]) -> list[Item]:
    """Return what is kept of a frame's joined objects."""
    return [_brief(one) for one in objects]


def _brief(item: Item) -> Item:
    kept: Item = {}
    for key, value in item.items():
        match value:
            case [*points] if key == "points":
                kept[key] = [[round(v, 1) for v in point] for point in _some(points, POINTS)]
            case [*boxes] if key == "objects":
                kept[key] = brief(boxes)
            case [float(), *_] as numbers:
                kept[key] = [round(v, 4 if key == "embedding" else 2) for v in _some(numbers, NUMBERS)]
            case dict():
                kept[key] = _brief(value)
            case float():
                kept[key] = round(value, 3)
            case _:
                kept[key] = value
    return kept


def _some(values: list[Any], most: int) -> list[Any]:
    """Return every n-th value, `most` at most."""
    return values[:: math.ceil(len(values) / most) or 1]


@dataclass
class Comparison:
    """What differs, and how much of each tolerance was used."""

    thresholds: Mapping[str, float]
    """Of the nodes that find objects."""
    tolerances: Mapping[str, Tolerance]
    """Of every node."""
    limit: float = 1.0
    """The part of each tolerance that may be used."""
    differences: list[Difference] = field(default_factory=list)
    used: dict[tuple[str, str], float] = field(default_factory=dict)
    """Node, kind of value → the most of its tolerance that was used."""

    @property
    def report(self) -> str:
        """One line for each difference."""
        return "\n".join(one.text for one in self.differences)

    def objects(self, where: str, node: str, expected: list[Item], found: list[Item]) -> None:
        """Compare the objects of `node` in a frame, or in a crop."""
        sure = self.thresholds[node] + MARGIN
        left = list(found)
        for one in expected:
            alike = [other for other in left if other.get("label") == one.get("label") and _iou(one, other) >= SAME]
            name = f"{where} {node} {_name(one)}"
            if alike:
                nearest = max(alike, key=lambda other: _iou(one, other))
                left.remove(nearest)
                if OPTIONAL not in one:
                    self._item(name, node, one, nearest)
            elif _score(one) >= sure and OPTIONAL not in one:
                self.differences.append(Difference(f"{name}: not found", one))
        for other in left:
            if _score(other) >= sure:
                text = f"{where} {node} {_name(other)}: not expected"
                self.differences.append(Difference(text, siblings=expected, found=other))
        for other in found:
            if _score(other) < self.thresholds[node] - 0.001:
                text = f"{where} {node} {_name(other)}: below the threshold, {self.thresholds[node]}"
                self.differences.append(Difference(text))

    def _item(self, where: str, node: str, expected: Item, found: Item) -> None:
        """Compare one object, or what a node tells about one."""
        told = next((key for key in ("label", "text") if key in expected), None)
        if told and "box" not in expected and _score(expected) < CLEAR and found.get(told) != expected[told]:
            return
        for key in sorted((expected.keys() | found.keys()) - {UNSTEADY, *expected.get(UNSTEADY, ())}):
            if key not in expected or key not in found:
                text = f"{where}: {key} is {'not expected' if key in found else 'missing'}"
                self.differences.append(Difference(text, expected, key))
            elif key == "objects":
                self.objects(where, node, expected[key], found[key])
            elif isinstance(expected[key], dict) and isinstance(found[key], dict):
                child = key if key in self.tolerances else node
                self._item(f"{where} › {key}", child, expected[key], found[key])
            else:
                self._value(f"{where}: {key}", node, key, expected, found)

    def _value(self, where: str, node: str, key: str, expected: Item, found: Item) -> None:
        used = _used(self.tolerances[node], key, expected[key], found[key])
        self.used[node, key] = max(used, self.used.get((node, key), 0.0))
        if used > self.limit:
            text = f"{where} is {found[key]}, not {expected[key]} ({used:.1f} times the tolerance)"
            self.differences.append(Difference(text, expected, key))


def _used(allowed: Tolerance, key: str, expected: Any, found: Any) -> float:
    """Return how much of its tolerance a value uses; infinite where there is none."""
    if expected == found:
        return 0.0
    if not _numeric(expected) or not _numeric(found) or np.shape(expected) != np.shape(found):
        return math.inf
    if key == "box":
        return (1 - _overlap(expected, found)) / (1 - allowed.iou)
    if key == "points":
        apart = max((math.dist(a, b) for a, b in zip(expected, found, strict=True)), default=0.0)
        return apart / max(1.0, allowed.points * _side(expected))
    if key == "embedding":
        return (1 - _cosine(expected, found)) / (1 - allowed.cosine)
    if isinstance(expected, list):
        return max((abs(a - b) for a, b in zip(expected, found, strict=True)), default=0.0) / allowed.score
    others = {"value": allowed.value, "yaw": allowed.angle, "pitch": allowed.angle, "roll": allowed.angle}
    return float(abs(expected - found) / others.get(key, allowed.score))


def _numeric(value: Any) -> bool:
    return bool(np.issubdtype(np.asarray(value).dtype, np.number))


def _name(one: Item) -> str:
    box = ", ".join(f"{v:.0f}" for v in one["box"])
    return f"{one.get('label')} {_score(one):.2f} [{box}]"


def _score(one: Item) -> float:
    return float(one.get("score", 1.0))


def _iou(one: Item, other: Item) -> float:
    return _overlap(one["box"], other["box"])


def _overlap(one: list[float], other: list[float]) -> float:
    """Return the intersection over union of two boxes."""
    (a0, b0, a1, b1), (c0, d0, c1, d1) = one, other
    both = max(0.0, min(a1, c1) - max(a0, c0)) * max(0.0, min(b1, d1) - max(b0, d0))
    return both / max((a1 - a0) * (b1 - b0) + (c1 - c0) * (d1 - d0) - both, 1e-9)


def _side(points: list[list[float]]) -> float:
    return max((max(axis) - min(axis) for axis in zip(*points, strict=True)), default=0.0)


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / max(math.hypot(*one) * math.hypot(*other), 1e-9)
