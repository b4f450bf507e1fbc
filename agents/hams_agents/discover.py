"""Finds the devices of this host.

It loads every runtime to ask it, so others call :func:`describe_devices` in a child process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hams_agents import backend_types
from hams_agents.backends.base import BackendType
from hams_agents.backends.registry import open_backend
from hams_agents.cpus import here
from hams_agents.devices import parse
from hams_agents.faults import FAULTS, fault
from hams_shared.errors import DeviceSpecError, HamsError
from hams_shared.runtime.child_process import ChildProcess

CPU = "CPU"
"""The target that drives the host's processor, in all backends."""
OPEN_S = 60.0
"""Longest time for a device to open, s."""


@dataclass(frozen=True)
class Found:
    """A device that opens here."""

    device: str
    """The name to start an agent with."""
    kind: str
    name: str
    memory_mib: int
    runtime: str
    note: str = ""
    """What people should know of it: that it never ran on real hardware, for example."""


@dataclass(frozen=True)
class Skipped:
    """A device that does not open, and why."""

    device: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Discovery:
    """The devices of this host."""

    found: tuple[Found, ...]
    skipped: tuple[Skipped, ...]
    cores: str = ""
    """The part of the host's CPU that this process may use, for people."""
    spare: tuple[Found, ...] = ()
    """Devices that are the host's CPU once more, by another runtime."""


def discover() -> Discovery:
    """Open every device this host may have, of all installed backends; the CPU once, with the first that has it.

    A driver may abort: devices other than CPUs are opened in a process of their own each, plug-ins altogether so.
    """
    found: list[Found] = []
    skipped = [Skipped(name, why, "rename it, or remove the package") for name, why in backend_types.ignored().items()]
    spare: list[Found] = []
    for backend in backend_types.names():
        if backend_types.is_built_in(backend):
            one = of_backend(backend)
        else:
            one = _apart("describe_backend", {"backend": backend}, backend)
        skipped += one.skipped
        for device in one.found:
            (spare if device.kind == "cpu" and any(f.kind == "cpu" for f in found) else found).append(device)
    return Discovery(tuple(found), tuple(skipped), str(here()), tuple(spare))


def of_backend(backend: str) -> Discovery:
    """Return the devices of one backend."""
    found: list[Found] = []
    skipped: list[Skipped] = []
    for target in _targets(backend, skipped):
        name = f"{backend}:{target}"
        if backend_types.is_built_in(backend) and target != CPU:
            one = _apart("describe_device", {"name": name}, name)
            found += one.found
            skipped += one.skipped
            continue
        try:
            found.append(_open(name))
        except HamsError as error:
            skipped.append(Skipped(name, error.text, error.hint))
    return Discovery(tuple(found), tuple(skipped))


def _apart(function: str, arguments: dict[str, str], name: str) -> Discovery:
    try:
        with ChildProcess(blame=DeviceSpecError) as child:
            answer = child.run(f"hams_agents.discover:{function}", arguments, what=name, timeout=OPEN_S)
    except HamsError as error:
        return Discovery((), (Skipped(name, error.text, error.hint),))
    return Discovery(tuple(Found(**one) for one in answer["found"]), tuple(Skipped(**one) for one in answer["skipped"]))


def describe_backend(backend: str) -> dict[str, Any]:
    """Return :func:`of_backend` as plain values, as :func:`describe_devices`."""
    return asdict(of_backend(backend))


def describe_device(name: str) -> dict[str, Any]:
    """Return the device `name` as plain values. Raises DeviceSpecError: it does not open."""
    return asdict(Discovery((_open(name),), ()))


def describe_devices() -> dict[str, Any]:
    """Return :func:`discover` as plain values::

    {"found": [{"device": "openvino:CPU", "kind": "cpu", "name": "…", "memory_mib": 16000, "runtime": "…",
                "note": ""}],
     "skipped": [{"device": "onnxruntime:CUDA:0", "reason": "…", "hint": "…"}],
     "spare": [], as "found"
     "cores": "2 of 16 cores (cgroup quota)"}
    """
    return asdict(discover())


def _targets(backend: str, skipped: list[Skipped]) -> Sequence[str]:
    try:
        found: type[BackendType] = backend_types.find(backend)
    except DeviceSpecError as error:
        skipped.append(Skipped(backend, error.text, error.hint))
        return ()
    try:
        return [str(target) for target in found.targets()]
    except DeviceSpecError as error:
        skipped.append(Skipped(backend, error.text, error.hint))
    except ImportError as error:
        skipped.append(Skipped(backend, f"cannot be imported: {error}", "install it"))
    except FAULTS as error:
        text = fault(error, found.__module__.partition(".")[0])
        skipped.append(Skipped(backend, f"cannot be asked for its devices: {text}", "the error is in its own code"))
    return ()


def _open(name: str) -> Found:
    spec = parse(name)
    backend = open_backend(spec)
    able = backend.capabilities
    backend.close()
    note = str(getattr(backend_types.find(spec.backend), "note", ""))
    return Found(name, able.kind, able.name, able.memory_mib, able.runtime, note)
