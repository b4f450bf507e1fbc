"""What many changes of a placement give, each one move or swap, computed at once. Pure.

A change concerns two devices and their hosts; of all others only the longest cycle counts. So a change costs a few
steps of arithmetic, however many nodes and devices there are. :func:`objective.cycle` is the definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hams_scheduler.solver import objective
from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, IntArray, Problem


@dataclass(frozen=True, eq=False)
class Changes:
    """K changes: `nodes` move to the devices `to`; where `others` is not -1, that node takes its place."""

    nodes: IntArray
    to: IntArray
    others: IntArray

    @staticmethod
    def moves(nodes: IntArray, to: IntArray) -> Changes:
        """Return moves only."""
        return Changes(nodes, to, np.full(len(nodes), -1, dtype=np.int64))

    def only(self, which: npt.NDArray[np.bool_]) -> Changes:
        """Return some of the changes."""
        return Changes(self.nodes[which], self.to[which], self.others[which])

    def made(self, rows: IntArray, index: int) -> IntArray:
        """Return the placement after one of the changes of `rows`."""
        after, node, other = rows.copy(), self.nodes[index], self.others[index]
        if other >= 0:
            after[other] = rows[node]
        after[node] = self.to[index]
        return after


def cycles(problem: Problem, rows: IntArray, changes: Changes) -> FloatArray:
    """Return the K longest cycles, s, that `rows` (M device rows) has after each change; infinite: not allowed."""
    if problem.links is not None:
        every = range(len(changes.nodes))
        return np.array([objective.cycle(problem, changes.made(rows, index)) for index in every], dtype=np.float64)
    columns, index = problem.shape[1], np.arange(len(rows))
    left = rows[changes.nodes]
    loads: FloatArray = np.asarray(np.bincount(rows, problem.cost[index, rows], columns), dtype=np.float64)
    less, more = _differences(problem.cost, left, changes)
    at_left, at_to = loads[left] + less, loads[changes.to] + more
    if problem.slowdown is not None:
        count, one = np.bincount(rows, minlength=columns), np.where(changes.others < 0, 1, 0)
        loads = loads * problem.slowdown[np.arange(columns), count]
        at_left = at_left * problem.slowdown[left, count[left] - one]
        at_to = at_to * problem.slowdown[changes.to, np.minimum(count[changes.to] + one, len(rows))]
    longest = np.maximum(np.maximum(at_left, at_to), _rest(loads, left, changes.to))
    table = problem.hosts
    if table is None:
        return longest
    spent = np.bincount(table.host[rows], table.cpu[index, rows], len(table.names)) + table.base
    host_left, host_to = table.host[left], table.host[changes.to]
    less, more = _differences(table.cpu, left, changes)
    same = host_left == host_to
    at_left = spent[host_left] + less + np.where(same, more, 0.0)
    at_to = spent[host_to] + more + np.where(same, less, 0.0)
    return np.maximum(longest, np.maximum(np.maximum(at_left, at_to), _rest(spent, host_left, host_to)))


def _differences(cost: FloatArray, left: IntArray, changes: Changes) -> tuple[FloatArray, FloatArray]:
    """Return what each change adds to what the nodes on `left`, and those on its target, cost: K and K."""
    nodes, to, others = changes.nodes, changes.to, changes.others
    swap = others >= 0
    back = np.where(swap, cost[others, left], 0.0)
    gone = np.where(swap, cost[others, to], 0.0)
    return back - cost[nodes, left], cost[nodes, to] - gone


def _rest(loads: FloatArray, one: IntArray, other: IntArray) -> FloatArray:
    """Return the K longest of `loads` beside those at `one` and at `other`; 0 where there are no more."""
    longest = np.zeros(len(one))
    for index in np.argsort(-loads, kind="stable")[:3][::-1]:
        longest = np.where((one != index) & (other != index), loads[index], longest)
    return longest


def fitting(problem: Problem, rows: IntArray, changes: Changes) -> npt.NDArray[np.bool_]:
    """Return whether each change keeps support and memory; `rows` may have nodes that are not placed (-1)."""
    placed = np.nonzero(rows >= 0)[0]
    at, columns = rows[placed], problem.shape[1]
    room = problem.capacity + SLACK_MIB - np.bincount(at, problem.memory[placed, at], columns)
    nodes, to, others = changes.nodes, changes.to, changes.others
    swap = others >= 0
    freed = np.where(swap, problem.memory[others, to], 0.0)
    fits = np.isfinite(problem.cost[nodes, to]) & (problem.memory[nodes, to] <= room[to] + freed)
    if problem.one_per_device:
        fits &= swap | (np.bincount(at, minlength=columns)[to] == 0)
    left = rows[nodes]
    back = np.isfinite(problem.cost[others, left])
    back &= problem.memory[others, left] <= room[left] + problem.memory[nodes, left]
    return np.asarray(fits & (~swap | back), dtype=np.bool_)


def off(problem: Problem, rows: IntArray, full: int) -> Changes:
    """Return the moves of nodes off device `full`, and swaps with those of others, that keep support and memory."""
    here = np.nonzero(rows == full)[0]
    columns = np.array([column for column in range(problem.shape[1]) if column != full], dtype=np.int64)
    others = np.nonzero((rows >= 0) & (rows != full))[0]
    nodes = np.concatenate([np.repeat(here, len(columns)), np.repeat(here, len(others))])
    to = np.concatenate([np.tile(columns, len(here)), np.tile(rows[others], len(here))])
    moved = np.full(len(here) * len(columns), -1, dtype=np.int64)
    found = Changes(nodes, to, np.concatenate([moved, np.tile(others, len(here))]))
    return found.only(fitting(problem, rows, found))
