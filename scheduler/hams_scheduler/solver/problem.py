"""An instance in numbers: seconds per frame, MiB and rows, as the strategies want it.

A pair that is not allowed costs infinity, so that no strategy needs a second table. Several groups become one
problem: the cost of a node is multiplied by its group's target, so that `1 / cycle` is the smallest achieved/target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hams_scheduler.solver.instance import FloatArray, InfeasibleError, Instance

IntArray = npt.NDArray[np.int64]
SLACK_MIB = 1e-6
"""What rounding may add to a sum of MiB."""


@dataclass(frozen=True)
class LinkTable:
    """Transfers between hosts: seconds of link time per frame, by edge.

    `source` and `target` are E rows (a source below 0 is the fixed host `~source`), `host` is the D host numbers,
    `seconds` is E×H×H link seconds per frame of the group, 0 within a host, `link` is H×H link numbers.
    """

    source: IntArray
    target: IntArray
    host: IntArray
    seconds: FloatArray
    link: IntArray


@dataclass(frozen=True, eq=False)
class Problem:
    """Numbers of one scheduling question.

    `cost` is M×D seconds of the device per frame (times target), at the smallest interference of that device;
    `memory` M×D MiB; `capacity` D MiB; `slowdown` is None or D×(M+1): the factor on the sum of costs with k nodes
    resident, at least 1.
    """

    models: tuple[str, ...]
    devices: tuple[str, ...]
    cost: FloatArray
    memory: FloatArray
    capacity: FloatArray
    slowdown: FloatArray | None = None
    links: LinkTable | None = None
    one_per_device: bool = False
    cpu: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Return M, D."""
        return self.cost.shape[0], self.cost.shape[1]

    @property
    def tight(self) -> bool:
        """Whether memory can matter: some device cannot hold every model that it may run."""
        held = np.where(np.isfinite(self.cost), self.memory, 0.0).sum(axis=0)
        return bool((held > self.capacity + SLACK_MIB).any())

    @property
    def plain(self) -> bool:
        """Whether the cycle is a sum of costs per device: no links and no count-dependent slowdown."""
        return self.slowdown is None and self.links is None

    @staticmethod
    def of(instance: Instance) -> Problem:
        """Translate `instance`. Raises InfeasibleError naming each model that no device can run."""
        allowed = instance.allowed()
        rows, columns = allowed.shape
        lost = [row for row in range(rows) if not allowed[row].any()]
        if lost:
            reasons = {instance.models[row]: _why_nowhere(instance, row) for row in lost}
            text = "; ".join(f"{model}: {reason}" for model, reason in reasons.items())
            raise InfeasibleError(f"no device can run {text}", models=tuple(reasons), reasons=reasons)
        weights = instance.weights * demand(instance)
        with np.errstate(divide="ignore"):
            cost = np.where(allowed, weights[:, None] / np.where(allowed, instance.fps, 1.0), np.inf)
        slowdown = None
        if instance.kappa is not None:
            table = instance.kappa if instance.kappa.ndim == 2 else instance.kappa[:, None]
            count = np.minimum(np.arange(rows + 1), table.shape[1])
            table = table[:, np.maximum(count, 1) - 1]
            least = table.min(axis=1)
            cost = cost * least
            if (table > least[:, None] * (1 + 1e-12)).any():
                slowdown = table / least[:, None]
        cpu = instance.cpu_devices or {name for name in instance.devices if "cpu" in name.lower()}
        return Problem(
            instance.models,
            instance.devices,
            cost,
            np.ascontiguousarray(instance.memory),
            np.asarray(instance.capacity_mib),
            slowdown,
            _links(instance),
            instance.objective == "paper",
            tuple(column for column in range(columns) if instance.devices[column] in cpu),
        )


def demand(instance: Instance) -> FloatArray:
    """Return M factors on the cost: the target FPS of the node's group; 1 for a single group."""
    if len(instance.group_names) == 1:
        return np.ones(len(instance.models))
    return np.array([instance.target(instance.group_of(model)) for model in instance.models])


def _why_nowhere(instance: Instance, row: int) -> str:
    model = instance.models[row]
    supported = instance.fps[row] > 0
    if not supported.any():
        return "supported by none"
    if instance.accuracy is not None and instance.accuracy_floor is not None:
        supported = supported & (instance.accuracy[row] >= instance.accuracy_floor[row])
        if not supported.any():
            return f"below its accuracy floor {instance.accuracy_floor[row]:g} everywhere"
    if model in instance.pins:
        pinned = np.array([device in instance.pins[model] for device in instance.devices], dtype=bool)
        if not (supported & pinned).any():
            return f"pinned to {', '.join(sorted(instance.pins[model]))}, none of which is here and supports it"
        supported = supported & pinned
    most = float(instance.capacity_mib[supported].max())
    need = float(instance.memory[row][supported].min())
    return f"needs {need:g} MiB, the largest device it could use has {most:g} MiB"


def _links(instance: Instance) -> LinkTable | None:
    if not instance.edges or not instance.links:
        return None
    host_of: Mapping[str, str] = {device: instance.hosts.get(device, "") for device in instance.devices}
    names = [*host_of.values(), *(e.source[5:] for e in instance.edges if e.source.startswith("host:"))]
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    rate = np.full((len(number), len(number)), np.inf)
    link = np.zeros((len(number), len(number)), dtype=np.int64)
    for index, ((a, b), mib_per_s) in enumerate(instance.links.items()):
        if a in number and b in number and a != b:
            rate[number[a], number[b]] = rate[number[b], number[a]] = mib_per_s
            link[number[a], number[b]] = link[number[b], number[a]] = index
    if not np.isfinite(rate).any():
        return None
    row = {model: index for index, model in enumerate(instance.models)}
    factor = demand(instance)
    source = [row[e.source] if e.source in row else ~number[e.source[5:]] for e in instance.edges]
    target = [row[e.target] for e in instance.edges]
    mib = np.array([e.bytes_per_frame / 2**20 * factor[row[e.target]] for e in instance.edges])
    return LinkTable(
        np.array(source, dtype=np.int64),
        np.array(target, dtype=np.int64),
        np.array([number[host_of[device]] for device in instance.devices], dtype=np.int64),
        mib[:, None, None] / rate,
        link,
    )
