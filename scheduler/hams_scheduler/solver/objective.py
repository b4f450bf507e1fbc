"""The objective of HAMS, once: what a placement achieves.

Node n costs device d `w_n * kappa_d / F[n, d]` seconds per frame; the learned overhead of an inference is in F. A
device serves its nodes one after another, so its cycle is the sum over its nodes, times their shares; a link's cycle
is the transfer time of the edges that cross it; a host's cycle is the CPU time of all that runs there over its usable
cores. The group's FPS is `1 / (longest cycle)`: the slowest part decides.
(HAMS, SEC 2020, measures one model per device: `paper`, the same formula with at most one model on a device.) With
several groups each cost is per frame of its group times the group's target, so `1 / cycle` is the smallest
achieved/target, and `group_rates` then raises whatever is not at the bottleneck (lexicographic max-min, by progressive
filling: Bertsekas and Gallager, Data Networks, 6.5.2).
"""

from __future__ import annotations

import numpy as np

from hams_scheduler.solver.instance import (
    SLACK_MIB,
    FloatArray,
    HostTable,
    Instance,
    IntArray,
    Problem,
    demand,
)


def shares_of(problem: Problem, assign: IntArray) -> FloatArray:
    """Return the M×D shares of an assignment (M device rows)."""
    shares = np.zeros(problem.shape)
    shares[np.arange(len(assign)), assign] = 1.0
    return shares


def device_cycles(problem: Problem, shares: FloatArray) -> FloatArray:
    """Return D seconds per frame (over target) that each device is busy under M×D `shares`."""
    used = np.where(shares > 0, shares * np.where(shares > 0, problem.cost, 0.0), 0.0).sum(axis=0)
    if problem.slowdown is not None:
        used = used * problem.slowdown[np.arange(len(used)), (shares > 0).sum(axis=0)]
    return np.asarray(used, dtype=np.float64)


def link_cycles(problem: Problem, shares: FloatArray) -> FloatArray:
    """Return seconds per frame (over target) that each link is busy; empty without links.

    A shared node's frames are taken to be spread independently of its neighbours' shares.
    """
    table = problem.links
    if table is None:
        return np.zeros(0)
    hosts = int(table.seconds.shape[1])
    at = np.zeros((shares.shape[0], hosts))
    for host in range(hosts):
        at[:, host] = shares[:, table.host == host].sum(axis=1)
    fixed = np.eye(hosts)
    begin = np.where((table.source < 0)[:, None], fixed[np.where(table.source < 0, ~table.source, 0)], 0.0)
    begin += np.where((table.source >= 0)[:, None], at[np.maximum(table.source, 0)], 0.0)
    time = (begin[:, :, None] * at[table.target][:, None, :] * table.seconds).sum(axis=0)
    return np.asarray(np.bincount(table.link.ravel(), weights=time.ravel()), dtype=np.float64)


def host_cycles(problem: Problem, shares: FloatArray) -> FloatArray:
    """Return seconds per frame (over target) that all usable cores of each host are busy; empty without hosts."""
    table = problem.hosts
    if table is None:
        return np.zeros(0)
    return table.total((shares * table.cpu).sum(axis=0)) + table.base


def cycle(problem: Problem, assign: IntArray) -> float:
    """Return the longest cycle of an assignment in seconds per frame (over target); infinite if not allowed."""
    if problem.links is None:
        costs = problem.cost[np.arange(len(assign)), assign]
        loads: FloatArray = np.asarray(np.bincount(assign, weights=costs, minlength=problem.shape[1]), dtype=np.float64)
        if problem.slowdown is not None:
            count = np.bincount(assign, minlength=problem.shape[1])
            loads = loads * problem.slowdown[np.arange(len(loads)), count]
        longest = float(loads.max())
        if problem.hosts is not None and longest < np.inf:
            table = problem.hosts
            spent = np.bincount(table.host[assign], table.cpu[np.arange(len(assign)), assign], len(table.names))
            longest = max(longest, float((spent + table.base).max()))
        return longest
    return share_cycle(problem, shares_of(problem, assign))


