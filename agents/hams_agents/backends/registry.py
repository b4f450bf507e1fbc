"""Opens the backend that a device name asks for. Each runtime is imported only by the agents that use it."""

from __future__ import annotations

from pathlib import Path

from hams_agents.backends.base import Backend
from hams_agents.devices import DeviceSpec
from hams_shared.errors import DeviceSpecError


def open_backend(spec: DeviceSpec, records: Path | None = None) -> Backend:
    """Open the device; pin the process first (:func:`hams_agents.devices.pin`).

    An emulated device records its outputs in the folder `records` and replays them; without one it computes them.

    Raises:
        DeviceSpecError: the device's runtime is not installed, or finds no such device on this host.
    """
    try:
        match spec.backend:
            case "openvino":
                from hams_agents.backends.openvino import OpenVinoBackend

                return OpenVinoBackend(spec)
            case "onnxruntime":
                from hams_agents.backends.onnxruntime import OnnxRuntimeBackend

                return OnnxRuntimeBackend(spec)
            case "emulated":
                from hams_agents.backends.emulated import EmulatedBackend

                return EmulatedBackend(spec, open_backend, records)
    except ImportError as error:
        raise DeviceSpecError(
            f"device {spec}: {spec.backend} cannot be imported: {' '.join(str(error).split())}",
            "install it, or leave this device out",
        ) from error
    raise DeviceSpecError(f"device {spec}: no backend {spec.backend!r}")
