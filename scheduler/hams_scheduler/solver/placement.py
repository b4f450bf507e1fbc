"""A strategy's answer in names and FPS, with its proof, and why each node is where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hams_scheduler.solver import levels, objective
from hams_scheduler.solver.changes import Changes, cycles
from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, Instance, IntArray, Problem

FULL_TABLE = 4000
"""Up to so many pairs (M×D) every alternative is listed and counted exactly; beyond, the best three per node."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a strategy returns, in numbers.

    `shares` is M×D; `bound` a proven lower bound on the cycle in seconds per frame (over target) for the kind of
    placement the strategy seeks (whole nodes, or shares); `notes` are sentences for the person who asked; `levels` are
    the bounds of several groups' levels, where they were asked for: then `optimal` is about these, not the cycle.
    """

    shares: FloatArray
    bound: float
    optimal: bool = False
    notes: tuple[str, ...] = ()
    levels: levels.LevelBounds | None = None

    @staticmethod
    def of(
        problem: Problem,
        assign: IntArray,
        bound: float,
        *,
        optimal: bool = False,
        notes: tuple[str, ...] = (),
    ) -> Answer:
        """Return the answer that places each node whole on `assign` (M device rows)."""
        return Answer(objective.shares_of(problem, assign), bound, optimal, notes)


@dataclass(frozen=True)
class Placement:
    """Where every node runs, what that gives, what is proven, and why.

    `fps` is the group's FPS; with several groups it is the FPS of the group with the smallest achieved/target
    (`groups` has all, the level that counts first first). `bound_fps` is proven for the same quantity: nothing is
    faster; with bounds of levels it is that of the group's own. `bound_s` is proven for the cycle, s (over target).
    `gap` is `bound_fps / fps - 1`, infinite for a group that gets nothing and might get something. `busy` is the
    fraction of time that a device works at that rate, `bottleneck` the device (link, or `host NAME's cores`) that is
    always busy. `explanation` holds per node why it is there, `alternatives` what the group's FPS (or that of the
    worst-off group) were if that node alone moved to another device (0: it does not fit; large instances list the best
    three). `transfer` is the busy fraction by link, `cores` that of the usable cores by host.
    """

    strategy: str
    shares: Mapping[str, Mapping[str, float]]
    fps: float
    bound_fps: float
    bound_s: float
    gap: float
    seconds: float
    optimal: bool
    busy: Mapping[str, float]
    bottleneck: str
    explanation: Mapping[str, str]
    alternatives: Mapping[str, Mapping[str, float]]
    groups: tuple[levels.GroupLevel, ...] = ()
    group_fps: Mapping[str, float] = field(default_factory=dict)
    unmet: tuple[str, ...] = ()
    transfer: Mapping[str, float] = field(default_factory=dict)
    cores: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def assignment(self) -> dict[str, Any]:
        """Return {node: device}; a node that is shared has {device: share} instead."""
        return {n: next(iter(s)) if len(s) == 1 else dict(s) for n, s in self.shares.items()}

    def bound_of(self, group: str) -> float:
        """Return the bound of a group's own, FPS; 0: none is known."""
        bound = next((one.bound_fps for one in self.groups if one.group == group), 0.0)
        return bound if np.isfinite(bound) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return what `hams-ctl plan --json` prints: plain JSON values; null: not known."""
        return {
            "strategy": self.strategy,
            "assignment": self.assignment,
            "fps": self.fps,
            "bound_fps": self.bound_fps if np.isfinite(self.bound_fps) else None,
            "gap": self.gap if np.isfinite(self.gap) else None,
            "seconds": self.seconds,
            "optimal": self.optimal,
            "busy": dict(self.busy),
            "bottleneck": self.bottleneck,
            "group_fps": dict(self.group_fps),
            "groups": [one.to_dict() for one in self.groups],
            "unmet": list(self.unmet),
            "transfer": dict(self.transfer),
            "cores": dict(self.cores),
            "explanation": dict(self.explanation),
            "alternatives": {node: dict(fps) for node, fps in self.alternatives.items()},
            "notes": list(self.notes),
        }


def build(strategy: str, instance: Instance, problem: Problem, answer: Answer, seconds: float) -> Placement:
    """Turn a strategy's numbers into a placement. Raises AssertionError if they break a constraint (a bug)."""
    if wrong := objective.breaches(problem, answer.shares):
        raise AssertionError(f"strategy {strategy} broke a constraint: {wrong[0]}")
    cycles = objective.device_cycles(problem, answer.shares)
    links = objective.link_cycles(problem, answer.shares)
    longest = objective.share_cycle(problem, answer.shares)
    bound = longest if answer.optimal and answer.levels is None else min(answer.bound, longest)
    rates = objective.group_rates(instance, problem, answer.shares)
    worst = min(rates, key=lambda name: rates[name] / instance.target(name))
    fps = rates[worst]
    groups = _groups(instance, answer, rates, bound)
    bound_fps = _bound_fps(instance, answer, groups, worst, bound)
    busy = _busy(instance, problem, answer.shares, rates)
    transfer = {f"link {a} - {b}": float(link) / longest for (a, b), link in zip(instance.links, links, strict=False)}
    cores = objective.host_use(instance, answer.shares, rates)
    full = _bottleneck(busy, {} if problem.hosts is None else cores)
    if links.max(initial=0.0) > cycles.max() and links.max() >= longest:
        full = max(transfer, key=lambda name: transfer[name])
    alternatives = _alternatives(problem, answer.shares, fps * longest)
    return Placement(
        strategy=strategy,
        shares=_by_name(problem, answer.shares),
        fps=fps,
        bound_fps=bound_fps,
        bound_s=bound,
        gap=_gap(fps, bound_fps),
        seconds=seconds,
        optimal=answer.optimal,
        busy=busy,
        bottleneck=full,
        explanation=_explanation(instance, problem, answer.shares, alternatives, full, (worst, fps)),
        alternatives=alternatives,
        groups=groups,
        group_fps=rates,
        unmet=tuple(name for name in rates if rates[name] < instance.targets.get(name, 0.0) * (1 - 1e-9)),
        transfer=transfer,
        cores=cores,
        notes=answer.notes,
    )