def share_cycle(problem: Problem, shares: FloatArray) -> float:
    """Return the longest device, link or host cycle under M×D `shares`."""
    longest = max(device_cycles(problem, shares).max(), link_cycles(problem, shares).max(initial=0.0))
    return float(max(longest, host_cycles(problem, shares).max(initial=0.0)))


def breaches(problem: Problem, shares: FloatArray) -> list[str]:
    """Return what is wrong with `shares`, in words; empty when support, pins, memory and sums are kept."""
    wrong = []
    placed = shares > 0
    for row, column in zip(*np.nonzero(placed & ~np.isfinite(problem.cost)), strict=True):
        wrong.append(f"{problem.models[row]} may not run on {problem.devices[column]}")
    used = np.where(placed, problem.memory, 0.0).sum(axis=0)
    for column in np.nonzero(used > problem.capacity + SLACK_MIB)[0]:
        wrong.append(f"{problem.devices[column]} holds {used[column]:g} of {problem.capacity[column]:g} MiB")
    for row in np.nonzero(np.abs(shares.sum(axis=1) - 1) > 1e-6)[0]:
        wrong.append(f"the shares of {problem.models[row]} do not sum to 1")
    if problem.one_per_device:
        for column in np.nonzero(placed.sum(axis=0) > 1)[0]:
            wrong.append(f"{problem.devices[column]} has more than one model")
    return wrong


def group_rows(instance: Instance) -> IntArray:
    """Return M numbers of the models' groups, in the order of :attr:`Instance.group_names`."""
    number = {name: index for index, name in enumerate(instance.group_names)}
    return np.array([number[instance.group_of(model)] for model in instance.models], dtype=np.int64)


def priorities(instance: Instance) -> IntArray:
    """Return the priorities of the G groups."""
    return np.array([instance.priorities.get(name, 0) for name in instance.group_names], dtype=np.int64)


def group_rates(instance: Instance, problem: Problem, shares: FloatArray) -> dict[str, float]:
    """Return FPS by group for fixed shares: highest priority first up to its target, then all by max-min.

    Within one priority the smallest achieved/target is raised until a device, link or host is full, then the next. When
    every target is met, what is left is shared by max-min of achieved/target over all groups.
    """
    names = instance.group_names
    if len(names) == 1:
        return {names[0]: 1.0 / share_cycle(problem, shares)}
    use = _use(instance, problem, shares)
    ratio = np.zeros(len(names))
    priority = priorities(instance)
    if (use.sum(axis=0) <= 1 + 1e-12).all():
        ratio = _fill(use, ratio, np.ones(len(names), dtype=bool), np.inf)
    else:
        for level in sorted(set(priority.tolist()), reverse=True):
            ratio = _fill(use, ratio, priority == level, 1.0)
        ratio = _fill(use, ratio, np.ones(len(names), dtype=bool), np.inf)
    return {name: float(r * instance.target(name)) for name, r in zip(names, ratio, strict=True)}


def _use(instance: Instance, problem: Problem, shares: FloatArray) -> FloatArray:
    """Return G×(D+links+hosts) busy fractions that each group causes at its target."""
    names, rows = instance.group_names, group_rows(instance)
    part = np.where(shares > 0, shares * np.where(shares > 0, problem.cost, 0.0), 0.0)
    if problem.slowdown is not None:
        count = (shares > 0).sum(axis=0)
        part = part * problem.slowdown[np.arange(len(count)), count]
    by_device = np.zeros((len(names), part.shape[1]))
    np.add.at(by_device, rows, part)
    of = range(len(names) if problem.links is not None else 0)
    links = [link_cycles(problem, np.where((rows == group)[:, None], shares, 0.0)) for group in of]
    parts = [by_device, np.array(links).reshape(len(names), -1), _host_use(problem.hosts, shares, rows)]
    return np.concatenate(parts, axis=1)


