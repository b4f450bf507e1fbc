"""Hardware-first scheduling (HFS).

Source: HAMS (SEC 2020) and its slides. The paper's steps have the paper's names here:

    QueryWorstCaseDevice  query_worst_case_device  the device that is filled next: the worst case first
    QueryDevice           query_device             the models that suit this device
    DeviceAllocations     device_allocations       the result: the models of each device

Here a device is filled up to a cycle time T, which is found by bisection, and to its memory. The models that suit it
are those with the least regret: what they pay here ÷ the least that they pay on the devices that come later. The worst
case has three readings: the slowest device, the fastest (most in demand), and the one that can run the fewest models.
What a model pays has three: its time, its time and memory at the devices' prices (:mod:`prices`), and the larger part
that it takes, of the cycle or of the memory. Of these placements the best one is taken, after models have left the
bottleneck as in :mod:`mfs`, and compared with everything on the best single device.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, FloatArray, HostTable, IntArray, Problem
from hams_scheduler.solver.objective import cycle
from hams_scheduler.solver.placement import Answer
from hams_scheduler.solver.strategies import mfs, paper
from hams_scheduler.solver.strategies.prices import Prices, priced, sweep
from hams_scheduler.solver.time_budget import Budget

BISECTIONS = 14
NEAR = 1e-3
"""How near, relatively, the bisection comes to the least cycle that works."""
MANY_PAIRS = 4000
"""Beyond this M×D only the slowest device is the worst case, and models pay prices only where memory has one."""
FEW_PAIRS = 1000
"""Up to this M×D the device with the fewest models may be the worst case, and models may pay the scarcer resource."""
LEAST_PRICE = 1e-3
"""Of a second, relative to the mean: a device with time left is not free."""


def hfs(problem: Problem, budget: Budget) -> Answer:
    """Return the HFS placement: some fourteen fills of all devices for each reading."""
    if problem.one_per_device:
        return paper.hfs(problem, budget)
    prices = sweep(problem, budget, 30)
    assign, notes = mfs.best_polished(problem, placements(problem, prices), "hfs")
    return Answer.of(problem, assign, prices.bound, notes=notes)


def placements(problem: Problem, prices: Prices) -> list[IntArray]:
    """Return a placement for each reading whose fills find one."""
    speed = paper.speeds(problem)
    worst_cases: tuple[FloatArray, ...]
    pays: tuple[FloatArray, ...]
    paid = priced(problem, np.maximum(prices.pi, LEAST_PRICE * float(prices.pi.mean())), prices.mu)
    worst_cases, pays = (speed,), (paid if prices.mu.any() else problem.cost,)
    if problem.cost.size <= MANY_PAIRS:
        worst_cases, pays = (speed, -speed), (problem.cost, paid)
    if problem.cost.size <= FEW_PAIRS:
        worst_cases += (np.isfinite(problem.cost).sum(axis=0).astype(np.float64),)
        pays += (_scarcer(problem, prices.bound),) if problem.tight else ()
    readings = [(worst, pay) for worst in worst_cases for pay in pays]
    found = [place(problem, prices.bound, worst, pay) for worst, pay in readings]
    return [assign for assign in found if assign is not None]


def _scarcer(problem: Problem, bound: float) -> FloatArray:
    """Return M×D the part that a model takes of a cycle of `bound` seconds, or of the memory where that is more."""
    held = np.where(np.isfinite(problem.capacity), problem.memory / np.maximum(problem.capacity, 1e-9), 0.0)
    return np.maximum(problem.cost / max(bound, 1e-300), held)


def place(problem: Problem, bound: float, speed: FloatArray, paid: FloatArray) -> IntArray | None:
    """Return the assignment of the smallest cycle T ≥ `bound` (seconds) found to work, or None.

    `speed` is D numbers that say which device is the worst case, `paid` M×D what models pay.
    """
    suited = _walk(problem, speed, paid)
    low, high = bound, bound
    found = None
    for _ in range(12):
        found = fill(problem, high, suited)
        if found is not None:
            break
        low, high = high, high * 1.6
    if found is None:
        return None
    least = cycle(problem, found)
    for _ in range(BISECTIONS):
        high = min(high, least)
        if high - low <= NEAR * high:
            break
        middle = (low + high) / 2
        tried = fill(problem, middle, suited)
        if tried is None:
            low = middle
            continue
        high = middle
        length = cycle(problem, tried)
        if length < least:
            found, least = tried, length
    return found


def _walk(problem: Problem, speed: FloatArray, paid: FloatArray) -> dict[int, IntArray]:
    """Return all devices, the worst case first, each with the models in the order in which they suit it."""
    suited: dict[int, IntArray] = {}
    waiting = np.arange(len(speed))
    while len(waiting):
        device = query_worst_case_device(speed, waiting)
        waiting = waiting[waiting != device]
        suited[device] = query_device(
            problem.cost[:, device], paid[:, device], paid[:, waiting].min(axis=1, initial=np.inf)
        )
    return suited


def query_worst_case_device(speed: FloatArray, waiting: IntArray) -> int:
    """Return the device to fill next: of those `waiting` the one with the least `speed`."""
    return int(waiting[speed[waiting].argmin()])


def query_device(cost: FloatArray, paid: FloatArray, later: FloatArray) -> IntArray:
    """Return the models that suit a device, the best first: those that it can run, by regret, then the longest.

    The regret is what a model pays here ÷ the least that it pays `later`; 0 where no later device can run it.
    """
    with np.errstate(invalid="ignore"):
        regret = np.where(np.isfinite(later), paid / later, 0.0)
    order = np.lexsort((-cost, regret))
    return np.asarray(order[np.isfinite(cost[order])], dtype=np.int64)


def fill(problem: Problem, limit: float, suited: Mapping[int, IntArray]) -> IntArray | None:
    """Return an assignment with every device's cycle ≤ `limit` seconds, or None when the fill leaves a model."""
    device_allocations: dict[int, IntArray] = {}
    waiting = np.ones(problem.shape[0], dtype=bool)
    spare = None if problem.hosts is None else limit * (1 + 1e-12) - problem.hosts.base
    for device, models in suited.items():
        device_allocations[device] = _take(problem, models[waiting[models]], device, limit, spare)
        waiting[device_allocations[device]] = False
    if waiting.any():
        return None
    assign: IntArray = np.empty(len(waiting), dtype=np.int64)
    for device, models in device_allocations.items():
        assign[models] = device
    return assign


