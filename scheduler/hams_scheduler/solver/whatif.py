"""What if there were one more device, one fewer, or a faster one? Answered from a matrix, without hardware. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hams_scheduler.solver.instance import Instance, InvalidInstanceError

EACH = "remove:each"
"""Not one change but a question for each device: see :mod:`hams_scheduler.solver.losses`."""
FORMS = "add:DEVICE, add:PROFILE.yaml, remove:DEVICE, scale:DEVICE=1.5, cores:HOST=8 or cores:HOST=+4"


def apply(instance: Instance, change: str, profiles: Mapping[str, Mapping[str, Any]] | None = None) -> Instance:
    """Return `instance` after one change.

    ``add:DEVICE`` adds a twin of a device that is there; ``add:PROFILE.yaml`` a device of the speeds in that profile,
    whose content is ``profiles[PROFILE.yaml]`` (`name`, `fps` by model or ``"*"``, and optionally `memory_mib`,
    `host_cpu_ms`, `host`); ``remove:DEVICE`` takes one away; ``scale:DEVICE=1.5`` makes one that much faster;
    ``cores:HOST=8`` gives a host so many CPU cores, ``cores:HOST=+4`` so many more. DEVICE is an id or its end, such as
    ``openvino.gpu`` or ``gpu``, where that names one device.

    Raises:
        InvalidInstanceError: the change is of none of these forms, or names a device that is not there.
    """
    verb, _, rest = change.partition(":")
    match verb:
        case "add" if profiles is not None and rest in profiles:
            return _profiled(instance, profiles[rest])
        case "add" if _found(instance, rest):
            return _twin(instance, instance.devices[_column(instance, rest)])
        case "add" if rest:
            raise InvalidInstanceError(
                f"there is no device {rest!r} to add another of; there are {', '.join(instance.devices)}; "
                "what is not there needs a profile: add:examples/profiles/gpu.yaml"
            )
        case "remove":
            return _remove(instance, _column(instance, rest))
        case "scale":
            device, _, factor = rest.partition("=")
            return _scale(instance, _column(instance, device), factor)
        case "cores":
            return _cores(instance, rest)
    raise InvalidInstanceError(f"what-if {change!r} is not {FORMS}; devices: {', '.join(instance.devices)}")


def max_streams(group_fps: float, stream_fps: float) -> int:
    """How many streams of `stream_fps` frames/s each a group that makes `group_fps` frames/s carries."""
    if not stream_fps > 0:
        raise InvalidInstanceError(f"a stream has more than 0 frames/s, not {stream_fps:g}")
    return int(group_fps / stream_fps * (1 + 1e-9))


def _found(instance: Instance, device: str) -> list[str]:
    """Devices of that id, else those whose ids end in it."""
    if device in instance.devices:
        return [device]
    return [one for one in instance.devices if device and one.endswith(f".{device}")]


def _column(instance: Instance, device: str) -> int:
    found = _found(instance, device)
    if len(found) > 1:
        raise InvalidInstanceError(f"{device!r} may be {' or '.join(found)}: name one")
    if not found:
        raise InvalidInstanceError(f"there is no device {device!r}; there are {', '.join(instance.devices)}")
    return instance.devices.index(found[0])


def _free_name(instance: Instance, name: str) -> str:
    number = 2
    while f"{name}-{number}" in instance.devices:
        number += 1
    return name if name not in instance.devices else f"{name}-{number}"


def _twin(instance: Instance, device: str) -> Instance:
    column = _column(instance, device)
    hosts = dict(instance.hosts)
    name = _free_name(instance, device)
    if device in hosts:
        hosts[name] = hosts[device]
    columns = [*range(len(instance.devices)), column]
    return _columns(instance, columns, (*instance.devices, name), hosts)


def _profiled(instance: Instance, profile: Mapping[str, Any]) -> Instance:
    speeds = profile.get("fps")
    if not isinstance(speeds, Mapping) or not profile.get("name"):
        raise InvalidInstanceError("a device profile has a name and fps by model")
    fps = [float(speeds.get(model, speeds.get("*", 0.0))) for model in instance.models]
    added = _twin(instance, instance.devices[0])
    name = _free_name(instance, str(profile["name"]))
    capacity = added.capacity_mib.copy()
    capacity[-1] = float(profile.get("memory_mib") or np.inf)
    table = added.fps.copy()
    table[:, -1] = fps
    kappa = None if added.kappa is None else added.kappa.copy()
    if kappa is not None:
        kappa[-1] = 1.0
    cpu_ms = np.zeros(table.shape) if added.cpu_ms is None else added.cpu_ms.copy()
    cpu_ms[:, -1] = float(profile.get("host_cpu_ms") or 0.0)
    hosts = dict(instance.hosts) | ({name: str(profile["host"])} if profile.get("host") else {})
    return added.replace(
        devices=(*instance.devices, name),
        fps=table,
        capacity_mib=capacity,
        kappa=kappa,
        hosts=hosts,
        cpu_ms=cpu_ms if cpu_ms.any() else None,
    )


def _remove(instance: Instance, column: int) -> Instance:
    if len(instance.devices) == 1:
        raise InvalidInstanceError("the only device cannot be removed")
    left = [c for c in range(len(instance.devices)) if c != column]
    names = tuple(instance.devices[c] for c in left)
    return _columns(instance, left, names, {d: h for d, h in instance.hosts.items() if d in names})


def _scale(instance: Instance, column: int, factor: str) -> Instance:
    try:
        by = float(factor)
    except ValueError:
        raise InvalidInstanceError(f"scale needs a number, as in scale:DEVICE=1.5, not {factor!r}") from None
    if not 0 < by < float("inf"):
        raise InvalidInstanceError(f"scale needs a number above 0, not {factor}")
    fps = instance.fps.copy()
    fps[:, column] *= by
    return instance.replace(fps=fps)


def _cores(instance: Instance, rest: str) -> Instance:
    host, _, number = rest.partition("=")
    if host not in instance.cores:
        known = f"there are {', '.join(instance.cores)}" if instance.cores else "the instance has no cores"
        raise InvalidInstanceError(f"the cores of host {host!r} are not known; {known}")
    try:
        cores = float(number) + (instance.cores[host] if number.startswith("+") else 0.0)
    except ValueError:
        raise InvalidInstanceError(f"cores needs a number, as in cores:HOST=8 or +4, not {number!r}") from None
    return instance.replace(cores={**instance.cores, host: cores})


def only_groups(instance: Instance, names: list[str]) -> Instance | None:
    """Return the instance with these groups alone; None without any."""
    rows = [row for row, model in enumerate(instance.models) if instance.group_of(model) in names]
    if not rows:
        return None
    models = tuple(instance.models[row] for row in rows)
    memory = instance.memory_mib[rows]
    return instance.replace(
        models=models,
        fps=instance.fps[rows],
        weights=instance.weights[rows],
        memory_mib=memory,
        accuracy=None if instance.accuracy is None else instance.accuracy[rows],
        accuracy_floor=None if instance.accuracy_floor is None else instance.accuracy_floor[rows],
        cpu_ms=None if instance.cpu_ms is None else instance.cpu_ms[rows],
        pins={node: places for node, places in instance.pins.items() if node in models},
        groups={node: group for node, group in instance.groups.items() if node in models},
        targets={name: target for name, target in instance.targets.items() if name in names},
        priorities={name: level for name, level in instance.priorities.items() if name in names},
        frame_cpu_ms={name: costs for name, costs in instance.frame_cpu_ms.items() if name in names},
        edges=tuple(e for e in instance.edges if e.target in models and (e.source in models or ":" in e.source)),
    )


def _columns(instance: Instance, columns: list[int], names: tuple[str, ...], hosts: dict[str, str]) -> Instance:
    """The instance with these columns, under these names."""
    memory = instance.memory_mib if instance.memory_mib.ndim == 1 else instance.memory_mib[:, columns]
    return instance.replace(
        devices=names,
        fps=instance.fps[:, columns],
        memory_mib=memory,
        capacity_mib=instance.capacity_mib[columns],
        kappa=None if instance.kappa is None else instance.kappa[columns],
        accuracy=None if instance.accuracy is None else instance.accuracy[:, columns],
        cpu_ms=None if instance.cpu_ms is None else instance.cpu_ms[:, columns],
        hosts=hosts,
        pins=instance.pins,  # one may name a device that is gone: then its node runs nowhere, as when it is lost
    )
