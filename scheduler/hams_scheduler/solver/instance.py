"""What is to be scheduled: the FPS matrix of models and devices with every constraint, validated once.

An `Instance` has names and FPS, as profiles and the offline JSON file have. A `Problem` is the same question in seconds
per frame, MiB and rows, as the strategies need it. A pair that is not allowed costs infinity, so no strategy needs a
second table. Several groups become one problem: the cost of a node is multiplied by its group's target, so `1 / cycle`
is the smallest achieved/target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
OBJECTIVES = ("hams", "paper")

USABLE_SHARE = 0.95
"""The part of a host's cores that frames can use; the kernel, heartbeats and short waits take the rest."""


class InvalidInstanceError(ValueError):
    """The instance contradicts itself; `field` names the part that is wrong."""

    def __init__(self, text: str, *, field: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.field = field


class NoPlacementError(ValueError):
    """No placement keeps support, pins and memory; `models` are those that fit nowhere, with `reasons`."""

    def __init__(self, text: str, *, models: Sequence[str] = (), reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.models = tuple(models)
        self.reasons = dict(reasons or {})


@dataclass(frozen=True)
class Edge:
    """Bytes that `source` sends to `target` per frame of the group.

    `source` is a node, or `host:NAME` for a camera or file that enters on that host.
    """

    source: str
    target: str
    bytes_per_frame: float


@dataclass(frozen=True, eq=False)
class Instance:
    """One scheduling question.

    `fps` is M×D frames/s of a node alone on a device (0: unsupported); `weights` is M inferences per frame;
    `memory_mib` is M or M×D MiB per replica; `capacity_mib` is D MiB. `kappa` slows a device down: D factors, or
    D×K where column k-1 holds with k resident nodes (the last column for more). `links` are MiB/s between two
    hosts (an unlisted pair is free), `hosts` maps devices to hosts. A pair whose `accuracy` (M×D) is below
    `accuracy_floor` (M) is unsupported. Larger `priorities` are more important. A pin may name a device that is
    gone. `cpu_devices` are where the strategy `default` begins; empty: the devices with `cpu` in their name.
    `cores` are CPU cores by host, of which frames use the part `usable`. `cpu_ms` is M×D ms of CPU time that an
    inference takes from its device's host, `frame_cpu_ms` what a frame of a group takes from hosts whatever the
    placement ({group: {host: ms}}). Hosts that are not in `cores` limit nothing.
    Raises InvalidInstanceError.
    """

    models: tuple[str, ...]
    devices: tuple[str, ...]
    fps: FloatArray
    weights: FloatArray = field(default_factory=lambda: np.ones(0))
    memory_mib: FloatArray = field(default_factory=lambda: np.zeros(0))
    capacity_mib: FloatArray = field(default_factory=lambda: np.zeros(0))
    pins: Mapping[str, frozenset[str]] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
    priorities: Mapping[str, int] = field(default_factory=dict)
    kappa: FloatArray | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[tuple[str, str], float] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    accuracy: FloatArray | None = None
    accuracy_floor: FloatArray | None = None
    objective: str = "hams"
    cores: Mapping[str, float] = field(default_factory=dict)
    cpu_ms: FloatArray | None = None
    frame_cpu_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    usable: float = USABLE_SHARE
    cpu_devices: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        m, d = len(self.models), len(self.devices)
        put = object.__setattr__
        put(self, "models", tuple(self.models))
        put(self, "devices", tuple(self.devices))
        put(self, "fps", _array(self.fps, "fps", [(m, d)]))
        weights = self.weights if np.size(self.weights) else np.ones(m)
        put(self, "weights", _array(weights, "weights", [(m,)]))
        memory = self.memory_mib if np.size(self.memory_mib) else np.zeros(m)
        put(self, "memory_mib", _array(memory, "memory_mib", [(m,), (m, d)]))
        capacity = self.capacity_mib if np.size(self.capacity_mib) else np.full(d, np.inf)
        put(self, "capacity_mib", _array(capacity, "capacity_mib", [(d,)], infinite=True))
        if self.kappa is not None:
            put(self, "kappa", _array(self.kappa, "kappa", [(d,), (d, np.shape(self.kappa)[-1])]))
        for name, shape in (("accuracy", (m, d)), ("accuracy_floor", (m,)), ("cpu_ms", (m, d))):
            if (table := getattr(self, name)) is not None:
                put(self, name, _array(table, name, [shape]))
        _check_names(self)

    @property
    def memory(self) -> FloatArray:
        """Return M×D MiB per replica."""
        memory = self.memory_mib if self.memory_mib.ndim == 2 else self.memory_mib[:, None]
        return np.broadcast_to(memory, self.fps.shape)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Return the groups in order of first use; an instance without groups has one, `default`."""
        return tuple(dict.fromkeys(self.group_of(model) for model in self.models))

    def group_of(self, model: str) -> str:
        """Return the group that `model` is a node of."""
        return self.groups.get(model, "default")

    def target(self, group: str) -> float:
        """Return the target of `group` in frames/s; 1 where none is set, so such groups share equally."""
        return self.targets.get(group, 1.0)

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Return M×D: supported, pinned there or not pinned, accurate enough, and fitting when alone."""
        allowed = (self.fps > 0) & (self.memory <= self.capacity_mib + 1e-9)
        if self.accuracy is not None and self.accuracy_floor is not None:
            allowed &= self.accuracy >= self.accuracy_floor[:, None]
        for row, model in enumerate(self.models):
            if model in self.pins:
                allowed[row] &= np.array([device in self.pins[model] for device in self.devices], dtype=bool)
        return allowed

    def replace(self, **changes: Any) -> Instance:
        """Return a validated copy with some fields changed."""
        return replace(self, **changes)


def _array(value: object, name: str, shapes: list[tuple[int, ...]], *, infinite: bool = False) -> FloatArray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInstanceError(f"{name} is not a table of numbers: {error}", field=name) from None
    if array.shape not in shapes:
        wanted = " or ".join("×".join(map(str, shape)) for shape in shapes)
        got = "×".join(map(str, array.shape)) or "a single number"
        raise InvalidInstanceError(f"{name} must be {wanted} (models×devices), not {got}", field=name)
    if np.isnan(array).any() or (array < 0).any() or (not infinite and np.isinf(array).any()):
        raise InvalidInstanceError(f"{name} holds a negative, infinite or missing number", field=name)
    array.flags.writeable = False
    return array


def _check_names(instance: Instance) -> None:
    for name, values in (("models", instance.models), ("devices", instance.devices)):
        if not values:
            raise InvalidInstanceError(f"{name} is empty: nothing to schedule", field=name)
        if len(set(values)) != len(values):
            twice = sorted({value for value in values if values.count(value) > 1})
            raise InvalidInstanceError(f"{name} names {', '.join(twice)} more than once", field=name)
    if (instance.weights <= 0).any():
        raise InvalidInstanceError("weights must be above 0 inferences per frame", field="weights")
    if instance.kappa is not None and (instance.kappa <= 0).any():
        raise InvalidInstanceError("kappa must be above 0", field="kappa")
    if instance.objective not in OBJECTIVES:
        raise InvalidInstanceError(
            f"objective {instance.objective!r} is not one of {', '.join(OBJECTIVES)}", field="objective"
        )
    models, devices = set(instance.models), set(instance.devices)
    _known(set(instance.pins), models, "pins", "model")
    _known(set(instance.groups), models, "groups", "model")
    _known(set(instance.hosts), devices, "hosts", "device")
    groups = set(instance.group_names)
    _known(set(instance.targets) | set(instance.priorities), groups, "targets", "group")
    if any(not 0 < target < np.inf for target in instance.targets.values()):
        raise InvalidInstanceError("a target FPS must be above 0", field="targets")
    if any(not 0 < rate < np.inf for rate in instance.links.values()):
        raise InvalidInstanceError("a link must carry more than 0 MiB/s", field="links")
    _check_hosts(instance, groups)
    for edge in instance.edges:
        nodes = {edge.target} if edge.source.startswith("host:") else {edge.source, edge.target}
        _known(nodes, models, "edges", "model")
        if not 0 <= edge.bytes_per_frame < np.inf:
            raise InvalidInstanceError("an edge must carry 0 or more bytes per frame", field="edges")


def _check_hosts(instance: Instance, groups: set[str]) -> None:
    if any(not 0 < cores < np.inf for cores in instance.cores.values()) or not 0 < instance.usable <= 1:
        raise InvalidInstanceError("a host has more than 0 cores, of which a part up to 1 is usable", field="cores")
    _known(set(instance.frame_cpu_ms), groups, "frame_cpu_ms", "group")
    for costs in instance.frame_cpu_ms.values():
        _array(list(costs.values()), "frame_cpu_ms", [(len(costs),)])


def _known(names: set[str], known: set[str], part: str, kind: str) -> None:
    unknown = sorted(names - known)
    if unknown:
        raise InvalidInstanceError(f"{part} names unknown {kind} {', '.join(unknown)}", field=part)


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
class HostTable:
    """Hosts' CPU cores: seconds of all usable cores of a host per frame (over target).

    `names` are H hosts, `host` D host numbers, `cpu` M×D seconds that a pair takes from its device's host (0: that host
    has no row), `fixed` G×H seconds that the groups' frames take whatever the placement.
    """

    names: tuple[str, ...]
    host: IntArray
    cpu: FloatArray
    fixed: FloatArray

    @staticmethod
    def of(instance: Instance) -> HostTable | None:
        """Return the rows of `instance`; None where no host has known cores and costs."""
        names, groups, costs = tuple(instance.cores), instance.group_names, instance.frame_cpu_ms
        cpu_ms = np.zeros(instance.fps.shape) if instance.cpu_ms is None else instance.cpu_ms
        if not names or not (cpu_ms.any() or costs):
            return None
        usable_ms = np.array([1e3 * instance.usable * instance.cores[host] for host in names])
        here = np.array([[instance.hosts.get(device) == host for device in instance.devices] for host in names])
        fixed = np.array([[costs.get(group, {}).get(host, 0.0) for host in names] for group in groups])
        factor = [1.0 if len(groups) == 1 else instance.target(group) for group in groups]
        cpu = cpu_ms * (instance.weights * demand(instance))[:, None] * (here / usable_ms[:, None]).sum(axis=0)
        return HostTable(names, here.argmax(axis=0), cpu, fixed * np.array(factor)[:, None] / usable_ms)

    @property
    def base(self) -> FloatArray:
        """Return the H sums of `fixed`."""
        return np.asarray(self.fixed.sum(axis=0), dtype=np.float64)

    def total(self, by_device: npt.ArrayLike) -> FloatArray:
        """Return H sums of D seconds (D: devices), by host."""
        return np.bincount(self.host, weights=by_device, minlength=len(self.names)).astype(np.float64)


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
    hosts: HostTable | None = None
    one_per_device: bool = False
    cpu: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Return M, D."""
        return self.cost.shape[0], self.cost.shape[1]

    @cached_property
    def tight(self) -> bool:
        """Whether memory can matter: some device cannot hold every model that it may run."""
        held = np.where(np.isfinite(self.cost), self.memory, 0.0).sum(axis=0)
        return bool((held > self.capacity + SLACK_MIB).any())

    @property
    def plain(self) -> bool:
        """Whether the cycle is a sum of costs per device: no links, no hosts' cores, no count-dependent slowdown."""
        return self.slowdown is None and self.links is None and self.hosts is None

    @property
    def resources(self) -> int:
        """Return how many rows the placement LP has for time: devices, then hosts."""
        return self.shape[1] + (len(self.hosts.names) if self.hosts is not None else 0)

    @staticmethod
    def of(instance: Instance) -> Problem:
        """Translate `instance`. Raises NoPlacementError naming each model that no device can run."""
        allowed = instance.allowed()
        rows, columns = allowed.shape
        lost = [row for row in range(rows) if not allowed[row].any()]
        if lost:
            reasons = {instance.models[row]: _why_unsupported(instance, row) for row in lost}
            text = "; ".join(f"{model}: {reason}" for model, reason in reasons.items())
            raise NoPlacementError(f"no device can run {text}", models=tuple(reasons), reasons=reasons)
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
            None if instance.objective == "paper" else HostTable.of(instance),
            instance.objective == "paper",
            tuple(column for column in range(columns) if instance.devices[column] in cpu),
        )


def demand(instance: Instance) -> FloatArray:
    """Return M factors on the cost: the target FPS of the node's group; 1 for a single group."""
    if len(instance.group_names) == 1:
        return np.ones(len(instance.models))
    return np.array([instance.target(instance.group_of(model)) for model in instance.models])


def _why_unsupported(instance: Instance, row: int) -> str:
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