def _take(problem: Problem, rows: IntArray, column: int, limit: float, spare: FloatArray | None) -> IntArray:
    """Return those of `rows`, in order, that fit one after another into `limit` seconds and the memory.

    They also fit into what the hosts' cores have to `spare`, seconds, which they reduce.
    """
    if spare is not None and problem.hosts is not None:
        rows = _on_cores(problem.hosts, rows, column, spare)
    taken: list[IntArray] = []
    time, room = limit * (1 + 1e-12), float(problem.capacity[column]) + SLACK_MIB
    if problem.slowdown is not None:
        time /= float(problem.slowdown[column].mean())
    while rows.size:
        cost, memory = problem.cost[rows, column], problem.memory[rows, column]
        fit = (cost <= time) & (memory <= room)
        rows, cost, memory = rows[fit], cost[fit], memory[fit]
        ok = (np.cumsum(cost) <= time) & (np.cumsum(memory) <= room)
        stop = int(ok.argmin()) if not ok.all() else len(rows)
        if stop == 0:
            break
        taken.append(rows[:stop])
        time -= float(cost[:stop].sum())
        room -= float(memory[:stop].sum())
        rows = rows[stop:]
    found = np.concatenate(taken) if taken else np.zeros(0, dtype=np.int64)
    if spare is not None and problem.hosts is not None:
        spare[problem.hosts.host[column]] -= problem.hosts.cpu[found, column].sum()
    return found


def _on_cores(table: HostTable, rows: IntArray, column: int, spare: FloatArray) -> IntArray:
    """Return those of `rows`, in order, that together fit into what the cores of the device's host have to spare."""
    left, kept = float(spare[table.host[column]]), []
    for row in rows:
        if table.cpu[row, column] <= left:
            left -= float(table.cpu[row, column])
            kept.append(row)
    return np.array(kept, dtype=np.int64)
