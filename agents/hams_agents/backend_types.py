"""Backends by name: our own, and those that other packages offer as entry points of the group ``hams.backends``.

A backend is an entry point ``NAME = module:Class``; what the class offers is
:class:`hams_agents.backends.base.BackendType`. It is loaded when a device name asks for it, so that a broken plug-in
affects no other device, and before the process is pinned to cores, so that its module must not import its runtime.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hams_agents.faults import FAULTS, fault
from hams_shared.errors import DeviceSpecError, HamsError
from hams_shared.wire import subjects

ENTRY_POINTS = "hams.backends"

BUILT_IN = tuple(
    EntryPoint(name, f"hams_agents.backends.{value}", ENTRY_POINTS)
    for name, value in (
        ("openvino", "built_in:OpenVino"),
        ("onnxruntime", "built_in:OnnxRuntime"),
        ("emulated", "built_in:Emulated"),
        ("litert", "litert:LiteRt"),
        ("hailo", "hailo:Hailo"),
        ("rknn", "rknn:Rknn"),
        ("memryx", "memryx:Memryx"),
    )
)
"""In the order in which devices are discovered and listed."""

_UNIT = "it returns (target, unit) with a unit of lower-case letters, digits, - and _"
_NEEDS = ("parse", "targets", "open")
EXAMPLES = "for example openvino:CPU@0, onnxruntime:CUDA:0, openvino:GPU or emulated:PROFILE.yaml"


def names() -> tuple[str, ...]:
    """Return the names of the installed backends: our own, then those of other packages in alphabetical order."""
    built_in = [point.name for point in BUILT_IN]
    return (*built_in, *sorted({point.name.lower() for point in entry_points(group=ENTRY_POINTS)} - {*built_in}))


def is_built_in(name: str) -> bool:
    """Return whether the backend called `name` is ours."""
    return any(point.name == name for point in BUILT_IN)


def find(name: str) -> Any:
    """Return the backend called `name`, a class as :class:`hams_agents.backends.base.BackendType` states.

    Raises:
        DeviceSpecError: there is none, or the package that offers it is broken; the text names the package.
    """
    built_in = next((point for point in BUILT_IN if point.name == name), None)
    if built_in is not None:
        return built_in.load()
    offered = _offered(name)
    if not offered:
        raise DeviceSpecError(f"no backend {name!r} is installed", f"installed are {', '.join(names())}; {EXAMPLES}")
    if len(offered) > 1:
        raise DeviceSpecError(f"backend {name} is offered more than once: {_origin(offered)}", "remove all but one")
    return _load(next(iter(offered.values())))


def parse(name: str, target: str) -> tuple[str, str]:
    """Return a target of the backend `name` as its runtime writes it, and its unit.

    Raises:
        DeviceSpecError: see :func:`find`; there is no such target, or the plug-in failed on it.
    """
    cls = find(name)
    try:
        written, unit = cls.parse(target)
    except HamsError:
        raise
    except FAULTS as error:
        text = fault(error, cls.__module__.partition(".")[0])
        raise DeviceSpecError(
            f"backend {name} cannot read {target!r}: {text}", "the error is in its own code"
        ) from error
    if not isinstance(written, str) or not isinstance(unit, str) or subjects.token(unit) != unit:
        raise DeviceSpecError(f"backend {name} gives {target!r} the unit {unit!r}, which is no subject token", _UNIT)
    return written, unit


def ignored() -> dict[str, str]:
    """Return, by name, why plug-ins are not used that have the name of one of ours."""
    found = {point.name: _offered(point.name) for point in BUILT_IN}
    return {
        name: f"plug-in {_origin(points)} has the name of HAMS's own backend"
        for name, points in found.items()
        if points
    }


def _offered(name: str) -> dict[str, EntryPoint]:
    return {point.value: point for point in entry_points(group=ENTRY_POINTS) if point.name.lower() == name}


def _load(point: EntryPoint) -> Any:
    origin = f"plug-in {_origin({point.value: point})} of backend {point.name}"
    try:
        cls = point.load()
    except FAULTS as error:
        text = fault(error, point.value.partition(":")[0].partition(".")[0])
        raise DeviceSpecError(f"{origin} cannot be loaded: {text}", "repair or remove the package") from error
    if missing(cls):
        raise DeviceSpecError(f"{origin} is no backend: it has no {', no '.join(missing(cls))}", "see docs/backends.md")
    return cls


def missing(cls: Any) -> list[str]:
    """Return which methods of a backend a class lacks."""
    return [name for name in _NEEDS if not callable(getattr(cls, name, None))]


def _origin(points: dict[str, EntryPoint]) -> str:
    return ", ".join(f"{value} ({p.dist.name if p.dist else 'unknown package'})" for value, p in points.items())
