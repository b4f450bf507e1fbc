"""Exact placement of some thirty models: all good sets of models per device, and how they fit together.

A placement gives each device a set of models. Worths of models (:mod:`multipliers`) leave few sets: the slack of a set
is what it is worth less than the best set of its device, and the sets of a placement with a cycle of T or less have
together no more than the slack of all devices at T. So all such sets are listed, device by device, and joined: sets of
different devices must not overlap and must cover all models. (As Baldacci, Christofides and Mingozzi list the routes of
a vehicle problem within its gap, *An exact algorithm for the vehicle routing problem*, 2008.)

T begins just above what is proven impossible and grows: the first T with a placement gives the best one, proven, and
a T without one is a bound. Lists that grow too long end the search with the bound so far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, IntArray, Problem
from hams_scheduler.solver.strategies.milp import MilpResult
from hams_scheduler.solver.strategies.multipliers import (
    AIM,
    FINE,
    ROUNDING,
    Knapsacks,
    Worths,
    better_worths,
    priced_worths,
)
from hams_scheduler.solver.strategies.prices import Prices
from hams_scheduler.solver.time_budget import Budget

MOST_MODELS = 62
"""A set is the bits of a 64-bit number."""
LONGEST = 200_000
"""Most sets of a device, while they are listed."""
MOST_JOINED = 2_000_000
"""Most ways to fill some of the devices."""
BLOCK = 4_000_000
"""Pairs of sets that are compared at once."""
GROWTH = (0.003, 0.006, 0.01, 0.015, 0.02, 0.027, 0.035, *np.arange(0.045, 0.4, 0.01).tolist())
"""By how much T is above what is impossible, one after the other."""
STEPS, MORE_STEPS = 60, 15
"""Subgradient steps at the incumbent, and again at each T."""
REFINED, REFINING = 8, 20
"""Rounds of subgradient steps over the listed sets, and steps of a round."""
LEAST_WORTH, LEAST_SLACK = 0.4, 0.002
"""When sets are listed, no model is worth less than so much of what the prices say; worths with less slack are those of
few models: they prove much about T, but leave too many sets of the other models."""
BELOW = 1e-6
"""The relative gap that counts as proven."""


@dataclass(frozen=True, eq=False)
class Sets:
    """N sets of models of one device, the least slack first: bits, seconds, slack."""

    bits: IntArray
    load: FloatArray
    slack: FloatArray


@dataclass(frozen=True, eq=False)
class Joined:
    """Ways to fill some devices: the models placed, the longest cycle (s), the slack, and what each was joined from."""

    bits: IntArray
    cycle: FloatArray
    slack: FloatArray
    before: IntArray
    chosen: IntArray


class TooManyError(Exception):
    """The lists grow too long, or time is up."""


def shortest_cycle(
    problem: Problem, upper: float, lower: float, start: Prices, even: Prices, budget: Budget
) -> MilpResult:
    """Minimise the longest device cycle of a plain problem; `upper` and `lower` as in :func:`milp.shortest_cycle`.

    `start` has the prices of the LP of `problem`, `even` others, for the case that the LP prices few devices only.
    """
    most, by_prices = upper * (1 - BELOW), priced_worths(problem, even)
    found = better_worths(problem, most, priced_worths(problem, start), STEPS, budget)
    if found.impossible:
        return MilpResult(None, most, True)
    low = max(lower, most * (1 - found.slack))
    floor = LEAST_WORTH * by_prices.model
    if found.slack < LEAST_SLACK:
        low, found = lower, by_prices
    turn = 0
    while turn < len(GROWTH) and lower < most and not budget.over():
        limit = min(most, low * (1 + GROWTH[turn]))
        found = better_worths(problem, limit, found, MORE_STEPS, budget, floor)
        if found.impossible:
            lower = low = limit
            turn = max(0, turn - 1)
            continue
        try:
            assign = _within(problem, limit, found, floor, budget)
        except TooManyError:
            break
        if assign is not None:
            return MilpResult(assign, lower, True)
        lower, turn = max(lower, limit), turn + 1
    return MilpResult(None, lower, lower >= most)


def _within(problem: Problem, limit: float, at: Worths, floor: FloatArray, budget: Budget) -> IntArray | None:
    """Return the best placement with a cycle of at most `limit` seconds; None: there is none. Raises TooManyError."""
    value = at.value(problem)
    sacks = Knapsacks(problem, limit, FINE)
    slack = at.total(problem, sacks.best(value)[0])
    if slack < -ROUNDING:
        return None
    lists = [
        listed(problem, column, limit, value[:, column], sacks.time[:, column], slack, budget)
        for column in range(problem.shape[1])
    ]
    lists, slack = refined(problem, lists, at, floor, budget)
    if slack < -ROUNDING:
        return None
    return joined(problem, lists, slack + 2 * ROUNDING, budget)


def refined(
    problem: Problem, lists: list[Sets], at: Worths, floor: FloatArray, budget: Budget
) -> tuple[list[Sets], float]:
    """Return the sets that are left after subgradient steps over the listed sets alone, and the slack of all devices.

    As no other sets matter any more, the steps are fast and exact. A slack below 0: no placement has a cycle so short.
    """
    worth, slack, step = at.model, np.inf, 1.0
    for _ in range(REFINED):
        if not all(len(sets.bits) for sets in lists):
            return lists, -1.0
        members = [(sets.bits[:, None] >> np.arange(len(worth)) & 1).astype(np.float64) for sets in lists]
        paid = [at.mu[column] * (inside @ problem.memory[:, column]) for column, inside in enumerate(members)]
        worth, slack, step = _refine(problem, members, paid, replace(at, model=worth), floor, step)
        if slack < -ROUNDING:
            break
        lists = [_within_slack(*one, worth, slack) for one in zip(lists, members, paid, strict=True)]
        if budget.over():
            break
    return lists, slack


def _refine(
    problem: Problem, members: list[FloatArray], paid: list[FloatArray], at: Worths, floor: FloatArray, step: float
) -> tuple[FloatArray, float, float]:
    """Return M worths, the slack, and the size of the next step, after some steps from `at`.

    `members` are by device N×M, 1 where the model is in the set; `paid` N what the sets pay for memory.
    """
    fixed = float(at.mu @ np.where(np.isfinite(problem.capacity), problem.capacity, 0.0))
    now, best, least, stale = at.model, at.model, np.inf, 0
    for _ in range(REFINING):
        worth = [inside @ now - pays for inside, pays in zip(members, paid, strict=True)]
        spots = [int(one.argmax()) for one in worth]
        over = sum(float(one[spot]) for one, spot in zip(worth, spots, strict=True)) + fixed - float(now.sum())
        if over < least * (1 - 1e-4):
            best, least, stale = now, over, 0
            if over < -ROUNDING:
                break
        else:
            stale += 1
        if stale >= 5:
            step, stale, now = step * 0.7, 0, best
            continue
        wanted = np.sum([inside[spot] for inside, spot in zip(members, spots, strict=True)], axis=0) - 1.0
        wanted -= wanted.mean()  # the worth of all models stays
        now = np.maximum(now - step * (over + AIM) * wanted / max(1.0, float(wanted @ wanted)), floor)
    return best, least, step


def _within_slack(sets: Sets, members: FloatArray, paid: FloatArray, worth: FloatArray, slack: float) -> Sets:
    """Return the sets that lack at most `slack` by new worths of models, the least first."""
    values = members @ worth - paid
    lacks = values.max() - values
    order = np.argsort(lacks, kind="stable")
    order = order[: int(np.searchsorted(lacks[order], slack + 2 * ROUNDING, side="right"))]
    return Sets(sets.bits[order], sets.load[order], lacks[order])


def listed(
    problem: Problem, column: int, limit: float, value: FloatArray, time: IntArray, slack: float, budget: Budget
) -> Sets:
    """Return the sets of a device that take `limit` seconds at most, fit into its memory, and lack at most `slack`.

    `value` are M worths, `time` M times in parts of `limit`. Raises TooManyError.
    """
    rows = np.nonzero(problem.cost[:, column] <= limit)[0]
    rows = rows[np.argsort(-problem.cost[rows, column], kind="stable")]
    rest = _rest(value[rows], time[rows])
    bits, left = np.zeros(1, dtype=np.int64), np.full(1, FINE, dtype=np.int64)
    load, held, worth = np.zeros(1), np.zeros(1), np.zeros(1)
    room = problem.capacity[column] + SLACK_MIB
    for turn, row in enumerate(rows.tolist()):
        cost, memory = problem.cost[row, column], problem.memory[row, column]
        fits = (left >= time[row]) & (load + cost <= limit) & (held + memory <= room)
        bits = np.concatenate([bits, bits[fits] | (1 << row)])
        load, held = np.concatenate([load, load[fits] + cost]), np.concatenate([held, held[fits] + memory])
        worth, left = np.concatenate([worth, worth[fits] + value[row]]), np.concatenate([left, left[fits] - time[row]])
        good = worth + rest[turn + 1, left] >= rest[0, FINE] - slack - 2 * ROUNDING
        bits, load, held, worth, left = bits[good], load[good], held[good], worth[good], left[good]
        if len(bits) > LONGEST or budget.over():
            raise TooManyError
    lacks = rest[0, FINE] - worth
    order = np.argsort(lacks, kind="stable")
    return Sets(bits[order], load[order], lacks[order])


def _rest(value: FloatArray, time: IntArray) -> FloatArray:
    """Return (N+1)×(parts+1): the most that models from each one on are worth in so much time."""
    table = np.zeros((len(value) + 1, FINE + 1))
    for turn in range(len(value) - 1, -1, -1):
        table[turn] = table[turn + 1]
        part = table[turn, time[turn] :]
        np.maximum(part, table[turn + 1, : FINE + 1 - time[turn]] + value[turn], out=part)
    return table


def joined(problem: Problem, lists: list[Sets], slack: float, budget: Budget) -> IntArray | None:
    """Return the placement with the shortest cycle from one set per device; None: none. Raises TooManyError."""
    order = sorted(range(len(lists)), key=lambda column: len(lists[column].bits))
    every = (1 << problem.shape[0]) - 1
    later = [0]
    for column in order[:0:-1]:
        later.append(later[-1] | int(np.bitwise_or.reduce(lists[column].bits, initial=0)))
    none = np.zeros(1, dtype=np.int64)
    steps = [Joined(none, np.zeros(1), np.zeros(1), none, none)]
    for column, can in zip(order, reversed(later), strict=True):
        steps.append(_join(steps[-1], lists[column], slack, every & ~can, budget))
        if not len(steps[-1].bits):
            return None
    assign: IntArray = np.empty(problem.shape[0], dtype=np.int64)
    spot = int(steps[-1].cycle.argmin())
    for column, step in zip(reversed(order), reversed(steps), strict=False):
        bits = int(lists[column].bits[step.chosen[spot]])
        assign[[row for row in range(len(assign)) if bits >> row & 1]] = column
        spot = int(step.before[spot])
    return assign


def _join(filled: Joined, sets: Sets, slack: float, due: int, budget: Budget) -> Joined:
    """Fill one more device. `due` are the models that no later device takes. Raises TooManyError."""
    order = np.argsort(filled.slack, kind="stable")
    befores, chosens, total = [], [], 0
    size = max(1, BLOCK // max(1, len(sets.bits)))
    for begin in range(0, len(order), size):
        block = order[begin : begin + size]
        near = int(np.searchsorted(sets.slack, slack - filled.slack[block[0]], side="right"))
        one, other = np.nonzero((filled.bits[block][:, None] & sets.bits[None, :near]) == 0)
        before = block[one]
        good = filled.slack[before] + sets.slack[other] <= slack
        good &= ((filled.bits[before] | sets.bits[other]) & due) == due
        befores.append(before[good])
        chosens.append(other[good])
        total += len(befores[-1])
        if total > MOST_JOINED or budget.over():
            raise TooManyError
    before, chosen = np.concatenate(befores), np.concatenate(chosens)
    bits = filled.bits[before] | sets.bits[chosen]
    cycle = np.maximum(filled.cycle[before], sets.load[chosen])
    shortest = np.lexsort((cycle, bits))
    first = shortest[np.append(True, bits[shortest][1:] != bits[shortest][:-1])] if len(bits) else shortest
    lacks = filled.slack[before] + sets.slack[chosen]
    least = np.minimum.reduceat(lacks[shortest], np.searchsorted(bits[shortest], bits[first])) if len(bits) else lacks
    return Joined(bits[first], cycle[first], least, before[first], chosen[first])
