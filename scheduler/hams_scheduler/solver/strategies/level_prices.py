"""Bounds on levels by prices: what groups pay for their ratios cannot be more than there is.

At prices pi of devices' and hosts' seconds and mu of MiB, a group that runs at ratio r pays at least

    f_g(r) = sum over its nodes of min_d (r pi_d c_md + mu_d mem_md)  +  r sum_h pi_h fixed_gh,

and all groups together pay at most `sum pi + sum mu cap` (the dual of the placement LP, as in :mod:`prices`). With
whole nodes a device whose cycle alone is too long for r is not among the d. In a plan whose levels before are no lower
than given values, the groups have those values in some order: the order that pays least is an assignment problem (Kuhn
1955). The level is the largest ratio of the others at which that sum is still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hams_scheduler.solver.instance import FloatArray, IntArray, Problem

BISECTIONS = 40


@dataclass(frozen=True, eq=False)
class PricedGroups:
    """What groups pay; `group` is M numbers of groups, `pi` D (+ H) prices, `mu` D. `whole`: of whole nodes.

    `tops` are the ratios that the groups (G) have at most with all devices to themselves.
    """

    problem: Problem
    group: IntArray
    pi: FloatArray
    mu: FloatArray
    tops: FloatArray
    whole: bool

    @property
    def budget(self) -> float:
        """All that can be paid."""
        priced = self.mu > 0
        return float(self.pi.sum() + (self.mu[priced] * self.problem.capacity[priced]).sum())

    def paid(self, ratio: float) -> FloatArray:
        """Return what each group (G) pays at least to run at `ratio`; infinite: it cannot."""
        p, devices = self.problem, self.problem.shape[1]
        open_ = np.isfinite(p.cost)
        if self.whole:
            open_ = open_ & (p.cost * max(ratio, 1e-300) <= 1 + 1e-9)
        each = np.where(open_, p.cost, 0.0) * self.pi[:devices]
        if p.hosts is not None:
            each = each + p.hosts.cpu * self.pi[devices:][p.hosts.host]
        held = np.where(self.mu > 0, self.mu * p.memory, 0.0)
        least = np.where(open_, each * ratio + held, np.inf).min(axis=1)
        total = np.where(ratio > self.tops * (1 + 1e-9), np.inf, np.bincount(self.group, weights=least))
        return total if p.hosts is None else total + ratio * (p.hosts.fixed @ self.pi[devices:])


def most(
    priced: PricedGroups,
    others: Sequence[tuple[IntArray, FloatArray]],
    groups: IntArray,
    before: FloatArray,
    top: float,
) -> float:
    """Return a bound on the next level of `groups`, of which `before` are no lower than these ratios; at most `top`.

    `others` are further groups, with a ratio for each that in some order they have at least.
    """
    far = 1e6 * max(priced.budget, 1e-300)
    left = priced.budget * (1 + 1e-9) - sum(_cheapest(priced, of, values, far) for of, values in others)
    fixed = np.array([np.minimum(priced.paid(value)[groups], far) for value in before]).reshape(
        len(before), len(groups)
    )
    low, high = float(before.max(initial=0.0)), top
    if _with_others(priced, groups, fixed, high, far) <= left:
        return top
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _with_others(priced, groups, fixed, middle, far) <= left:
            low = middle
        else:
            high = middle
        if high - low <= 1e-9 * high:
            break
    return high


def _with_others(priced: PricedGroups, groups: IntArray, fixed: FloatArray, ratio: float, far: float) -> float:
    """What `groups` pay at least when as many as `fixed` has rows have those ratios, the others `ratio`."""
    paid = np.minimum(priced.paid(ratio)[groups], far)
    gain = fixed - paid[None, :]
    rows, columns = linear_sum_assignment(gain)
    return float(paid.sum() + gain[rows, columns].sum())


def _cheapest(priced: PricedGroups, groups: IntArray, values: FloatArray, far: float) -> float:
    """What `groups` pay at least when they have these ratios in some order."""
    table = np.array([np.minimum(priced.paid(float(value))[groups], far) for value in values])
    rows, columns = linear_sum_assignment(table)
    return float(table[rows, columns].sum())
