"""What a node is expected to do per frame until it is measured: what cadences, conditions, gates, tiles leave. Pure.

A frame is one that the pipeline delivers or gates. It brings a node at most one *piece* of work, with some images:

    w_n = pieces of work per frame × images per piece        (inferences per frame)

Where the group file leaves nothing out, each frame brings each node one piece. Else

- a detector's cadence leaves pieces out, for itself and for all that looks at what it finds, but for children with a
  cadence of their own: they look at predicted boxes, too,
- a motion gate leaves pieces of all nodes out,
- `when` leaves images out: the condition is looked at object by object,
- tiles bring a detector one image each.

These are the values before anything ran; docs/scheduling.md has the table. The scheduler corrects them by what it
observes (:mod:`hams_scheduler.learning`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hams_shared.group.spec import GroupSpec
from hams_shared.group.work_rules import CadenceSpec

CHILD_WEIGHT = 1.0
"""Inferences per frame of a child node until they are measured: one object a frame."""
STREAM_FPS = 25.0
"""Frames/s of a stream where its group file has none."""
TRACK = 0.1
"""The part of an object's frames on which a child with ``cadence: track`` looks at it: one a second at 10 frames/s."""
WHEN = 0.5
"""The part of the objects for which a condition holds."""
MOTION = 0.5
"""The part of the time in which something moves in front of a gated stream."""
TRACK_S, FLOW_S = 0.0004, 0.0016
"""CPU time of a frame in the tracker, and with ``motion: flow`` in the flow beside it, s (docs/benchmarks.md)."""
GATE_S = 0.0005
"""CPU time of a frame in the motion gate, s."""
KNOWN_LIMIT = 65_536
"""Most nodes of which it is kept."""

Agreements = Mapping[str, Mapping[int, float]]
"""By stream, then cadence: IDF1 with detection on every frame, where that was measured."""


class Work(NamedTuple):
    """What a node does per frame of its group, mean over the group's streams."""

    weight: float
    """Inferences."""
    pieces: float = 1.0
    """Pieces of work, 0–1."""
    whole: float = 1.0
    """Inferences if nothing were left out."""
    rules: tuple[str, ...] = ()
    """What leaves some of them out."""
    measured: bool = False
    """Whether `pieces` were observed."""

    @property
    def images(self) -> float:
        """Images per piece of work."""
        return self.weight / self.pieces

    @property
    def saved(self) -> str:
        """What the rules save, in words; empty where there are none."""
        if not self.rules:
            return ""
        known = "" if self.measured else ", expected"
        return f"runs {', '.join(self.rules)}: {self.weight:.3g} of {self.whole:.1f} inferences per frame{known}"


@dataclass
class ExpectedWorks:
    """:func:`expected_work` of nodes, kept: each heartbeat needs it of all nodes that it counts."""

    _known: dict[tuple[str, str], tuple[GroupSpec, Agreements | None, Work]] = field(default_factory=dict)
    """By (group, node), of that very group file and those agreements."""

    def of(self, spec: GroupSpec, node: str, agreements: Agreements | None) -> Work:
        """What `node` is expected to do."""
        known = self._known.get((spec.name, node))
        if known is None or known[0] is not spec or known[1] is not agreements:
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            known = spec, agreements, expected_work(spec, node, agreements)
            self._known[spec.name, node] = known
        return known[2]


def leaves_out(spec: GroupSpec) -> bool:
    """Whether some frames of the group bring some nodes no work, or less of it."""
    rules = any(node.when or (node.cadence and not node.cadence.every_frame) for node in spec.nodes.values())
    return bool(rules) or any(stream.gate for stream in spec.streams.values())


def expected_work(spec: GroupSpec, node: str, agreements: Agreements | None = None) -> Work:
    """What `node` does until that is measured; `agreements` choose the cadence where HAMS is to."""
    own = one = spec.nodes[node]
    path = [(node, own)]
    while one.parent is not None:
        path.append((one.parent, one := spec.nodes[one.parent]))
    whole = own.weight or (_views(spec) if own.parent is None else CHILD_WEIGHT)
    gated, gates = _gated(spec)
    rate, often = 1.0, ""
    held: list[str] = []
    for name, one in reversed(path):
        if one.cadence is not None:  # the nearest one counts
            rate = _rate(spec, one.cadence, agreements or {})
            often = _says(one.cadence, spec, agreements or {}) if name == node else f"as often as {name}"
        if one.when is not None:
            held.append("only where its condition holds" if name == node else f"as {name}'s condition holds")
    slow = [] if own.budget is None else [f"in at most {own.budget:.0%} of a device's time, beside other nodes"]
    rules = (*gates, *([often] if rate < 1 else []), *held, *slow)
    return Work(whole * rate * gated * WHEN ** len(held), rate * gated, whole, rules)


