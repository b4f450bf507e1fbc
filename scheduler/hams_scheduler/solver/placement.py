"""A strategy's answer in names and FPS, with its proof and its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hams_scheduler.solver import explain, objective
from hams_scheduler.solver.instance import FloatArray, Instance
from hams_scheduler.solver.problem import IntArray, Problem


@dataclass(frozen=True, eq=False)
class Answer:
    """What a strategy returns, in numbers.

    `shares` is M×D; `bound` a proven lower bound on the cycle in seconds per frame (over target) for the kind of
    placement the strategy seeks (whole nodes, or shares); `notes` are sentences for the person who asked.
    """

    shares: FloatArray
    bound: float
    optimal: bool = False
    notes: tuple[str, ...] = ()

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
    (`group_fps` has all). `bound_fps` is proven for the same quantity: nothing is faster. `gap` is
    `bound_fps / fps - 1`. `busy` is the fraction of time that a device works at that rate, `bottleneck` the device
    (or link) that is always busy. `explanation` says per node why it is there, `alternatives` what the group's FPS
    (or that of the worst-off group) were if that node alone moved to another device (0: it does not fit; large
    instances list the best three). `transfer` is the busy fraction by link.
    """

    strategy: str
    shares: Mapping[str, Mapping[str, float]]
    fps: float
    bound_fps: float
    gap: float
    seconds: float
    optimal: bool
    busy: Mapping[str, float]
    bottleneck: str
    explanation: Mapping[str, str]
    alternatives: Mapping[str, Mapping[str, float]]
    group_fps: Mapping[str, float] = field(default_factory=dict)
    unmet: tuple[str, ...] = ()
    transfer: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def assignment(self) -> dict[str, Any]:
        """Return {node: device}; a node that is shared has {device: share} instead."""
        return {n: next(iter(s)) if len(s) == 1 else dict(s) for n, s in self.shares.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return what `hams-ctl plan --json` prints: plain JSON values."""
        return {
            "strategy": self.strategy,
            "assignment": self.assignment,
            "fps": self.fps,
            "bound_fps": self.bound_fps,
            "gap": self.gap,
            "seconds": self.seconds,
            "optimal": self.optimal,
            "busy": dict(self.busy),
            "bottleneck": self.bottleneck,
            "group_fps": dict(self.group_fps),
            "unmet": list(self.unmet),
            "transfer": dict(self.transfer),
            "explanation": dict(self.explanation),
            "alternatives": {node: dict(fps) for node, fps in self.alternatives.items()},
            "notes": list(self.notes),
        }


def build(strategy: str, instance: Instance, problem: Problem, answer: Answer, seconds: float) -> Placement:
    """Turn a strategy's numbers into a placement. Raises AssertionError if they break a constraint (a bug)."""
    wrong = objective.breaches(problem, answer.shares)
    if wrong:
        raise AssertionError(f"strategy {strategy} broke a constraint: {wrong[0]}")
    cycles = objective.device_cycles(problem, answer.shares)
    links = objective.link_cycles(problem, answer.shares)
    longest = float(max(cycles.max(), links.max(initial=0.0)))
    bound = longest if answer.optimal else min(answer.bound, longest)
    rates = objective.group_rates(instance, problem, answer.shares)
    worst = min(rates, key=lambda name: rates[name] / instance.target(name))
    fps = rates[worst]
    bound_fps = max(fps, (instance.target(worst) if len(rates) > 1 else 1.0) / bound)
    busy = _busy(instance, problem, answer.shares, rates)
    names = {f"link {a} - {b}": index for index, (a, b) in enumerate(instance.links)}
    transfer = {name: float(links[i] / longest) for name, i in names.items() if i < len(links)}
    full = max(busy, key=lambda name: busy[name])
    if links.max(initial=0.0) > cycles.max():
        full = max(transfer, key=lambda name: transfer[name])
    unmet = tuple(
        name for name in rates if name in instance.targets and rates[name] < instance.targets[name] * (1 - 1e-9)
    )
    alternatives = explain.alternatives(problem, answer.shares, fps * longest)
    return Placement(
        strategy=strategy,
        shares=_by_name(problem, answer.shares),
        fps=fps,
        bound_fps=bound_fps,
        gap=bound_fps / fps - 1.0 if fps else np.inf,
        seconds=seconds,
        optimal=answer.optimal,
        busy=busy,
        bottleneck=full,
        explanation=explain.texts(instance, problem, answer.shares, alternatives, full, fps),
        alternatives=alternatives,
        group_fps=rates,
        unmet=unmet,
        transfer=transfer,
        notes=answer.notes,
    )


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
