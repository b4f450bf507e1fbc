"""Levels of fairness among groups: which group is served before which, what each gets, and what bounds it. Pure.

Plans for several groups are compared by their ratios achieved/target (lexicographic max-min, by priority):

    for each priority, the highest first:   min(1, ratio) of its groups, the smallest first
    then                                    the ratios of all groups, the smallest first

Each of these numbers is a level, at a position (stage, rank): stage p is the p-th priority, the last stage is that of
all groups; rank 1 is the smallest. The plan whose first level that differs is larger is better. A level's bound holds
among the plans none of whose levels before it is lower. So if all levels are proven, no plan is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import FloatArray, Instance, IntArray, Problem

DIGITS = 9
"""Ratios are compared to so many digits, so that rounding decides nothing."""
MET = 1 - 1e-9
"""A ratio from which on a target counts as met."""
LEAST = 1e-3
"""Part of a target below which a group counts as getting nothing, where plans are compared with what serves."""
PROVEN = 1e-6
"""A relative gap that counts as proven."""

Position = tuple[int, int]
"""Stage and rank."""


@dataclass(frozen=True)
class Stage:
    """The numbers of its groups, and the ratio beyond which it counts none (infinite: the last stage)."""

    groups: IntArray
    cap: float

    def values(self, ratio: FloatArray) -> FloatArray:
        """Return the levels of this stage, the smallest first; `ratio` has all G groups."""
        return np.sort(np.minimum(self.cap, ratio[self.groups]))

    def total(self, ratio: FloatArray, rank: int) -> float:
        """Return the sum of the `rank` smallest."""
        return float(self.values(ratio)[:rank].sum())


@dataclass(frozen=True)
class GroupLevel:
    """What one group gets, FPS, and the bound of its level.

    `target_fps` is None where none is set. `bound_fps`: no plan whose levels before are no lower gives more at this
    level; infinite while none is known.
    """

    group: str
    priority: int
    fps: float
    bound_fps: float
    target_fps: float | None = None

    @property
    def proven(self) -> bool:
        """Whether no plan is better at this level."""
        return self.bound_fps <= self.fps * (1 + PROVEN)

    @property
    def short_fps(self) -> float:
        """What it lacks of its target, FPS; 0: the target is met, or there is none."""
        lacks = self.target_fps is not None and self.fps < self.target_fps * MET
        return self.target_fps - self.fps if lacks and self.target_fps else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; an unknown bound is null."""
        return {
            "group": self.group,
            "priority": self.priority,
            "fps": self.fps,
            "target_fps": self.target_fps,
            "short_fps": self.short_fps,
            "bound_fps": self.bound_fps if np.isfinite(self.bound_fps) else None,
            "proven": self.proven,
        }


@dataclass(frozen=True)
class LevelBounds:
    """By position: no plan whose levels before are no lower has a larger ratio there."""

    ratio: Mapping[Position, float] = field(default_factory=dict)


def stages(instance: Instance) -> list[Stage]:
    """Return a stage for each priority, the highest first, then that of all groups."""
    priority = objective.priorities(instance)
    of = [Stage(np.nonzero(priority == level)[0], 1.0) for level in sorted(set(priority.tolist()), reverse=True)]
    return [*of, Stage(np.arange(len(priority)), np.inf)]


def ratios(instance: Instance, problem: Problem, shares: FloatArray) -> FloatArray:
    """Return achieved/target by group (G) under M×D `shares`, as :func:`objective.group_rates` serves them."""
    rates = objective.group_rates(instance, problem, shares)
    return np.array([rates[name] / instance.target(name) for name in instance.group_names])


def score(instance: Instance, problem: Problem, shares: FloatArray) -> tuple[float, ...]:
    """Return all levels in order; the larger tuple is the better plan."""
    ratio = ratios(instance, problem, shares)
    return tuple(round(float(value), DIGITS) for stage in stages(instance) for value in stage.values(ratio))


def order(instance: Instance, ratio: FloatArray) -> list[tuple[int, Position]]:
    """Return each group's number and position, in the order of positions.

    A group that misses its target is at its place among those of its priority, one that meets it among all.
    """
    all_stages, missed = stages(instance), ratio < MET
    found = []
    for stage_number, stage in enumerate(all_stages):
        for rank, group in enumerate(stage.groups[np.argsort(ratio[stage.groups], kind="stable")], 1):
            if missed[group] == np.isfinite(stage.cap):
                found.append((int(group), (stage_number, rank)))
    return found


def first_difference(instance: Instance, one: FloatArray, other: FloatArray) -> Position | None:
    """Return the first position at which two plans' ratios differ by more than rounding; None: at none."""
    for number, stage in enumerate(stages(instance)):
        differ = np.abs(stage.values(one) - stage.values(other)) > 10.0**-DIGITS
        if differ.any():
            return number, int(differ.argmax()) + 1
    return None


def gain(instance: Instance, before: FloatArray, after: FloatArray, tolerance: float) -> float:
    """Return the ratio after/before at the first level that differs by more than the factor `tolerance`; 1: none does.

    A level that falls makes it less than 1, whatever those after it do. Less than `LEAST` counts as `LEAST`.
    """
    for stage in stages(instance):
        for was, is_ in zip(stage.values(before).tolist(), stage.values(after).tolist(), strict=True):
            one, other = max(was, LEAST), max(is_, LEAST)
            if max(one, other) > min(one, other) * tolerance:
                return float(other / one)
    return 1.0


def wanted(instance: Instance, ratio: FloatArray, place: int, wish: float) -> FloatArray:
    """Return the ratios (G) to aim at so that the level at `place` of :func:`order` gets to `wish`.

    Groups that count before it keep theirs; those of lower priority get 0 while it misses its target.
    """
    places = order(instance, ratio)
    stage = stages(instance)[places[place][1][0]]
    before = [group for group, _ in places[:place]]
    aim = np.minimum(1.0, ratio)
    if np.isfinite(stage.cap):
        priority = objective.priorities(instance)
        aim[priority < priority[places[place][0]]] = 0.0
    raised = [group for group in stage.groups if group not in before]
    aim[before] = ratio[before]
    aim[raised] = min(wish, stage.cap)
    return aim


def of_smallest(instance: Instance, most: float) -> LevelBounds:
    """Return what `most`, a bound on the smallest of all ratios, proves: the first level, and that of one priority."""
    number = len(stages(instance)) - 1
    return LevelBounds({(number, 1): most} | ({(0, 1): min(1.0, most)} if number == 1 else {}))


def of_groups(instance: Instance, rates: Mapping[str, float], bounds: LevelBounds) -> tuple[GroupLevel, ...]:
    """Return what each group gets, the level that counts first first."""
    names = instance.group_names
    ratio = np.array([rates[name] / instance.target(name) for name in names])
    found = []
    for group, where in order(instance, ratio):
        name = names[group]
        most = max(bounds.ratio.get(where, np.inf), float(ratio[group])) * instance.target(name)
        priority = instance.priorities.get(name, 0)
        found.append(GroupLevel(name, priority, rates[name], most, instance.targets.get(name)))
    return tuple(found)
