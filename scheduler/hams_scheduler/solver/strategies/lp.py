"""The placement LP: the shares that make the longest cycle least, by HiGHS's dual simplex through scipy.

    min t   subject to   sum_d x_md = 1,   base_d + sum_m P_md x_md ≤ t,   sum_m mem_md x_md ≤ room_d,
                         fixed_h + sum_(m, d on h) cpu_md x_md ≤ t  for each host h with known cores

Its value bounds every placement, whole or shared (a replica holds its node's whole memory, the LP only a share of it).
A vertex, which is what the simplex method returns, splits few models: at most D - 1, one more per full memory or host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack, vstack

from hams_scheduler.solver.instance import FloatArray, IntArray, Problem
from hams_scheduler.solver.strategies.prices import Prices, priced

KEPT = 5
"""Cheapest devices per model, at the device prices, that a pruned LP keeps."""


@dataclass(frozen=True, eq=False)
class LpResult:
    """M×D shares, the cycle in seconds, and the dual prices: D (+ H) per second, D per MiB, M per model."""

    shares: FloatArray
    cycle: float
    pi: FloatArray
    mu: FloatArray
    worth: FloatArray


def pruned(problem: Problem, prices: Prices, kept: int = KEPT) -> np.ndarray:
    """Return M×D: the pairs that are among a model's cheapest devices at these prices."""
    finite = np.isfinite(problem.cost)
    if kept >= problem.shape[1]:
        return finite
    paid = np.where(finite, priced(problem, prices.pi, prices.mu), np.inf)
    nearest = np.argpartition(paid, kept - 1, axis=1)[:, :kept]
    mask = np.zeros_like(finite)
    mask[np.arange(len(paid))[:, None], nearest] = True
    return mask & finite


def solve(
    problem: Problem,
    allowed: np.ndarray,
    seconds: float,
    base: FloatArray | None = None,
    room: FloatArray | None = None,
) -> LpResult | None:
    """Solve over the pairs that are `allowed` (M×D); None when there is no solution, or none in `seconds`.

    `base` is what each device (and host) already carries, s; `room` the MiB it has left, of `problem.capacity`.
    """
    rows, columns = np.nonzero(allowed)
    count, (models, devices) = len(rows), problem.shape
    unit = max(float(problem.cost[rows, columns].mean()) * models / devices, 1e-12)  # HiGHS has absolute tolerances
    resources = problem.resources
    carried = _carried(problem) if base is None else base
    left = problem.capacity if room is None else room
    limits, rights, bounded = _limits(problem, rows, columns, carried / unit, left, unit)
    found = linprog(
        np.append(np.zeros(count), 1.0),
        A_ub=limits,
        b_ub=rights,
        A_eq=csr_array((np.ones(count), (rows, np.arange(count))), shape=(models, count + 1)),
        b_eq=np.ones(models),
        bounds=(0, None),
        method="highs-ds",
        options={"time_limit": max(seconds, 0.02), "disp": False},
    )
    if found.x is None or found.status != 0:
        return None
    shares = np.zeros(problem.shape)
    shares[rows, columns] = np.where(found.x[:-1] < 1e-9, 0.0, found.x[:-1])
    shares /= shares.sum(axis=1, keepdims=True)
    duals = -np.asarray(found.ineqlin.marginals)
    mu = np.zeros(devices)
    mu[bounded] = np.maximum(duals[resources:], 0.0) / np.maximum(problem.capacity[bounded], 1e-9) * unit
    pi = np.maximum(duals[:resources], 0.0)
    return LpResult(shares, float(found.x[-1]) * unit, pi, mu, np.asarray(found.eqlin.marginals) * unit)


def _carried(problem: Problem) -> FloatArray:
    """What each device, then each host, carries whatever the placement, s."""
    devices = np.zeros(problem.shape[1])
    return devices if problem.hosts is None else np.append(devices, problem.hosts.base)


def time_rows(problem: Problem, rows: IntArray, columns: IntArray, unit: float) -> csr_array:
    """Return what the pairs take from each device, then from each host, in `unit` seconds."""
    index = np.arange(len(rows))
    time = csr_array((problem.cost[rows, columns] / unit, (columns, index)), shape=(problem.shape[1], len(rows)))
    table = problem.hosts
    if table is None:
        return time
    shape = (len(table.names), len(rows))
    return vstack([time, csr_array((table.cpu[rows, columns] / unit, (table.host[columns], index)), shape=shape)])


def _limits(
    problem: Problem, rows: IntArray, columns: IntArray, carried: FloatArray, left: FloatArray, unit: float
) -> tuple[csr_array, FloatArray, IntArray]:
    """Return the inequalities (matrix, right side) over the pairs and t, and the devices whose memory is limited.

    Times are in `unit` seconds; `carried` as well. Memory is relative to the device's capacity.
    """
    count, devices = len(rows), problem.shape[1]
    index = np.arange(count)
    time = time_rows(problem, rows, columns, unit)
    limits, rights = [hstack([time, csr_array(-np.ones((problem.resources, 1)))])], [-carried]
    bounded = np.nonzero(np.isfinite(left))[0] if problem.tight else np.zeros(0, dtype=np.int64)
    if len(bounded):
        scale = np.maximum(problem.capacity[bounded], 1e-9)
        held = csr_array((problem.memory[rows, columns], (columns, index)), shape=(devices, count + 1))
        limits.append(csr_array(held[bounded] / scale[:, None]))
        rights.append(np.maximum(left[bounded], 0.0) / scale)
    return vstack(limits).tocsr(), np.concatenate(rights), bounded
