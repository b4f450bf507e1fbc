"""When the nodes of a frame worked, by the pipeline's clock, from what agents report by theirs. Pure. Times are ms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hams_shared.wire.frames import Output, Steps

MOST_S = 1e11
"""A Unix time beyond it is none, s."""
MOST_STEPS = 16
"""Of a node; further ones are left out."""

Step = tuple[str, float, float]
"""Name, begin, end."""


@dataclass(frozen=True)
class Served:
    """A node's answer."""

    node: str
    received: float
    output: Output
    parent: str | None
    """The node whose device sent it the work; None: the pipeline did."""


@dataclass(frozen=True)
class Placed:
    """A node's answer, and when it worked."""

    node: str
    received: float
    output: Output
    parent: str | None
    start: float
    end: float
    steps: tuple[Step, ...]
    shifted: float
    """By how much its device's clock was corrected."""


def placed(served: Sequence[Served], sent: Mapping[str, float], begin: float, shift: float) -> list[Placed]:
    """Return when each node worked.

    `sent` is when the pipeline sent work, by node; `begin` when it sent the first; `shift` leads from Unix time to the
    pipeline's. No node begins before it could have its work, or ends after it was heard of.
    """
    by_node = {one.node: one for one in reversed(served)}  # a second answer is ignored
    children: dict[str, list[str]] = {}
    for one in by_node.values():
        if one.parent in by_node:
            children.setdefault(str(one.parent), []).append(one.node)
    steps = {one.node: _steps(one.output) for one in by_node.values()}
    caps: dict[str, float] = {}
    latest: dict[str, float] = {}

    def limit(node: str) -> None:
        """Find out when the node had ended at the latest: before its children could begin."""
        caps[node] = latest[node] = by_node[node].received
        for child in children.get(node, ()):
            limit(child)
            caps[node] = min(caps[node], caps[child])
            latest[node] = min(latest[node], latest[child] - _length(steps[child]))

    found: list[Placed] = []
    todo: list[tuple[str, float]] = []
    for one in by_node.values():
        if one.parent not in by_node:
            limit(one.node)
            todo.append((one.node, sent.get(one.node, begin)))
    while todo:
        node, lower = todo.pop()
        found.append(_place(by_node[node], steps[node], lower, latest[node], caps[node], shift))
        todo += [(child, found[-1].end) for child in children.get(node, ())]
    return found


def _place(one: Served, steps: list[Step], lower: float, latest: float, cap: float, shift: float) -> Placed:
    trace = one.output.trace
    lower = min(lower, cap)
    if not steps:
        return Placed(one.node, one.received, one.output, one.parent, lower, cap, (), 0.0)
    reported = trace.arrived * 1e3 + shift if isinstance(trace, Steps) and abs(trace.arrived) < MOST_S else None
    newest = latest - _length(steps)
    start = min(max(newest if reported is None else min(reported, newest), lower), cap)
    moved = tuple((name, min(start + begin, cap), min(start + end, cap)) for name, begin, end in steps)
    shifted = 0.0 if reported is None else start - reported
    return Placed(one.node, one.received, one.output, one.parent, start, moved[-1][2], moved, shifted)


def _length(steps: Sequence[Step]) -> float:
    return steps[-1][2] if steps else 0.0


def _steps(output: Output) -> list[Step]:
    """Return the steps of an answer, in order, none overlapping another; from durations, where it has no more."""
    if isinstance(output.trace, Steps):
        given = output.trace.steps[:MOST_STEPS]
    else:
        given, at = [], 0.0
        for name, duration in [*output.timing.items()][:MOST_STEPS]:
            given.append((name, at, at + duration))
            at += duration
    steps: list[Step] = []
    before = 0.0
    for name, begin, end in given:
        if math.isfinite(begin) and math.isfinite(end):
            start = max(begin, before)
            before = max(end, start)
            steps.append((name[:64], start, before))
    return steps