def _groups(
    instance: Instance, answer: Answer, rates: Mapping[str, float], bound: float
) -> tuple[levels.GroupLevel, ...]:
    """Return what each group gets; without bounds of levels only that of the first is known, by the cycle `bound`."""
    if len(rates) == 1:
        [(name, fps)] = rates.items()
        most = max(fps, 1.0 / bound)
        return (levels.GroupLevel(name, instance.priorities.get(name, 0), fps, most, instance.targets.get(name)),)
    return levels.of_groups(instance, rates, answer.levels or levels.of_smallest(instance, 1.0 / bound))


def _bound_fps(
    instance: Instance, answer: Answer, groups: tuple[levels.GroupLevel, ...], worst: str, bound: float
) -> float:
    """Return the bound of the worst-off group's level; without such bounds, what the cycle `bound` proves, FPS."""
    level = next(one for one in groups if one.group == worst)
    if answer.levels is not None:
        return level.bound_fps
    return max(level.fps, (instance.target(worst) if len(groups) > 1 else 1.0) / bound)


def _gap(fps: float, bound_fps: float) -> float:
    """Return by which part `bound_fps` exceeds `fps`; a proven 0 has no gap."""
    if bound_fps <= fps:
        return 0.0
    return bound_fps / fps - 1.0 if fps else np.inf


def _bottleneck(busy: Mapping[str, float], cores: Mapping[str, float]) -> str:
    """Return the device that is busiest, or the host whose cores are busier than it."""
    device = max(busy, key=lambda name: busy[name])
    host = max(cores, key=lambda name: cores[name], default="")
    return objective.cores_of(host) if host and cores[host] > busy[device] * (1 + 1e-9) else device


def assignment_rows(instance: Instance, shares: Mapping[str, Mapping[str, float]]) -> IntArray:
    """Return M device rows of a placement by names: a shared node's largest share, -1 if its device is gone."""
    column = {name: index for index, name in enumerate(instance.devices)}
    rows = np.full(len(instance.models), -1, dtype=np.int64)
    for index, model in enumerate(instance.models):
        here = {name: share for name, share in shares.get(model, {}).items() if name in column}
        if here:
            rows[index] = column[max(here, key=lambda name: here[name])]
    return rows


def _by_name(problem: Problem, shares: FloatArray) -> dict[str, dict[str, float]]:
    named: dict[str, dict[str, float]] = {model: {} for model in problem.models}
    for row, column in zip(*np.nonzero(shares > 0), strict=True):
        named[problem.models[row]][problem.devices[column]] = float(shares[row, column])
    return named


def _busy(instance: Instance, problem: Problem, shares: FloatArray, rates: Mapping[str, float]) -> dict[str, float]:
    """Return the busy fraction by device when every group runs at its rate."""
    factor = np.array(
        [
            rates[instance.group_of(model)] / (instance.target(instance.group_of(model)) if len(rates) > 1 else 1)
            for model in instance.models
        ]
    )
    cycles = objective.device_cycles(problem, shares)
    plain = np.where(shares > 0, shares * np.where(shares > 0, problem.cost, 0.0), 0.0)
    alone = plain.sum(axis=0)
    scaled = (plain * factor[:, None]).sum(axis=0)
    busy = np.where(alone > 0, cycles * scaled / np.where(alone > 0, alone, 1.0), 0.0)
    return {device: float(value) for device, value in zip(problem.devices, busy, strict=True)}