def _host_use(table: HostTable | None, shares: FloatArray, rows: IntArray) -> FloatArray:
    """Return G×H; `rows` are the M numbers of the nodes' groups."""
    if table is None:
        return np.zeros((int(rows.max()) + 1, 0))
    by_device = np.zeros((len(table.fixed), shares.shape[1]))
    np.add.at(by_device, rows, shares * table.cpu)
    return np.array([table.total(used) for used in by_device]) + table.fixed


def host_use(instance: Instance, shares: FloatArray, rates: dict[str, float]) -> dict[str, float]:
    """Return the busy part of the usable cores of each host when every group runs at its rate; empty: not known.

    It is reported under the objective `paper`, too, where it limits nothing.
    """
    table = HostTable.of(instance)
    if table is None:
        return {}
    total = np.zeros(len(table.names))
    for name, used in zip(instance.group_names, _host_use(table, shares, group_rows(instance)), strict=True):
        total += rates[name] / (instance.target(name) if len(rates) > 1 else 1.0) * used
    return {name: float(value) for name, value in zip(table.names, total, strict=True)}


def limits(instance: Instance, problem: Problem, shares: FloatArray, rates: dict[str, float]) -> dict[str, str]:
    """Return by group the fullest of the devices, links and hosts' cores that it uses, when all run at `rates`."""
    use = _use(instance, problem, shares)
    several = len(rates) > 1
    ratio = np.array([rate / (instance.target(name) if several else 1.0) for name, rate in rates.items()])
    total = ratio @ use
    links = [f"link {a} - {b}" for a, b in instance.links]
    named = [*problem.devices, *links[: use.shape[1] - problem.resources]]
    named += [cores_of(host) for host in (problem.hosts.names if problem.hosts is not None else ())]
    return {name: named[int(np.where(use[g] > 0, total, -1.0).argmax())] for g, name in enumerate(rates)}


def host_seconds(instance: Instance, problem: Problem, shares: FloatArray) -> dict[str, dict[str, float]]:
    """Return by group, then host, the seconds of all usable cores that a frame of the group takes."""
    if problem.hosts is None:
        return {}
    use = _use(instance, problem, shares)[:, -len(problem.hosts.names) :]
    names = instance.group_names
    target = [instance.target(name) if len(names) > 1 else 1.0 for name in names]
    return {
        name: {host: float(use[g, h]) / target[g] for h, host in enumerate(problem.hosts.names)}
        for g, name in enumerate(names)
    }


def cores_of(host: str) -> str:
    """Return how the cores of `host` are named as a bottleneck."""
    return f"host {host}'s cores"


def _fill(use: FloatArray, ratio: FloatArray, raised: np.ndarray, top: float) -> FloatArray:
    """Raise `ratio` of the `raised` groups together until full or `top`, freezing those at a full resource."""
    ratio = ratio.copy()
    active = raised & (ratio < top)
    while active.any():
        low = ratio[active].min()
        front = active & (ratio <= low + 1e-12)
        others = ratio[active & ~front]
        ceiling = min(top, float(others.min(initial=np.inf)))
        left = 1.0 - ratio @ use
        growth = use[front].sum(axis=0)
        room = np.where(growth > 1e-15, np.maximum(left, 0.0) / np.where(growth > 1e-15, growth, 1.0), np.inf)
        step = min(float(room.min()), ceiling - low)
        if not np.isfinite(step):
            break
        ratio[front] += step
        full = (left - step * growth <= 1e-9) & (growth > 1e-15)
        frozen = front & (use[:, full] > 1e-15).any(axis=1)
        if step <= 1e-15 and not frozen.any():
            break
        active &= ~frozen & (ratio < top - 1e-12)
    return ratio


def satisfaction(instance: Instance, rates: dict[str, float]) -> list[float]:
    """Return achieved/target sorted from the smallest, what several groups' plans are compared by."""
    return sorted(rate / instance.target(name) for name, rate in rates.items())


__all__ = [
    "breaches",
    "cores_of",
    "cycle",
    "demand",
    "device_cycles",
    "group_rates",
    "group_rows",
    "host_cycles",
    "host_seconds",
    "host_use",
    "limits",
    "link_cycles",
    "priorities",
    "satisfaction",
    "share_cycle",
    "shares_of",
]