def most_s(spec: GroupSpec, node: str) -> float:
    """Seconds of a device per frame that a node may take at most, by its budget, at the group's frames/s; infinite
    without one. What is beyond it is not computed, so it never limits the group."""
    budget = spec.nodes[node].budget
    if budget is None:
        return math.inf
    return budget / (spec.target_fps or sum(one.fps or STREAM_FPS for one in spec.streams.values()) or STREAM_FPS)


def follow_s(spec: GroupSpec) -> float:
    """CPU time of a frame in the tracker, the flow and the motion gate of the pipeline until it is measured, s."""
    track = spec.nodes[spec.root].track
    followed = 0.0 if track is None else TRACK_S + (FLOW_S if track.motion == "flow" else 0.0)
    return followed + GATE_S * _mean(float(stream.gate is not None) for stream in spec.streams.values())


def _views(spec: GroupSpec) -> float:
    """Images that a frame brings the detector: its tiles, and the whole picture where that is looked at, too."""
    tiles = [stream.tiles for stream in spec.streams.values()]
    return _mean(1.0 if one is None else one.grid[0] * one.grid[1] + one.whole for one in tiles) if tiles else 1.0


def _gated(spec: GroupSpec) -> tuple[float, list[str]]:
    """The part of frames that gates let through, and what they do."""
    gates = [stream.gate is not None for stream in spec.streams.values()]
    if True not in gates:
        return 1.0, []
    where = "" if all(gates) else f" in {sum(gates)} of {len(gates)} streams"
    return _mean(MOTION if one else 1.0 for one in gates), [f"while something moves{where}"]


def _rate(spec: GroupSpec, cadence: CadenceSpec, agreements: Agreements) -> float:
    """The part of frames, or of an object's frames, on which a node with this cadence runs."""
    if cadence.frames is not None:
        return 1.0 / cadence.frames
    if cadence.track:
        return TRACK
    if cadence.max is not None:
        return _mean(1.0 / one for one in _chosen(spec, cadence, agreements))
    rates = [stream.fps or STREAM_FPS for stream in spec.streams.values()] or [STREAM_FPS]
    if cadence.seconds is not None:
        return _mean(min(1.0, 1.0 / (cadence.seconds * fps)) for fps in rates)
    # It is between min_fps and every frame: the geometric mean, since nothing is known of the scene.
    return _mean(min(1.0, cadence.least_fps / fps) ** 0.5 for fps in rates)


def _chosen(spec: GroupSpec, cadence: CadenceSpec, agreements: Agreements) -> list[int]:
    """Of `max`: on every how many frames the detector runs, by stream; the most until it is measured."""
    assert cadence.max is not None
    streams = [agreements.get(name) for name in spec.streams] or [None]
    return [cadence.max if found is None else cadence.chosen(found) for found in streams]


def _says(cadence: CadenceSpec, spec: GroupSpec, agreements: Agreements) -> str:
    """What a cadence leaves out, in words."""
    if cadence.frames is not None:
        return f"on every {_ordinal(cadence.frames)} frame"
    if cadence.track:
        return "once per track, and for better crops"
    if cadence.seconds is not None:
        return f"every {cadence.seconds:g} s"
    if cadence.auto:
        return f"as often as its tracks need, at least {cadence.least_fps:g} times a second"
    floor = f"agreement {cadence.floor:g} or more"
    if not agreements:
        return f"on up to every {_ordinal(cadence.max or 1)} frame ({floor}, not measured yet)"
    chosen = sorted({*_chosen(spec, cadence, agreements)})
    return f"on every {' or '.join(map(_ordinal, chosen))} frame ({floor})"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _mean(values: Iterable[float]) -> float:
    """Their mean; 0 of none."""
    known = list(values)
    return sum(known) / len(known) if known else 0.0