def _alternatives(problem: Problem, shares: FloatArray, scale: float) -> dict[str, dict[str, float]]:
    """Return FPS by node and other device if that node moved there whole, 0 where it does not fit.

    `scale` turns `1 / cycle` into the reported FPS.
    """
    rows, columns = problem.shape
    moved = _moved_cycles(problem, shares)
    used = np.where(shares > 0, problem.memory, 0.0).sum(axis=0)
    fits = used + np.where(shares > 0, 0.0, problem.memory) <= problem.capacity + SLACK_MIB
    if problem.one_per_device:
        fits &= shares.sum(axis=0) == 0
    fps = np.where(fits & np.isfinite(moved), scale / moved, 0.0)
    whole = shares >= 1 - 1e-12
    named: dict[str, dict[str, float]] = {}
    keep = columns if rows * columns <= FULL_TABLE else 3
    order = np.argsort(np.where(whole, np.inf, -fps), axis=1, kind="stable")[:, :keep]
    for row, model in enumerate(problem.models):
        named[model] = {problem.devices[c]: float(fps[row, c]) for c in order[row] if not whole[row, c]}
    return named


def _moved_cycles(problem: Problem, shares: FloatArray) -> FloatArray:
    """Return M×D: the longest cycle if a node were wholly on that device and the rest stayed.

    Exact; but count-dependent slowdown, links and hosts' cores are only looked at up to FULL_TABLE pairs.
    """
    rows, columns = problem.shape
    exact = not problem.plain and rows * columns <= FULL_TABLE
    if exact and problem.links is None and (shares.max(axis=1) >= 1 - 1e-12).all():
        return _moved_whole(problem, shares.argmax(axis=1))
    if exact:
        table = np.full((rows, columns), np.inf)
        for row, column in zip(*np.nonzero(np.isfinite(problem.cost)), strict=True):
            changed = shares.copy()
            changed[row] = 0.0
            changed[row, column] = 1.0
            table[row, column] = objective.share_cycle(problem, changed)
        return table
    part = np.where(shares > 0, shares * np.where(shares > 0, problem.cost, 0.0), 0.0)
    loads = part.sum(axis=0)
    split = (shares > 0).sum(axis=1) > 1
    table = np.empty((rows, columns))
    top = np.argsort(-loads, kind="stable")[:3]
    home = shares.argmax(axis=1)
    rest = np.zeros((rows, columns))
    for column in top[::-1]:
        other = (home[:, None] != column) & (np.arange(columns)[None, :] != column)
        rest = np.where(other, loads[column], rest)
    left = loads[home] - part[np.arange(rows), home]
    table = np.maximum(np.maximum(rest, left[:, None]), loads[None, :] - part + problem.cost)
    for row in np.nonzero(split)[0]:
        without = loads - part[row]
        order = np.argsort(-without, kind="stable")
        most = np.where(np.arange(columns) == order[0], without[order[1 % columns]], without[order[0]])
        most = most if columns > 1 else np.zeros(1)
        table[row] = np.maximum(most, without + problem.cost[row])
    return np.asarray(table, dtype=np.float64)


def _moved_whole(problem: Problem, assign: IntArray) -> FloatArray:
    """Return M×D as :func:`_moved_cycles`, of a placement of whole nodes."""
    rows, columns = problem.shape
    moves = Changes.moves(np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows))
    table = cycles(problem, assign, moves).reshape(rows, columns)
    table[np.arange(rows), assign] = objective.cycle(problem, assign)
    return np.where(np.isfinite(problem.cost), table, np.inf)


def _explanation(
    instance: Instance,
    problem: Problem,
    shares: FloatArray,
    moved: dict[str, dict[str, float]],
    bottleneck: str,
    worst: tuple[str, float],
) -> dict[str, str]:
    """Return one sentence per node: its speed on its device, and the FPS of its best alternative.

    Alternatives are those of the worst-off group, `worst` with its FPS; where it gets nothing they are not known.
    """
    reasons: dict[str, str] = {}
    fps, whose = worst[1], "the group" if len(instance.group_names) == 1 else f"{worst[0]}, the worst-off group,"
    possible = np.isfinite(problem.cost).sum(axis=1)
    for row, model in enumerate(problem.models):
        columns = np.nonzero(shares[row] > 0)[0]
        here = [_where(instance, row, int(c), float(shares[row, c])) for c in columns]
        text = "on " + " and ".join(here)
        if any(problem.devices[c] == bottleneck for c in columns):
            text += ", the bottleneck"
        elif any(bottleneck == objective.cores_of(instance.hosts.get(problem.devices[c], "")) for c in columns):
            text += ", whose host's cores are the bottleneck"
        if possible[row] == 1:
            text += "; no other device can run it"
        elif model in moved and fps > 0:
            best = max(moved[model].items(), key=lambda item: item[1], default=("", 0.0))
            if best[1] > 0:
                change = 100 * (best[1] / fps - 1)
                text += f"; moved to {best[0]} {whose} would make {best[1]:.4g} frames/s ({change:+.1f} %)"
            else:
                text += "; there is no room for it elsewhere"
        reasons[model] = text
    return reasons


def _where(instance: Instance, row: int, column: int, share: float) -> str:
    alone = f"{instance.devices[column]} ({instance.fps[row, column]:.4g} frames/s alone"
    return f"{alone})" if share >= 1 - 1e-12 else f"{alone}, {100 * share:.0f} % of its frames)"
