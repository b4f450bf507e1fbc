"""Proven bounds from device prices: the dual of the placement LP.

For any prices pi ≥ 0 (per second of a device) and mu ≥ 0 (per MiB),

    cycle ≥ [ sum_m min_d (pi_d P_md + mu_d mem_md) - sum_d mu_d cap_d ] / sum_d pi_d,

and likewise with hosts' cores as further resources of time, beside what frames take from them whatever the placement,
because no placement, shared or whole, pays less than the cheapest device for each model (LP duality; Lenstra, Shmoys
and Tardos 1990, section 2). Good prices are found by damped sweeps: a device with more than its part of the load
becomes more expensive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hams_scheduler.solver.instance import FloatArray, IntArray, Problem
from hams_scheduler.solver.time_budget import Budget


@dataclass(frozen=True, eq=False)
class Prices:
    """Prices per second (of D devices, then of H hosts), D prices per MiB, and the cycle (seconds) that they prove."""

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
    return max(0.0, (float(best) - paid + _fixed(problem, pi)) / total)


def _fixed(problem: Problem, pi: FloatArray) -> float:
    """What frames pay for hosts' cores whatever the placement."""
    return 0.0 if problem.hosts is None else float(problem.hosts.base @ pi[problem.shape[1] :])


def priced(problem: Problem, pi: FloatArray, mu: FloatArray) -> FloatArray:
    """Return M×D what each model pays on each device; infinite where it may not run."""
    devices = problem.shape[1]
    table = problem.cost * np.maximum(pi[:devices], 1e-300)
    if problem.hosts is not None:
        table = table + problem.hosts.cpu * pi[devices:][problem.hosts.host]
    return table + mu * problem.memory if mu.any() else table


def sweep(problem: Problem, budget: Budget, sweeps: int = 60, start: Prices | None = None) -> Prices:
    """Return good prices after at most `sweeps` damped sweeps; prices that prove less are rolled back.

    Starts at `start`, else at each device's mean speed.
    """
    first = start if start is not None else _mean_speeds(problem)
    pi, mu = first.pi.copy(), first.mu.copy()
    least = max(value(problem, pi, mu), longest_shortest(problem))
    best = Prices(pi, mu, 0.0)
    step, stale, limited = 0.5, 0, problem.tight
    for turn in range(sweeps):
        if turn and budget.over():
            break
        proven, pick = _proven(problem, pi, mu, limited)
        if proven > best.bound:
            best, stale = Prices(pi.copy(), mu.copy(), proven), 0
        else:
            stale += 1
            if stale >= 4:
                step, stale = step * 0.6, 0
                pi, mu = best.pi.copy(), best.mu.copy()
                continue
        pi, mu = _moved(problem, pick, pi, mu, step, limited)
    if best.bound > 0:
        return Prices(best.pi, best.mu, max(best.bound, least))
    return Prices(first.pi, first.mu, least)


def _mean_speeds(problem: Problem) -> Prices:
    """Return prices by each device's mean speed relative to the fastest, with no bound yet."""
    finite = np.isfinite(problem.cost)
    least = problem.cost.min(axis=1, keepdims=True)
    relative = np.where(finite, least / np.where(finite, problem.cost, 1.0), 0.0)
    pi = relative.mean(axis=0) + 1e-9
    if problem.hosts is not None:
        pi = np.append(pi, np.full(len(problem.hosts.names), pi.mean()))
    return Prices(pi / pi.sum(), np.zeros(problem.shape[1]), 0.0)


def _proven(problem: Problem, pi: FloatArray, mu: FloatArray, limited: bool) -> tuple[float, IntArray]:
    """Return the cycle that these prices prove, s, and each model's cheapest device."""
    table = priced(problem, pi, mu)
    pick = table.argmin(axis=1)
    total = float(table[np.arange(len(pick)), pick].sum())
    if limited:
        total -= float((mu[mu > 0] * problem.capacity[mu > 0]).sum())
    return (total + _fixed(problem, pi)) / float(pi.sum()), pick


def _moved(
    problem: Problem, pick: IntArray, pi: FloatArray, mu: FloatArray, step: float, limited: bool
) -> tuple[FloatArray, FloatArray]:
    """Raise the prices of devices with more than their part of the load and memory; lower those of the others."""
    index, columns = np.arange(len(pick)), problem.shape[1]
    own = np.bincount(pick, weights=problem.cost[index, pick], minlength=columns)
    loads: FloatArray = np.asarray(own, dtype=np.float64)
    if problem.hosts is not None:
        spent = np.bincount(pick, weights=problem.hosts.cpu[index, pick], minlength=columns)
        loads = np.append(loads, problem.hosts.total(spent) + problem.hosts.base)
    mean = float(loads @ pi) / float(pi.sum())
    pi = pi * np.exp(np.clip(step * (loads / mean - 1.0), -1.0, 1.0))
    pi /= pi.sum()
    if limited:
        held = np.bincount(pick, weights=problem.memory[index, pick], minlength=columns)
        over = np.where(np.isfinite(problem.capacity), held / np.maximum(problem.capacity, 1e-9) - 1.0, 0.0)
        scale = np.where(held > 0, pi[:columns] * own / np.maximum(held, 1e-9), 0.0)
        mu = np.maximum(0.0, mu + step * over * scale)
    return pi, mu


def longest_shortest(problem: Problem) -> float:
    """Return the cycle of the model whose best device is slowest: nothing can be faster with whole nodes."""
    longest = float(problem.cost.min(axis=1).max())
    return longest if problem.hosts is None else max(longest, float(problem.hosts.base.max()))
