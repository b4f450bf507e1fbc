"""What of each frame of one stream is computed, by one record of its group. Pure; it never changes.

A frame is computed by the rules that it was sent under (:attr:`Flight.rules <flight.Flight.rules>`): when a group is
changed, frames under way end under the rules that they began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from hams_services.pipeline.regions import merged, unmasked, views
from hams_services.pipeline.zones import Zones
from hams_shared.errors import MessageError
from hams_shared.group.conditions import child_condition, waits_for
from hams_shared.group.spec import GroupSpec
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.wire.frames import Output
from hams_shared.wire.messages.group import GroupRecord

CHOICE = frozenset({"when", "cadence", "budget", "weight", "pin", "min_agreement", "variants", "max_wait_ms", "track"})
"""Keys of a node that do not change what its network answers about an object."""


class SelectionRules:
    """The rules of one stream; of single images, which have no tracks, with `stream` None."""

    number = 0
    """Of rules that follow others: one more than theirs."""

    def __init__(self, spec: GroupSpec, stream: StreamSpec | None, networks: Mapping[str, str] | None = None) -> None:
        """Take the group and the stream as the record has them; `networks` are digests by node."""
        self.spec, self.stream = spec, stream
        self._networks = networks or {}
        found = {node: child_condition(spec.nodes, node) for node in spec.chosen}
        self.conditions = {node: one for node, one in found.items() if one is not None}
        self.waits = {
            node: frozenset() if one is None else frozenset(waits_for(one, spec.nodes, node))
            for node, one in found.items()
        }
        """By chosen node: the siblings whose answers it needs."""
        self.order = ordered(spec, self.waits)
        """The chosen nodes, each after those it depends on."""
        self.below = {node: below(spec, node) for node in self.order}
        """Each with the nodes that get their objects by its device and theirs."""
        self.left = frozenset[str]().union(*self.below.values())
        """Nodes that the root's device does not send its objects to, nor others in its place."""
        self.gives_all = self.left >= spec.nodes.keys() - {spec.root}
        """Whether the root's answer is all that the other nodes need; else its device gives some their objects."""
        masks, zones = ((), {}) if stream is None else (stream.mask, stream.zones)
        self._masks = Zones({f"{number}": mask for number, mask in enumerate(masks)})
        self._zones = Zones(zones)
        self.tracks = stream is not None and spec.nodes[spec.root].track is not None
        """Whether objects are followed."""
        self.slow = frozenset(n for n in self.order if self.tracks and spec.nodes[n].budget is not None)
        """Nodes for whose answers no frame waits."""
        cadences = [spec.nodes[node].cadence for node in self.order]
        self.better = any(one is not None and one.track for one in cadences)
        """Whether better crops are looked for."""

    @property
    def needed(self) -> bool:
        """Whether anything is chosen at all."""
        rules = self.spec.chosen or self.spec.nodes[self.spec.root].track is not None
        return bool(rules or (self.stream is not None and (self.stream.changes_view or self.stream.zones)))

    @property
    def as_found(self) -> bool:
        """Whether objects are just those that the root finds in the whole picture."""
        return self.stream is None or not self.stream.changes_view

    def seen(self, root: Output, size: tuple[int, int]) -> list[dict[str, Any]]:
        """Return what the root found in all that it was given, without what stands in masks. Raises MessageError."""
        for found in root.items:
            if not (isinstance(found, list) and all(map(_is_object, found))):
                raise MessageError(
                    f"node {self.spec.root} has track or regions, and found what is no object: "
                    "each has a box of four finite numbers, a score and a text as label"
                )
        if self.as_found or self.stream is None:
            return [one for found in root.items for one in found]
        parts = views(self.stream.tiles, self.stream.roi, size)
        if len(parts) != len(root.items):
            raise MessageError(
                f"node {self.spec.root} was given {len(parts)} parts of the frame, not {len(root.items)}"
            )
        return unmasked(merged(parts, root.items), self._masks, size)

    def place(self, output: Output, size: tuple[int, int]) -> None:
        """Note in each of the root's objects in which zones it is."""
        objects = output.items[0] if self._zones.names and len(output.items) == 1 else []
        if objects and isinstance(objects, list):
            boxes = np.array([one["box"] for one in objects], np.float64)
            for one, zones in zip(objects, self._zones.of(boxes, size), strict=True):
                one["zones"] = [*zones]

    def answers_anew(self, before: SelectionRules) -> frozenset[str]:
        """The nodes whose answers under the rules `before` are not those that they would give now."""
        return frozenset(node for node in self.spec.nodes if self._answer(node) != before._answer(node))

    def _answer(self, node: str) -> object:
        """All that an answer of `node` depends on."""
        spec = self.spec.nodes.get(node)
        return None if spec is None else (self._networks.get(node), spec.model_dump(exclude=set(CHOICE)))

    def picks_of(self, before: SelectionRules | None, picks: dict[str, list[int]]) -> dict[str, list[int]]:
        """Return what was picked under the rules `before`, where a pick is of the same parent's objects."""
        if before is None or before is self:
            return picks
        old, new = before.spec.nodes, self.spec.nodes
        return {n: one for n, one in picks.items() if n in self.order and old[n].parent == new[n].parent}


def _is_object(one: object) -> bool:
    """Whether it has the box, score and label of an object; what the task of a user returns may have any."""
    if not isinstance(one, dict):
        return False
    box = one.get("box")
    if not (isinstance(box, list | tuple) and len(box) == 4):
        return False
    finite = all(isinstance(v, int | float) and isfinite(v) for v in box)
    return finite and isinstance(one.get("score"), int | float) and isinstance(one.get("label"), str)


def networks_of(record: GroupRecord) -> dict[str, str]:
    """Return the digests of the networks of a group, by node."""
    return {node: ref.digest for node, ref in record.models.items()}


def below(spec: GroupSpec, node: str) -> frozenset[str]:
    """Return `node`, and the nodes that get their objects by its device and theirs."""
    found = {node}
    for child in spec.children(node):
        if child not in spec.chosen:
            found |= below(spec, child)
    return frozenset(found)


def ordered(spec: GroupSpec, waits: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Return the chosen nodes, each after its parent and the siblings in `waits`, whose answers it needs."""
    left = [node for node in spec.depth_first() if node in spec.chosen]
    order: list[str] = []
    while left:
        ready = [n for n in left if not any(other in waits[n] or other == spec.nodes[n].parent for other in left)]
        order += ready or left  # a circle is refused at deploy
        left = [node for node in left if node not in order]
    return tuple(order)
