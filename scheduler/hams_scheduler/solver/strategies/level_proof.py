"""Levels of several groups, one after the other: what bounds each, and placements that are better at one.

For each level prices give a bound (:mod:`level_prices`); where that is open, HiGHS looks for whole nodes that are
better at this level and no worse at those before. One that is better starts again from there: the search only climbs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hams_scheduler.solver import levels, objective
from hams_scheduler.solver.instance import FloatArray, Instance, IntArray, Problem
from hams_scheduler.solver.levels import LevelBounds, Position
from hams_scheduler.solver.strategies import lp, packing
from hams_scheduler.solver.strategies.level_prices import PricedGroups, most
from hams_scheduler.solver.strategies.level_program import LOOSE, Condition, LevelProgram
from hams_scheduler.solver.strategies.prices import sweep
from hams_scheduler.solver.time_budget import Budget

FAINT = 1e-3
"""The ratio of groups that are left out."""
WINDOW = 8
"""Most sums of two or more ratios that a program is given of the levels before; fewer conditions are still a bound."""
EXACT_PAIRS = 2500
"""Largest M×D in which HiGHS looks for whole nodes."""
LINEAR_PAIRS = 20_000
"""Largest M×D of which prices are those of a linear program."""
BEYOND = 1.001
"""A level is priced a little beyond what it has, so that it and not a level before it has the prices."""
PRICED_AGAIN = 3
"""Most prices that are tried for one level."""
EXACT_PART = 0.5
"""Part of the time left that one search of HiGHS may take."""


@dataclass
class LevelProof:
    """A plan (M×D `shares`) that is bettered and bounded level by level; `bounds` by position, as ratios."""

    instance: Instance
    problem: Problem
    shares: FloatArray
    program: LevelProgram
    whole: bool
    bounds: dict[Position, float] = field(default_factory=dict)
    _priced: set[Position] = field(default_factory=set)
    _searched: set[Position] = field(default_factory=set)

    @staticmethod
    def of(instance: Instance, problem: Problem, shares: FloatArray, bound: float, *, whole: bool) -> LevelProof:
        """Begin; `bound` is a proven cycle, s (over target), of whole nodes or of shares."""
        length = objective.share_cycle(problem, shares)
        proof = LevelProof(instance, problem, shares, LevelProgram(instance, problem, unit=1.0 / length), whole)
        proof.bounds = dict(levels.of_smallest(instance, 1.0 / bound if bound > 0 else np.inf).ratio)
        return proof

    def run(self, budget: Budget, *, search: bool) -> None:
        """Bound all levels, and look for better placements if `search`, until all is proven or time is up."""
        search = search and self.whole and self.problem.cost.size <= EXACT_PAIRS
        while self._bettered(budget, search):
            pass

    @property
    def closed(self) -> bool:
        """Whether no plan is better."""
        ratio = levels.ratios(self.instance, self.problem, self.shares)
        return all(self.closed_at(ratio, group, where) for group, where in levels.order(self.instance, ratio))

    @property
    def proven(self) -> LevelBounds:
        """The bounds; a gap within the tolerance of the programs is none."""
        ratio = levels.ratios(self.instance, self.problem, self.shares)
        found = dict(self.bounds)
        for group, where in levels.order(self.instance, ratio):
            if where in found and self.closed_at(ratio, group, where):
                found[where] = float(ratio[group])
        return LevelBounds(found)

    def closed_at(self, ratio: FloatArray, group: int, where: Position) -> bool:
        """Whether a group's level is proven; each loosened condition may free a part of a device."""
        allowed = 4 * LOOSE * (levels.stages(self.instance)[where[0]].total(ratio, where[1]) + self._top(where))
        return bool(self.bounds.get(where, np.inf) <= ratio[group] + allowed)

    def _bettered(self, budget: Budget, search: bool) -> bool:
        """Go through the levels; True as soon as a better placement was found."""
        ratio = levels.ratios(self.instance, self.problem, self.shares)
        for group, where in levels.order(self.instance, ratio):
            self._lower(where, self._top(where))
            if not self.closed_at(ratio, group, where) and where not in self._priced and not budget.over():
                self._priced.add(where)
                self._bound_by_prices(ratio, group, where, budget)
            if not search or self.closed_at(ratio, group, where) or where in self._searched or budget.over():
                continue
            self._searched.add(where)
            stage = levels.stages(self.instance)[where[0]]
            goal = Condition(stage, where[1], stage.total(ratio, where[1]))
            seconds = budget.left() * EXACT_PART
            found = self.program.better(self._before(ratio, where), goal, self.bounds[where], seconds)
            self._lower(where, found.most - stage.total(ratio, where[1] - 1))
            if found.assign is not None and self.take(found.assign):
                return True
        return False

    def _top(self, where: Position) -> float:
        """What a level is at most: what its groups get with all devices to themselves, and its stage's cap."""
        tops = self.program.tops(whole=self.whole)
        return float(levels.stages(self.instance)[where[0]].values(tops)[where[1] - 1])

    def _lower(self, where: Position, most: float) -> None:
        self.bounds[where] = min(self.bounds.get(where, np.inf), most)

    def _bound_by_prices(self, ratio: FloatArray, group: int, where: Position, budget: Budget) -> None:
        """Bound a level by the prices at which groups just pay for it, again while that makes it much tighter."""
        place = [one for one, _ in levels.order(self.instance, ratio)].index(group)
        wish = float(ratio[group]) * BEYOND
        for _ in range(PRICED_AGAIN):
            before = self.bounds[where]
            aim = weighted(self.problem, self.program.group, levels.wanted(self.instance, ratio, place, wish))
            pi, mu = self._prices(aim, budget)
            tops = self.program.tops(whole=self.whole)
            priced = PricedGroups(self.problem, self.program.group, pi, mu, tops, self.whole)
            others, mine, values = self._levels_before(ratio, where)
            self._lower(where, most(priced, others, mine, values, before))
            gap, wish = before - float(ratio[group]), self.bounds[where]
            if self.closed_at(ratio, group, where) or before - wish < 0.05 * gap or budget.over():
                return

    def _prices(self, aim: Problem, budget: Budget) -> tuple[FloatArray, FloatArray]:
        """Return good prices of seconds and of MiB."""
        open_ = np.isfinite(aim.cost)
        if self.whole and (aim.cost <= 1).any(axis=1).all():
            open_ &= aim.cost <= 1
        found = lp.solve(aim, open_, budget.left()) if aim.cost.size <= LINEAR_PAIRS else None
        if found is not None:
            return found.pi, found.mu
        swept = sweep(aim, budget)
        return swept.pi, swept.mu

    def _levels_before(
        self, ratio: FloatArray, where: Position
    ) -> tuple[list[tuple[IntArray, FloatArray]], IntArray, FloatArray]:
        """Return further groups with the ratios that they have at least, a level's groups, and the levels before it."""
        every = levels.stages(self.instance)
        stage = every[where[0]]
        others = [(one.groups, one.values(ratio)) for one in every[: where[0]] if np.isfinite(stage.cap)]
        below = [one.groups for one in every[where[0] + 1 : -1]] if np.isfinite(stage.cap) else []
        others += [(groups, np.zeros(len(groups))) for groups in below]
        return others, stage.groups, stage.values(ratio)[: where[1] - 1]

    def _before(self, ratio: FloatArray, where: Position) -> list[Condition]:
        """Return what plans as good as this one keep at the levels before, the nearest first."""
        found = []
        for number, stage in enumerate(levels.stages(self.instance)[: where[0] + 1]):
            last = where[1] - 1 if number == where[0] else len(stage.groups)
            found += [Condition(stage, rank, stage.total(ratio, rank)) for rank in range(1, last + 1)]
        sums = [condition for condition in reversed(found) if condition.rank > 1]
        return [condition for condition in found if condition.rank == 1] + sums[:WINDOW]

    def take(self, assign: IntArray) -> bool:
        """Take a placement of whole nodes (M device rows) if it is better; bounds that no longer hold are dropped."""
        if not packing.fits(self.problem, assign):
            return False
        shares = objective.shares_of(self.problem, assign)
        now = levels.score(self.instance, self.problem, self.shares)
        if levels.score(self.instance, self.problem, shares) <= now:
            return False
        ratio = levels.ratios(self.instance, self.problem, self.shares)
        last = levels.first_difference(self.instance, ratio, levels.ratios(self.instance, self.problem, shares))
        assert last is not None
        self.shares = shares
        self.bounds = {where: value for where, value in self.bounds.items() if where <= last}
        self._priced = {where for where in self._priced if where <= last}
        self._searched = {where for where in self._searched if where <= last}
        return True


def weighted(problem: Problem, group: IntArray, ratio: FloatArray) -> Problem:
    """Return the problem in which each group (G) runs at `ratio` times its target; `group` is M numbers of groups."""
    ratio = np.maximum(ratio, FAINT)
    hosts = problem.hosts
    if hosts is not None:
        hosts = replace(hosts, cpu=hosts.cpu * ratio[group][:, None], fixed=hosts.fixed * ratio[:, None])
    return replace(problem, cost=problem.cost * ratio[group][:, None], links=None, hosts=hosts)
