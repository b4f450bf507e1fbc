"""Proven bounds from device prices: the dual of the placement LP.

For any prices pi ≥ 0 (per second of a device) and mu ≥ 0 (per MiB),

    cycle ≥ [ sum_m min_d (pi_d P_md + mu_d mem_md) - sum_d mu_d cap_d ] / sum_d pi_d,

because no placement, shared or whole, pays less than the cheapest device for each model (LP duality; Lenstra, Shmoys
and Tardos 1990, section 2). Good prices are found by damped sweeps: a device with more than its part of the load
becomes dearer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hams_scheduler.solver.instance import FloatArray
from hams_scheduler.solver.problem import Problem
from hams_scheduler.solver.time_budget import Budget


@dataclass(frozen=True, eq=False)
class Prices:
    """D prices per second, D prices per MiB, and the cycle (seconds) that they prove."""

    pi: FloatArray
    mu: FloatArray
    bound: float


def value(problem: Problem, pi: FloatArray, mu: FloatArray) -> float:
    """Return the lower bound on the cycle that prices `pi` and `mu` prove; 0 when they prove nothing."""
    total = float(pi.sum())
    if total <= 0:
        return 0.0
    best = priced(problem, pi, mu).min(axis=1).sum()
    paid = float((mu[mu > 0] * problem.capacity[mu > 0]).sum())
    return max(0.0, (float(best) - paid) / total)


def priced(problem: Problem, pi: FloatArray, mu: FloatArray) -> FloatArray:
    """Return M×D what each model pays on each device; infinite where it may not run."""
    table = problem.cost * np.maximum(pi, 1e-300)
    return table + mu * problem.memory if mu.any() else table


def sweep(problem: Problem, budget: Budget, sweeps: int = 60, start: Prices | None = None) -> Prices:
    """Return good prices after at most `sweeps` damped sweeps; prices that prove less are rolled back.

    Starts at `start`, else at each device's mean speed.
    """
    rows, columns = problem.shape
    finite = np.isfinite(problem.cost)
    mu = np.zeros(columns)
    if start is not None:
        pi, mu = start.pi.copy(), start.mu.copy()
    else:
        least = problem.cost.min(axis=1, keepdims=True)
        relative = np.where(finite, least / np.where(finite, problem.cost, 1.0), 0.0)
        pi = relative.mean(axis=0) + 1e-9
        pi /= pi.sum()
    best = Prices(pi, mu, max(value(problem, pi, mu), longest_shortest(problem)))
    shown = (pi.copy(), mu.copy(), 0.0)
    step = 0.5
    limited = problem.tight
    index = np.arange(rows)
    stale = 0
    for turn in range(sweeps):
        if turn and budget.over():
            break
        table = problem.cost * np.maximum(pi, 1e-300)
        if limited:
            table = table + mu * problem.memory
        pick = table.argmin(axis=1)
        total = float(table[index, pick].sum())
        if limited:
            total -= float((mu[mu > 0] * problem.capacity[mu > 0]).sum())
        proven = total / float(pi.sum())
        if proven > shown[2]:
            shown = (pi.copy(), mu.copy(), proven)
            stale = 0
        else:
            stale += 1
            if stale >= 4:
                step *= 0.6
                stale = 0
                pi, mu = shown[0].copy(), shown[1].copy()
                continue
        loads = np.bincount(pick, weights=problem.cost[index, pick], minlength=columns)
        mean = float(loads @ pi) / float(pi.sum())
        pi = pi * np.exp(np.clip(step * (loads / mean - 1.0), -1.0, 1.0))
        pi /= pi.sum()
        if limited:
            held = np.bincount(pick, weights=problem.memory[index, pick], minlength=columns)
            over = np.where(np.isfinite(problem.capacity), held / np.maximum(problem.capacity, 1e-9) - 1.0, 0.0)
            scale = np.where(held > 0, pi * loads / np.maximum(held, 1e-9), 0.0)
            mu = np.maximum(0.0, mu + step * over * scale)
    if shown[2] > best.bound:
        best = Prices(shown[0], shown[1], shown[2])
    elif shown[2] > 0:
        best = Prices(shown[0], shown[1], best.bound)
    return best


def longest_shortest(problem: Problem) -> float:
    """Return the cycle of the model whose best device is slowest: nothing can be faster with whole nodes."""
    return float(problem.cost.min(axis=1).max())
