"""What of each frame of one stream is computed: whether the root looks, and which objects other nodes are given. Pure.

The root looks at the frames of its cadence; between them the tracker says where objects are. Of the nodes in
:attr:`GroupSpec.chosen <hams_shared.group.spec.GroupSpec.chosen>` each is given those of its parent's objects that

- have one of its crop's labels,
- fulfil its condition (``when``), and
- by its cadence are due: have no answer yet, an old one, or show the object much better than when it was answered;
  without one, those that its parent found in this very frame.

The others carry on the last answer about their track, with ``from_frame``, or say in ``skipped`` why they have none.
Frames are seen, and delivered, in frame order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec.structs import replace

from hams_services.pipeline.flight import Flight, Shot
from hams_services.pipeline.regions import merged, unmasked, views
from hams_services.pipeline.tracking.follower import Follower
from hams_services.pipeline.tracking.quality import quality
from hams_services.pipeline.zones import Zones
from hams_shared.errors import MessageError
from hams_shared.group.conditions import child_condition, object_values, waits_for
from hams_shared.group.spec import GroupSpec
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.group.work_rules import CadenceSpec
from hams_shared.wire.frames import Given, Output

BETTER = 1.5
"""A crop that is better by this factor is worth another inference."""
AGAIN_S = 1.0
"""A node that gave no answer about an object is asked again so much later, s of the media."""


@dataclass
class Known:
    """What one node knows of one track."""

    frame: int
    """That it was asked about last."""
    at: float
    """Its media time, s."""
    quality: float
    waits: bool = True
    """No answer yet."""
    lost: bool = False
    """The frame ended without a result."""
    answer: dict[str, Any] | None = None
    answered: int = 0
    """The frame that the answer is of."""


class Selection:
    """The choices for one stream. `stream` None: single images, which have no tracks."""

    def __init__(self, spec: GroupSpec, stream: StreamSpec | None) -> None:
        self.spec, self.stream = spec, stream
        found = {node: child_condition(spec.nodes, node) for node in spec.chosen}
        self._conditions = {node: one for node, one in found.items() if one is not None}
        self._waits = {
            node: frozenset() if one is None else frozenset(waits_for(one, spec.nodes, node))
            for node, one in found.items()
        }
        self.order = ordered(spec, self._waits)
        """The chosen nodes, each after those it depends on."""
        self.below = {node: below(spec, node) for node in self.order}
        """Each with the nodes that get their objects by its device and theirs."""
        self.left = frozenset[str]().union(*self.below.values())
        """Nodes that the root's device does not send its objects to, nor others in its place."""
        masks, zones = ((), {}) if stream is None else (stream.mask, stream.zones)
        self._masks = Zones({f"{number}": mask for number, mask in enumerate(masks)})
        self._zones = Zones(zones)
        root = spec.nodes[spec.root]
        self.follower = Follower(root.track, root.cadence) if stream is not None and root.track is not None else None
        self.known: dict[int, dict[str, Known]] = {}
        """By track and node."""
        cadences = [spec.nodes[node].cadence for node in self.order]
        self._better = any(one is not None and one.track for one in cadences)
        """Whether better crops are looked for."""
        self._paused_s = self._newest = 0.0

    # ── the root ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def in_order(self) -> bool:
        """Whether the root's answers are to be looked at in frame order."""
        return self.follower is not None

    @property
    def looks_at_pixels(self) -> bool:
        """Whether it needs a small image of each frame."""
        return self.follower is not None and (self.follower.looks_at_pixels or self._better)

    def detects(self, shot: Shot) -> bool:
        """Whether the root is to look at the frame."""
        return self.follower is None or shot.media_time_s is None or self.follower.cadence.due(shot.media_time_s)

    def launched(self, shot: Shot, *, detect: bool) -> float:
        """The frame is on its way; `detect`: the root looks at it. Return how long frames were left out so far, s."""
        if self.follower is not None and shot.media_time_s is not None:
            self.follower.cadence.launched(shot.media_time_s, looks=detect)
            self._newest = shot.media_time_s
        return self._paused_s

    def left_out(self, media_time_s: float) -> None:
        """The gate leaves a frame out: tracks rest until one is computed, which the root looks at."""
        if self.follower is not None:
            self.follower.cadence.missed()
            self._paused_s += max(media_time_s - self._newest, 0.0)
            self._newest = media_time_s

    def look(self, flight: Flight) -> Output:
        """Return what the root's answer about the frame is taken to be. Raises MessageError: it is no objects."""
        output = self._look(flight)
        objects = output.items[0] if self._zones.names and len(output.items) == 1 else []
        if objects and isinstance(objects, list):
            boxes = np.array([one["box"] for one in objects], np.float64)
            for one, zones in zip(objects, self._zones.of(boxes, flight.shot.size), strict=True):
                one["zones"] = [*zones]
        return output

    def _look(self, flight: Flight) -> Output:
        root, shot = flight.root, flight.shot
        if self.follower is None:
            assert root is not None
            items = root.items if self._as_found else [self._seen(root, shot.size)]
            return replace(root, items=[_sure(item) for item in items], sources=[0] * len(items))
        assert flight.id is not None
        found = None if root is None else self._seen(root, shot.size)
        objects = self.follower.follow(found, shot.media_time_s or 0.0, shot.size, shot.luma, flight.paused_s)
        flight.tracks = self.follower.tracks
        for track in self.follower.ended:
            self.known.pop(track.id, None)
        return replace(root or Output(flight.id, self.spec.root, "", []), items=[objects], sources=[0])

    @property
    def _as_found(self) -> bool:
        """Whether objects are just those that the root finds in the whole picture."""
        return self.stream is None or not self.stream.changes_view

    def _seen(self, root: Output, size: tuple[int, int]) -> list[dict[str, Any]]:
        """Return what the root found in all that it was given, without what stands in masks. Raises MessageError."""
        for found in root.items:
            if not (isinstance(found, list) and all(isinstance(one, dict) and "box" in one for one in found)):
                raise MessageError(f"node {self.spec.root} has track or regions, and found no objects")
        if self._as_found or self.stream is None:
            return [one for found in root.items for one in found]
        parts = views(self.stream.tiles, self.stream.roi, size)
        if len(parts) != len(root.items):
            raise MessageError(
                f"node {self.spec.root} was given {len(parts)} parts of the frame, not {len(root.items)}"
            )
        return unmasked(merged(parts, root.items), self._masks, size)

    # ── the chosen nodes ──────────────────────────────────────────────────────────────────────────────────────

    def due(self, flight: Flight) -> Iterator[str]:
        """Yield the nodes that can be given their objects now; what was answered meanwhile counts."""
        assert flight.join is not None
        outputs = flight.join.outputs
        for node in self.order:
            due = node not in outputs and node not in flight.outstanding
            if due and self.spec.nodes[node].parent in outputs and outputs.keys() >= self._waits[node]:
                yield node

    def pick(self, flight: Flight, node: str) -> list[Given]:
        """Return the objects that `node` is to look at; keep which these are in :attr:`Flight.picks`."""
        assert flight.join is not None
        spec = self.spec.nodes[node]
        assert spec.parent is not None
        objects, parents = flight.join.found_by(spec.parent)
        if node not in flight.picks:
            wanted = [index for index in range(len(objects)) if self._wants(node, flight, objects, parents, index)]
            if spec.parent == self.spec.root and self.follower is not None:
                wanted = [index for index in wanted if self._asks(spec.cadence, node, flight, objects[index])]
            flight.picks[node] = wanted
        return [_given(objects[index]) for index in flight.picks[node] if index < len(objects)]

    def _wants(self, node: str, flight: Flight, objects: list[dict[str, Any]], parents: list[int], index: int) -> bool:
        """Whether the object is one for the node at all. `parents`: which of their parent's objects each is in."""
        one, crop = objects[index], self.spec.nodes[node].crop
        if crop.labels and one["label"] not in crop.labels:
            return False
        condition = self._conditions.get(node)
        if condition is None:
            return True
        parent = self.spec.nodes[node].parent
        assert parent is not None
        around = {parent: one} if parent == self.spec.root else self._around(parent, flight, parents[index])
        if condition.holds(object_values(self._described(node, flight, one, index), flight.shot.size, around)):
            return True
        one.setdefault("skipped", {})[node] = "when"
        return False

    def _described(self, node: str, flight: Flight, one: dict[str, Any], index: int) -> dict[str, Any]:
        """Return the object with the answers about it that the node's condition refers to, older ones too."""
        assert flight.join is not None
        found = dict(one)
        for sibling in self._waits[node]:
            output = flight.join.outputs[sibling]
            if index in output.sources:
                item = output.items[output.sources.index(index)]
                found[sibling] = {"objects": item} if isinstance(item, list) else item
            elif known := self.known.get(one.get("track", -1), {}).get(sibling):
                found[sibling] = known.answer or {}
        return found

    def _around(self, node: str, flight: Flight, index: int) -> dict[str, dict[str, Any]]:
        """Return by node what is around an object that `node` found in its parent's object `index`, and its answer."""
        assert flight.join is not None
        around: dict[str, dict[str, Any]] = {}
        while (parent := self.spec.nodes[node].parent) is not None:
            output = flight.join.outputs[node]
            item = output.items[output.sources.index(index)]
            around[node] = {"objects": item} if isinstance(item, list) else item
            objects, parents = flight.join.found_by(parent)
            if parent == self.spec.root:
                around[parent] = objects[index]
            node, index = parent, parents[index]
        return around

    def _asks(self, cadence: CadenceSpec | None, node: str, flight: Flight, one: dict[str, Any]) -> bool:
        """Whether the node is due for the object, by its cadence, else as its parent; if so it counts as asked."""
        track, at, seen = one["track"], flight.shot.media_time_s or 0.0, not one.get("predicted")
        known = self.known.setdefault(track, {}).get(node)
        shows = quality(one, flight.shot.luma, flight.shot.size) if cadence is not None and cadence.track else 1.0
        if cadence is None:
            due = seen
        else:
            due = known is None or self._again(cadence, known, flight.frame, at, shows if seen else 0.0)
        if not due:
            return False
        fresh = Known(flight.frame, at, shows)
        if known is not None:
            fresh.answer, fresh.answered = known.answer, known.answered
        self.known[track][node] = fresh
        return True

    def _again(self, cadence: CadenceSpec, known: Known, frame: int, at: float, shows: float) -> bool:
        if known.lost:
            return True
        if cadence.frames is not None:
            return frame - known.frame >= cadence.frames
        if cadence.seconds is not None:
            return at - known.at >= cadence.seconds - 1e-3 or at < known.at
        if known.waits:
            return False
        return shows > BETTER * known.quality or (known.answer is None and at - known.at >= AGAIN_S)

    # ── how frames end ────────────────────────────────────────────────────────────────────────────────────────

    def delivered(self, flight: Flight) -> None:
        """The frame is complete, and leaves in frame order: carry answers on."""
        assert flight.join is not None
        for node in self.order:
            spec = self.spec.nodes[node]
            if spec.parent != self.spec.root or self.follower is None:
                continue
            objects, _ = flight.join.found_by(spec.parent)
            asked = set(flight.picks.get(node, ()))
            for index, one in enumerate(objects):
                self._carry(self.known.get(one.get("track", -1), {}).get(node), node, flight.frame, one, index in asked)

    def _carry(self, known: Known | None, node: str, frame: int, one: dict[str, Any], asked: bool) -> None:
        if asked and known is not None:
            known.waits = known.waits and known.frame != frame
            if (answer := one.get(node)) is not None:
                known.answer, known.answered = answer, frame
        if node not in one and node not in one.get("skipped", ()) and known is not None and known.answer is not None:
            one[node] = {**known.answer, "from_frame": known.answered}

    def ended(self, flight: Flight) -> None:
        """The frame has ended without a result: what was asked is asked again."""
        if self.follower is not None and flight.detect and flight.chosen is None:
            self.follower.cadence.missed()
        for node in flight.picks:
            for nodes in self.known.values():
                if (known := nodes.get(node)) is not None and known.frame == flight.frame:
                    known.lost = True


def selection_of(spec: GroupSpec, stream: StreamSpec | None) -> Selection | None:
    """Return the choices for a stream of a group; None where nothing is chosen. `stream` None: single images."""
    rules = spec.chosen or spec.nodes[spec.root].track is not None
    places = stream is not None and (stream.changes_view or stream.zones)
    return Selection(spec, stream) if rules or places else None


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


def _given(one: Mapping[str, Any]) -> Given:
    x0, y0, x1, y1 = one["box"]
    points = one.get("points")
    return Given((x0, y0, x1, y1), one["score"], one["label"], points and [(x, y) for x, y in points])


def _sure(item: Any) -> Any:
    """Return what a detector found without what is for the tracker only; what is no list of objects, as it is."""
    return [one for one in item if not one.get("low")] if isinstance(item, list) else item
