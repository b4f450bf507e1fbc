"""The offline JSON format of an instance: what `hams-ctl plan --instance FILE` reads.

Required: `models`, `devices`, `fps` (rows models; 0 or null: unsupported). Optional: `weights`, `memory_mib`,
`capacity_mib` (null: no limit), `pins` {node: [devices]}, `groups` {group: {"nodes": [...], "target_fps": x,
"priority": n}}, `kappa`, `hosts` {device: host}, `links` [{"a", "b", "mib_per_s"}], `edges` [{"from", "to",
"bytes_per_frame"}], `accuracy`, `accuracy_floor`, `objective`. Hosts' CPU cores: `cores` {host: number}, `cpu_ms`
(rows models, ms of CPU time per inference; or {stage: rows}), `frame_cpu_ms` {group: {host: ms per frame, or {stage:
ms}}} (`default` where there are no groups), `usable` (part of the cores, 0.95). Other keys (`name` …) are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hams_scheduler.solver.instance import USABLE_SHARE, Edge, FloatArray, Instance, InvalidInstanceError


def read(data: Mapping[str, Any]) -> Instance:
    """Return the instance that `data` describes. Raises InvalidInstanceError naming the wrong field."""
    if not isinstance(data, Mapping):
        raise InvalidInstanceError("an instance is a JSON object with models, devices and fps")
    missing = [key for key in ("models", "devices", "fps") if data.get(key) is None]
    if missing:
        raise InvalidInstanceError(f"the instance lacks {', '.join(missing)}", field=missing[0])
    try:
        return _read(data)
    except InvalidInstanceError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidInstanceError(f"the instance is malformed: {error!r}") from None


def _read(data: Mapping[str, Any]) -> Instance:
    groups: dict[str, str] = {}
    targets: dict[str, float] = {}
    priorities: dict[str, int] = {}
    for name, group in (data.get("groups") or {}).items():
        for node in group["nodes"]:
            if node in groups:
                raise InvalidInstanceError(f"node {node} is in two groups", field="groups")
            groups[node] = name
        if group.get("target_fps") is not None:
            targets[name] = float(group["target_fps"])
        if group.get("priority") is not None:
            priorities[name] = int(group["priority"])
    return Instance(
        models=_names(data["models"], "models"),
        devices=_names(data["devices"], "devices"),
        fps=_table(data["fps"], 0.0),
        weights=_table(data.get("weights"), 1.0),
        memory_mib=_table(data.get("memory_mib"), 0.0),
        capacity_mib=_table(data.get("capacity_mib"), np.inf),
        pins={node: frozenset(devices) for node, devices in (data.get("pins") or {}).items()},
        groups=groups,
        targets=targets,
        priorities=priorities,
        kappa=None if data.get("kappa") is None else _table(data["kappa"], 1.0),
        hosts=dict(data.get("hosts") or {}),
        links={(link["a"], link["b"]): float(link["mib_per_s"]) for link in data.get("links") or []},
        edges=tuple(Edge(edge["from"], edge["to"], float(edge["bytes_per_frame"])) for edge in data.get("edges") or []),
        accuracy=None if data.get("accuracy") is None else _table(data["accuracy"], 0.0),
        accuracy_floor=None if data.get("accuracy_floor") is None else _table(data["accuracy_floor"], 0.0),
        objective=data.get("objective") or "hams",
        cores={host: float(cores) for host, cores in (data.get("cores") or {}).items()},
        cpu_ms=_stages(data.get("cpu_ms")),
        frame_cpu_ms={
            group: {host: float(sum(_parts(ms))) for host, ms in costs.items()}
            for group, costs in (data.get("frame_cpu_ms") or {}).items()
        },
        usable=float(data.get("usable") or USABLE_SHARE),
    )


def _names(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise InvalidInstanceError(f"{name} must be a list of names", field=name)
    return tuple(value)


def _parts(value: Any) -> list[Any]:
    """The stages of a cost, or the cost itself."""
    return list(value.values()) if isinstance(value, Mapping) else [value]


def _stages(value: Any) -> FloatArray | None:
    """Return the sum of the stages' tables; null is 0 ms, as for pairs that are unsupported."""
    if value is None:
        return None
    tables = [_table(part, 0.0) for part in _parts(value)]
    if len({table.shape for table in tables}) != 1:
        raise InvalidInstanceError("the stages of cpu_ms need tables of one size", field="cpu_ms")
    return np.asarray(np.sum(tables, axis=0), dtype=np.float64)


def _table(value: Any, null: float) -> FloatArray:
    """Return numbers as an array with `null` for each null; an absent value gives an empty array."""

    def fill(item: Any) -> Any:
        if isinstance(item, list | tuple):
            return [fill(part) for part in item]
        return null if item is None else item

    if value is None:
        return np.zeros(0)
    return np.array(fill(value), dtype=np.float64)
