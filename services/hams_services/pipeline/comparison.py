"""How nearly the results of a candidate equal those of what serves, on the same frames. Pure.

The measure is that of the optimizer (docs/nco.md), node by node, and the agreement is the least of the nodes'. The root
is compared by what it finds; a child only on objects that both found, since on others the root's agreement is lower
already. What stands in results for other reasons than the nodes' outputs (tracks, identities) is not compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hams_services.agreement.boxes import match
from hams_services.agreement.compare import compare
from hams_shared.errors import HamsError
from hams_shared.group.spec import GroupSpec

Objects = Sequence[Mapping[str, Any]]
Pair = tuple[Objects, Objects]
"""The objects of what serves in a frame, and those of the candidate."""
OVERLAP = 0.5
"""Least overlap of two boxes that are of one object."""
_ELSEWHERE = ("from_frame", "identity", "similarity")
"""Keys of a description that are not its node's output for this frame."""


@dataclass
class Agreements:
    """Agreement by node, over all frames so far."""

    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    """Compared."""

    def take(self, found: Mapping[str, tuple[float, int]], frames: int) -> None:
        """Add what `frames` frames gave: by node its agreement, and what that counts."""
        self.frames += frames
        for node, (agreement, weight) in found.items():
            self.sums[node] = self.sums.get(node, 0.0) + agreement * weight
            self.weights[node] = self.weights.get(node, 0.0) + weight

    @property
    def by_node(self) -> dict[str, float]:
        """0 to 1; without nodes that nothing is known of."""
        return {node: self.sums[node] / weight for node, weight in sorted(self.weights.items()) if weight}

    @property
    def least(self) -> float | None:
        """Of all nodes; None: nothing was compared."""
        return min(self.by_node.values(), default=None)


def agreements(serving: GroupSpec, tried: GroupSpec, pairs: Sequence[Pair]) -> dict[str, tuple[float, int]]:
    """Return by node that both have: its agreement in these frames, and how many frames or objects that is of."""
    items: dict[str, tuple[list[Any], list[Any]]] = {}
    finds = all("box" in one and _is_object(one, serving.root) for pair in pairs for side in pair for one in side)
    both = [node for node in serving.nodes if node in tried.nodes]
    for reference, found in pairs:
        if finds and serving.root in both:
            _add(items, serving.root, [*reference], [*found])
            aligned = [(reference[i], found[j]) for i, j, _ in match(reference, found, OVERLAP)]
            _below(items, serving, both, serving.root, aligned)
        elif not finds:
            whole = list(zip(reference, found, strict=False))  # the root describes the frame: one object each
            _described(items, serving, both, serving.root, whole)
    compared = {node: _agreement(*sides) for node, sides in items.items()}
    return {node: one for node, one in compared.items() if one is not None}


def _is_object(one: Mapping[str, Any], root: str) -> bool:
    """Whether an entry is an object that the root found, and not the frame, which it describes."""
    return not (one.get("label") == "frame" and root in one)


def _below(
    items: dict[str, tuple[list[Any], list[Any]]],
    spec: GroupSpec,
    both: Sequence[str],
    parent: str,
    aligned: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> None:
    """Add what the children of `parent` output about objects that both found."""
    for child in spec.children(parent):
        if child in both:
            _described(items, spec, both, child, aligned)


def _described(
    items: dict[str, tuple[list[Any], list[Any]]],
    spec: GroupSpec,
    both: Sequence[str],
    node: str,
    aligned: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> None:
    for reference, found in aligned:
        one, other = reference.get(node), found.get(node)
        if not isinstance(one, Mapping) or not isinstance(other, Mapping):
            continue  # by its cadence or condition it did not run on both
        parts = [[part for part in _list(answer.get("objects")) if "box" in part] for answer in (one, other)]
        if one.keys() == other.keys() == {"objects"}:
            _add(items, node, parts[0], parts[1])
        else:
            _add(items, node, _own(one), _own(other))
        _below(items, spec, both, node, [(parts[0][i], parts[1][j]) for i, j, _ in match(parts[0], parts[1], OVERLAP)])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _own(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in _ELSEWHERE}


def _add(items: dict[str, tuple[list[Any], list[Any]]], node: str, one: Any, other: Any) -> None:
    sides = items.setdefault(node, ([], []))
    sides[0].append(one)
    sides[1].append(other)


def _agreement(reference: list[Any], found: list[Any]) -> tuple[float, int] | None:
    """Return the agreement of a node's outputs, and of how many; None: nothing of them can be compared."""
    if all(isinstance(one, list) for one in reference) and not any(reference):
        return sum(not one for one in found) / len(found), len(found)  # nothing was to be found
    try:
        return compare(reference, found).agreement, len(reference)
    except HamsError:
        return None
