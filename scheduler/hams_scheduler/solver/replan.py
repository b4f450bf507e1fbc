"""Changing a placement that serves: about as good as one from scratch, with few nodes moved. Pure.

A reference is solved from scratch; the new placement may be `TOLERANCE` times as slow, and moves fewer nodes for
that. Two options are made and pruned, and the one that moves fewer nodes is taken:

    A   the current placement; nodes that must move go first (longest cycle first, each where the cycle grows least, as
        in MFS); then, while the cycle is above the limit, the move off the bottleneck, or the swap with it, that takes
        most off the cycle per node moved
    B   the reference; nodes go back to their devices while the cycle stays within the limit

Of few nodes and devices, a search from both (:class:`Levelling`) then lets nodes go back against the overload that this
makes, and takes the placement with the fewest moves that it meets within the limit. 30×8, a device lost: within 1.05
times the proven fewest moves; 1.3 times without that search.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hams_scheduler.solver import objective
from hams_scheduler.solver.changes import Changes, cycles, fitting, off
from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, IntArray, Problem
from hams_scheduler.solver.strategies.levelling import GROWTH, Levelling
from hams_scheduler.solver.strategies.mfs import spent_on

TOLERANCE = 1.05
"""How much longer than the reference's the cycle may be."""
FEW_PAIRS, STEPS = 1000, 100
"""Up to this M×D fewer moves are searched for, in so many steps from each option."""
OVERLOAD = 5.0
"""Moves that a whole limit beyond the limit is worth at first."""
SAME = 1e-9
"""Cycles that differ by this part or less differ by rounding: of such changes the first is taken, by node, then device,
then the node it changes places with, so that the choice does not depend on how sums are rounded."""


def replan(problem: Problem, current: IntArray, reference: IntArray, tolerance: float = TOLERANCE) -> IntArray:
    """Return M device rows of the placement to change to.

    `current` is M device rows, -1 where the node's device is gone or cannot run it any more; `reference` M device rows
    of a placement from scratch. The result keeps support, pins and memory; its cycle is at most `tolerance` times the
    reference's.
    """
    limit = objective.cycle(problem, reference) * tolerance
    stays = _still_valid(problem, current)
    options = [_prune(problem, stays, reference, limit)]
    placed = _placed(problem, stays)
    repaired = None if placed is None else _improved(problem, placed, limit, 2 * len(stays))
    if repaired is not None and objective.cycle(problem, repaired) <= limit:
        options.insert(0, _prune(problem, stays, repaired, limit))
    options += [fewer for start in (*options, placed) for fewer in _fewer(problem, stays, start, limit)]
    return min(options, key=lambda rows: (int((rows != stays).sum()), objective.cycle(problem, rows)))


def change(problem: Problem, current: IntArray, limit: float, steps: int) -> IntArray | None:
    """Option A alone: return M device rows of the placement after at most `steps` moves and swaps towards `limit` s.

    None: some node has no place while the others keep theirs.
    """
    stays = _still_valid(problem, current)
    placed = _placed(problem, stays)
    return None if placed is None else _prune(problem, stays, _improved(problem, placed, limit, steps), limit)


def _fewer(problem: Problem, stays: IntArray, start: IntArray | None, limit: float) -> list[IntArray]:
    """Return placements within `limit` s found from `start` (None: nothing), each with fewer moves than the last.

    A node pays 1 where it has moved. Within the limit, one node after another is sent back to look further.
    """
    free = replace(problem, hosts=None)
    if start is None or problem.cost.size > FEW_PAIRS or not free.plain:
        return []
    moved = np.where(np.arange(problem.shape[1]) == stays[:, None], 0.0, 1.0)
    moved[~np.isfinite(free.cost)] = np.inf
    search = Levelling(free, start, np.full(problem.shape[1], OVERLOAD / limit), moved)
    weight, least, turn, found = search.pi.copy(), np.inf, 0, []
    for _ in range(STEPS):
        if search.cycle <= limit:
            if search.paid.sum() < least and objective.cycle(problem, search.assign) <= limit:
                least = float(search.paid.sum())
                found.append(search.assign.copy())
            weight = search.pi.copy()
            for column in range(len(weight)):
                search.waste_less(column, limit, weight)
            if search.cycle <= limit and not _one_back(search, stays, turn := turn + 1):
                break
        full = int(((search.loads - limit) * weight).argmax())
        if not search.waste_less(full, limit, weight):
            weight[full] *= GROWTH
    return found


def _one_back(search: Levelling, stays: IntArray, turn: int) -> bool:
    """Send a node back to its device, another one each turn; False when none has memory there."""
    away = np.nonzero((search.assign != stays) & (stays >= 0))[0]
    away = away[search.problem.memory[away, stays[away]] <= search.room[stays[away]]]
    if len(away):
        row = int(away[turn % len(away)])
        search.put(row, int(stays[row]))
    return bool(len(away))


