"""Opens the backend that a device name asks for. Each runtime is imported only by the agents that use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hams_agents import backend_types
from hams_agents.backends.apart import ApartBackend, model_of
from hams_agents.backends.base import Backend, BackendType
from hams_agents.backends.further import examples
from hams_agents.backends.guard import GuardedBackend
from hams_agents.backends.network import noise
from hams_agents.backends.trial import trusted
from hams_agents.devices import DeviceSpec, parse, pin
from hams_agents.faults import FAULTS, fault
from hams_shared.errors import DeviceSpecError, HamsError


def open_backend(spec: DeviceSpec, cache: Path | None = None) -> Backend:
    """Open the device; pin the process first (:func:`hams_agents.devices.pin`).

    In the folder `cache` it may keep files; without one it keeps none.

    Raises:
        DeviceSpecError: the device's runtime is not installed, or finds no such device on this host.
    """
    backend = _open(spec, cache)
    able = backend.capabilities
    foreign = cache is not None and able.kind == "cpu" and backend_types.is_built_in(spec.backend) and not trusted()
    return ApartBackend(backend, spec, cache) if able.compile_apart or foreign else backend


def _open(spec: DeviceSpec, cache: Path | None) -> Backend:
    found: type[BackendType] = backend_types.find(spec.backend)
    origin = found.__module__.partition(".")[0]
    try:
        backend = found.open(spec, cache)
        if backend_types.is_built_in(spec.backend):
            return backend
        return GuardedBackend(backend, spec.backend, origin)
    except HamsError:
        raise
    except ImportError as error:
        raise DeviceSpecError(
            f"device {spec}: {spec.backend} cannot be imported: {' '.join(str(error).split())}",
            "install it, or leave this device out",
        ) from error
    except FAULTS as error:
        hint = "the error is in the backend's own code"
        raise DeviceSpecError(f"device {spec} cannot be opened: {fault(error, origin)}", hint) from error


def load_once(device: str, model: dict[str, Any]) -> None:
    """Compile a model and run it once, in a process of its own; see :mod:`hams_agents.backends.apart`.

    Raises:
        DeviceSpecError: the device does not open.
        ModelError: the model does not load or run there.
    """
    spec = parse(device)
    pin(spec.cores)
    backend = _open(spec, None)
    file = model_of(model)
    network = backend.load(file)
    network.infer(noise(file, 1), further=examples(file, 1))
    network.close()
    backend.close()
