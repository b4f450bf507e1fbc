"""What of each frame of one stream is computed: whether the root looks, and which objects other nodes are given. Pure.

The root looks at the frames of its cadence; between them the tracker says where objects are. Of the nodes in
:attr:`GroupSpec.chosen <hams_shared.group.spec.GroupSpec.chosen>` each is given those of its parent's objects that

- have one of its crop's labels,
- fulfil its condition (``when``), and
- by its cadence are due: have no answer yet, an old one, or show the object much better than when it was answered;
  without one, those that its parent found in this very frame.

The others carry on the last answer about their track, with ``from_frame``, or say in ``skipped`` why they have none.
No frame waits for the answers of nodes with a budget: see :mod:`hams_services.pipeline.later`.
Frames are seen, and delivered, in frame order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from hams_services.pipeline.flight import Flight, Send, Shot
from hams_services.pipeline.join import answer_of
from hams_services.pipeline.later import BUDGET, FAILED, PENDING, Ask, Later
from hams_services.pipeline.selection_rules import SelectionRules
from hams_services.pipeline.tracking.follower import Follower
from hams_services.pipeline.tracking.quality import quality
from hams_shared.group.conditions import object_values
from hams_shared.group.spec import GroupSpec
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.group.work_rules import CadenceSpec
from hams_shared.wire.frames import Given, Output
from hams_shared.wire.messages.plan import Plan

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
    """The choices for one stream, by `rules` that may be followed by others."""

    def __init__(self, rules: SelectionRules) -> None:
        self.rules = self._looked = rules
        """The newest, and those of the newest frame that was looked at."""
        root = rules.spec.nodes[rules.spec.root]
        self.follower = Follower(root.track, root.cadence) if rules.tracks and root.track is not None else None
        self.later = Later()
        self.known: dict[int, dict[str, Known]] = {}
        """By track and node."""
        self._paused_s = self._newest = 0.0

    def change(self, rules: SelectionRules) -> None:
        """Have `rules` count for the frames that are sent from now on; tracks and what is known of them stay."""
        before, self.rules = self.rules, rules
        rules.number = before.number + 1
        root = rules.spec.nodes[rules.spec.root]
        if rules.tracks and root.track is not None:
            if self.follower is None:
                self.follower = Follower(root.track, root.cadence)
            else:
                self.follower.look_by(root.track, root.cadence)
        anew = rules.answers_anew(before)
        for nodes in self.known.values():
            for node in anew & nodes.keys():
                nodes[node].lost = True

    # ── the root ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def in_order(self) -> bool:
        """Whether the root's answers are to be looked at in frame order."""
        return self.follower is not None

    @property
    def looks_at_pixels(self) -> bool:
        """Whether it needs a small image of each frame."""
        rules = self.rules
        flows = rules.tracks and rules.spec.nodes[rules.spec.root].track.motion == "flow"  # type: ignore[union-attr]
        return rules.tracks and (flows or rules.better)

    def detects(self, shot: Shot) -> bool:
        """Whether the root is to look at the frame."""
        if self.follower is None or not self.rules.tracks or shot.media_time_s is None:
            return True
        return self.follower.cadence.due(shot.media_time_s)

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

    def end_tracks(self) -> None:
        """End all tracks, while no frame is under way."""
        if self.follower is not None:
            self.follower.end_all()
            self.known.clear()

    def to_look_at(self, flights: Iterable[Flight]) -> Iterator[Flight]:
        """Yield those of `flights` that can be looked at now; with tracks, none behind one that is still awaited."""
        for flight in flights:
            if flight.chosen is not None or (flight.plan is not None and flight.rules is None):
                continue  # it was looked at, or was sent before anything was chosen
            if flight.seen and flight.retry_at is None:
                yield flight
            elif self.in_order:
                return

    def look(self, flight: Flight) -> Output:
        """Return what the root's answer about the frame is taken to be. Raises MessageError: it is no objects."""
        assert flight.rules is not None
        self._look_by(flight.rules)
        output = self._look(flight, flight.rules)
        self._looked.place(output, flight.shot.size)
        return output

    def _look_by(self, rules: SelectionRules) -> None:
        """Follow objects by `rules` from this frame on, unless a frame before had newer ones: it was sent again."""
        if rules.number <= self._looked.number:
            return
        self._looked = rules
        track = rules.spec.nodes[rules.spec.root].track
        if self.follower is None:
            return
        if rules.tracks and track is not None:
            self.follower.change(track)
            return
        self.end_tracks()
        if not self.rules.tracks:
            self.follower = None

    def _look(self, flight: Flight, rules: SelectionRules) -> Output:
        root, shot = flight.root, flight.shot
        if self.follower is None or not self._looked.tracks:
            if root is None:  # it was to be predicted, and nothing is followed any more
                assert flight.id is not None
                return Output(flight.id, rules.spec.root, "", [[]], [0])
            items = root.items if rules.as_found else [rules.seen(root, shot.size)]
            return replace(root, items=[_sure(item) for item in items], sources=[0] * len(items))
        assert flight.id is not None
        found = None if root is None else rules.seen(root, shot.size)
        objects = self.follower.follow(found, shot.media_time_s or 0.0, shot.size, shot.luma, flight.paused_s)
        flight.tracks, flight.followed = self.follower.tracks, True
        for track in self.follower.ended:
            self.known.pop(track.id, None)
        return replace(root or Output(flight.id, rules.spec.root, "", []), items=[objects], sources=[0])

    # ── the chosen nodes ──────────────────────────────────────────────────────────────────────────────────────

    def due(self, flight: Flight) -> Iterator[str]:
        """Yield the nodes that can be given their objects now; what was answered meanwhile counts."""
        assert flight.join is not None
        assert flight.rules is not None
        outputs, rules = flight.join.outputs, flight.rules
        for node in rules.order:
            due = node not in outputs and node not in flight.outstanding
            if due and rules.spec.nodes[node].parent in outputs and outputs.keys() >= rules.waits[node]:
                yield node

    def pick(self, flight: Flight, node: str) -> list[Given]:
        """Return the objects that `node` is to look at; keep which these are in :attr:`Flight.picks`."""
        assert flight.join is not None
        assert flight.rules is not None
        rules, spec = flight.rules, flight.rules.spec.nodes[node]
        assert spec.parent is not None
        objects, parents = flight.join.found_by(spec.parent)
        if node not in flight.picks:
            wanted = [index for index in range(len(objects)) if self._wants(node, flight, objects, parents, index)]
            if node in rules.slow and flight.followed:
                wanted = self._next(node, flight, objects, wanted)
            elif spec.parent == rules.spec.root and flight.followed:
                wanted = [index for index in wanted if self._asks(spec.cadence, node, flight, objects[index])]
            flight.picks[node] = wanted
        return [_given(objects[index], spec.crop.mask) for index in flight.picks[node]]

    def _wants(self, node: str, flight: Flight, objects: list[dict[str, Any]], parents: list[int], index: int) -> bool:
        """Whether the object is one for the node at all. `parents`: which of their parent's objects each is in."""
        assert flight.rules is not None
        rules, one, crop = flight.rules, objects[index], flight.rules.spec.nodes[node].crop
        if crop.labels and one["label"] not in crop.labels:
            return False
        condition = rules.conditions.get(node)
        if condition is None:
            return True
        parent = rules.spec.nodes[node].parent
        assert parent is not None
        around = self._around(parent, flight, one, parents[index])
        if condition.holds(object_values(self._described(node, flight, one, index), flight.shot.size, around)):
            return True
        one.setdefault("skipped", {})[node] = "when"
        return False

    def _described(self, node: str, flight: Flight, one: dict[str, Any], index: int) -> dict[str, Any]:
        """Return the object with the answers about it that the node's condition refers to, older ones too."""
        assert flight.join is not None
        assert flight.rules is not None
        found = dict(one)
        for sibling in flight.rules.waits[node]:
            output = flight.join.outputs[sibling]
            if index in output.sources:
                item = output.items[output.sources.index(index)]
                found[sibling] = answer_of(item)
            elif known := self.known.get(one.get("track", -1), {}).get(sibling):
                found[sibling] = known.answer or {}
        return found

    def _around(self, node: str, flight: Flight, one: dict[str, Any], index: int) -> dict[str, dict[str, Any]]:
        """Return by node the object `one`, which `node` found in its parent's object `index`, and those around it.

        Each has what else its node answered there, too.
        """
        assert flight.join is not None
        assert flight.rules is not None
        spec, around = flight.rules.spec, dict[str, dict[str, Any]]()
        while (parent := spec.nodes[node].parent) is not None:
            output = flight.join.outputs[node]
            around[node] = {**answer_of(output.items[output.sources.index(index)]), **one}
            objects, parents = flight.join.found_by(parent)
            node, one, index = parent, objects[index], parents[index]
        return {**around, node: one}

    def _next(self, node: str, flight: Flight, objects: list[dict[str, Any]], wanted: list[int]) -> list[int]:
        """Return the one object of those `wanted` that a slow node is asked about now; say why others have no answer.

        New objects come before those that only show a better crop, larger scores before smaller ones.
        """
        assert flight.rules is not None
        cadence, ask = flight.rules.spec.nodes[node].cadence, self.later.asks.get(node)
        due = [i for i in wanted if self._asks(cadence, node, flight, objects[i], look_only=True)]
        new = [i for i in due if self._answer(node, objects[i]) is None]
        chosen = [max(new or due, key=lambda i: objects[i]["score"])] if due and ask is None else []
        for i in chosen:
            self._asks(cadence, node, flight, objects[i])
        for i in wanted:
            if self._answer(node, objects[i]) is not None:
                continue
            known = self.known.get(objects[i]["track"], {}).get(node)
            under_way = i in chosen or (ask is not None and ask.track == objects[i]["track"])
            why = PENDING if under_way else BUDGET if known is None or i in due else FAILED
            objects[i].setdefault("skipped", {})[node] = why
        return chosen

    def _answer(self, node: str, one: dict[str, Any]) -> dict[str, Any] | None:
        known = self.known.get(one["track"], {}).get(node)
        return None if known is None else known.answer

    def ask(self, flight: Flight, node: str, objects: list[Given], now: float) -> Send:
        """Ask a slow node about what :meth:`pick` returned; nothing of the frame waits for it."""
        assert flight.join is not None
        assert flight.id is not None
        assert flight.plan is not None
        picks, flight.picks[node] = flight.picks[node], []
        found, _ = flight.join.found_by(flight.plan.group.spec.root)
        self.later.asks[node] = Ask(flight.id, found[picks[0]]["track"], flight.route[node], now)
        return Send(flight.id, flight.plan, flight.route, node, objects, picks, later=True)

    def take(self, output: Output, flight: Flight | None = None) -> bool:
        """Take the answer of a slow node; False when it is another node's, which its frame (`flight`) waits for."""
        ask = self.later.answered(output)
        known = self.known.get(ask.track, {}).get(output.node) if ask is not None else None
        if ask is not None and known is not None:
            known.waits = False
            if output.error is None and output.items:
                known.answer, known.answered = answer_of(output.items[0]), ask.id.frame
        if ask is not None or flight is None or flight.rules is None:
            return ask is not None
        return flight.followed and output.node in flight.rules.slow

    def give_up(self, plan: Plan | None, now: float) -> None:
        """Ask again where slow nodes do not answer: they were asked too long ago, or are gone from `plan`."""
        for node, ask in self.later.give_up(plan, now).items():
            if (known := self.known.get(ask.track, {}).get(node)) is not None:
                known.lost = True

    def _asks(
        self, cadence: CadenceSpec | None, node: str, flight: Flight, one: dict[str, Any], *, look_only: bool = False
    ) -> bool:
        """Whether the node is due for the object, by its cadence, else as its parent; if so it counts as asked, unless
        `look_only`."""
        track, at, seen = one["track"], flight.shot.media_time_s or 0.0, not one.get("predicted")
        known = self.known.setdefault(track, {}).get(node)
        shows = quality(one, flight.shot.luma, flight.shot.size) if cadence is not None and cadence.track else 1.0
        if cadence is None:
            due = seen
        else:
            due = known is None or self._again(cadence, known, flight.frame, at, shows if seen else 0.0)
        if not due or look_only:
            return due
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
        if flight.rules is None or not flight.followed:
            return
        spec = flight.rules.spec
        for node in flight.rules.order:
            if spec.nodes[node].parent != spec.root:
                continue
            objects, _ = flight.join.found_by(spec.root)
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
        for node in flight.picks.keys() - (flight.rules.slow if flight.rules is not None else frozenset()):
            for nodes in self.known.values():
                if (known := nodes.get(node)) is not None and known.frame == flight.frame:
                    known.lost = True


def selection_of(
    spec: GroupSpec, stream: StreamSpec | None, networks: Mapping[str, str] | None = None
) -> Selection | None:
    """Return the choices for a stream of a group; None where nothing is chosen. `stream` None: single images."""
    rules = SelectionRules(spec, stream, networks)
    return Selection(rules) if rules.needed else None


def _given(one: Mapping[str, Any], masked: bool) -> Given:
    x0, y0, x1, y1 = one["box"]
    points = one.get("points")
    mask = one.get("mask") if masked else None
    return Given((x0, y0, x1, y1), one["score"], one["label"], points and [(x, y) for x, y in points], mask)


def _sure(item: Any) -> Any:
    """Return what a detector found without what is for the tracker only; what is no list of objects, as it is."""
    return [one for one in item if not one.get("low")] if isinstance(item, list) else item
