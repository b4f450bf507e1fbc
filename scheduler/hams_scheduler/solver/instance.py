"""What is to be scheduled: the FPS matrix of models and devices with every constraint, validated once.

An `Instance` speaks in names and FPS, as profiles and the offline JSON file do; `problem.Problem` is the same thing
in numbers, as the strategies want it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
OBJECTIVES = ("hams", "paper")


class InvalidInstanceError(ValueError):
    """The instance contradicts itself; `field` names the part that is wrong."""

    def __init__(self, text: str, *, field: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.field = field


class InfeasibleError(ValueError):
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
        if self.accuracy is not None:
            put(self, "accuracy", _array(self.accuracy, "accuracy", [(m, d)]))
        if self.accuracy_floor is not None:
            put(self, "accuracy_floor", _array(self.accuracy_floor, "accuracy_floor", [(m,)]))
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
        """Return a copy with some fields changed, validated again."""
        return replace(self, **changes)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Instance:
        """Read the offline JSON format (see `instance_json`). Raises InvalidInstanceError."""
        from hams_scheduler.solver.instance_json import read

        return read(data)

    def to_dict(self) -> dict[str, Any]:
        """Return the offline JSON format; `from_dict` reads it back."""
        from hams_scheduler.solver.instance_json import write

        return write(self)


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
        twice = sorted({value for value in values if values.count(value) > 1}) if _repeats(values) else []
        if twice:
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
    for edge in instance.edges:
        nodes = {edge.target} if edge.source.startswith("host:") else {edge.source, edge.target}
        _known(nodes, models, "edges", "model")
        if not 0 <= edge.bytes_per_frame < np.inf:
            raise InvalidInstanceError("an edge must carry 0 or more bytes per frame", field="edges")


def _repeats(values: tuple[str, ...]) -> bool:
    return len(set(values)) != len(values)


def _known(names: set[str], known: set[str], part: str, kind: str) -> None:
    unknown = sorted(names - known)
    if unknown:
        raise InvalidInstanceError(f"{part} names unknown {kind} {', '.join(unknown)}", field=part)