def _still_valid(problem: Problem, current: IntArray) -> IntArray:
    """Return `current` with -1 for every node that cannot stay: unsupported now, or beyond the device's memory."""
    rows = current.copy()
    for row, column in enumerate(rows):
        if column >= 0 and not np.isfinite(problem.cost[row, column]):
            rows[row] = -1
    for column in range(problem.shape[1]):
        here = np.nonzero(rows == column)[0]
        need = problem.memory[here, column]
        while len(here) and need.sum() > problem.capacity[column] + SLACK_MIB:
            last = int(np.argmax(need))
            rows[here[last]] = -1
            here, need = np.delete(here, last), np.delete(need, last)
    return rows


def _placed(problem: Problem, stays: IntArray) -> IntArray | None:
    """`stays` with the nodes that must move placed, or None when one of them fits nowhere."""
    rows = stays.copy()
    least = problem.cost.min(axis=1)
    for row in sorted(np.nonzero(rows < 0)[0], key=lambda r: (-least[r], r)):
        column = _nearest(problem, rows, int(row))
        if column is None:
            return None
        rows[row] = column
    return rows


def _improved(problem: Problem, rows: IntArray, limit: float, steps: int) -> IntArray:
    """`rows` after moves and swaps until the cycle is within `limit`, none helps, or `steps` are made."""
    now = objective.cycle(problem, rows)
    for _ in range(steps):
        best = _best_step(problem, rows, now) if now > limit else None
        if best is None:
            break
        now, rows = best
    return rows


def _nearest(problem: Problem, rows: IntArray, row: int) -> int | None:
    """Return the device where `row` lengthens the cycle of the nodes placed so far least; None: it fits nowhere."""
    every = np.arange(problem.shape[1])
    options = every[fitting(problem, rows, Changes.moves(np.full(len(every), row), every))]
    if not len(options):
        return None
    placed = np.nonzero(rows >= 0)[0]
    loads = np.bincount(rows[placed], weights=problem.cost[placed, rows[placed]], minlength=len(every))
    longest = np.maximum(loads.max(), loads[options] + problem.cost[row, options])
    if problem.hosts is not None:
        spent, table = spent_on(problem.hosts, rows), problem.hosts
        own = spent[table.host[options]] + table.cpu[row, options]
        longest = np.maximum(longest, np.maximum(spent.max(), own))
    return int(options[np.lexsort((options, problem.cost[row, options], longest))[0]])


def _best_step(problem: Problem, rows: IntArray, now: float) -> tuple[float, IntArray] | None:
    """Return cycle and placement after the move or swap that takes most off the bottleneck per node moved, if any."""
    best: tuple[float, IntArray] | None = None
    for full in _full_devices(problem, rows, objective.device_cycles(problem, objective.shares_of(problem, rows))):
        changes = off(problem, rows, full)
        then = cycles(problem, rows, changes)
        drop = np.where(then < now * (1 - SAME), (now - then) / np.where(changes.others < 0, 1, 2), 0.0)
        most = float(drop.max(initial=0.0))
        if most > (0.0 if best is None else best[0] + SAME * now):
            tied = np.nonzero((drop > 0) & (drop >= most - SAME * now))[0]
            first = tied[np.lexsort((changes.others[tied], changes.to[tied], changes.nodes[tied]))[0]]
            best = most, changes.made(rows, int(first))
    return None if best is None else (objective.cycle(problem, best[1]), best[1])


def _full_devices(problem: Problem, rows: IntArray, busy: FloatArray) -> list[int]:
    """The device with the longest cycle; where a host's cores take longer, all devices of that host."""
    full = int(np.argmax(busy))
    if problem.hosts is None:
        return [full]
    spent = spent_on(problem.hosts, rows)
    host = int(np.argmax(spent))
    return [full] if busy[full] >= spent[host] else [int(c) for c in np.nonzero(problem.hosts.host == host)[0]]


def _prune(problem: Problem, stays: IntArray, rows: IntArray, limit: float) -> IntArray:
    """Send moved nodes home, the cheapest to send first, while the cycle stays within `limit`."""
    rows = rows.copy()
    limit = max(limit, objective.cycle(problem, rows))
    while True:
        away = np.nonzero((rows != stays) & (stays >= 0))[0]
        home = Changes.moves(away, stays[away])
        home = home.only(fitting(problem, rows, home))
        then = cycles(problem, rows, home)
        most = min(limit * (1 + 1e-12), then.min(initial=np.inf) * (1 + SAME))
        if not (then <= most).any():
            return rows
        rows = home.made(rows, int(np.argmax(then <= most)))
