"""Plug-in execution providers of ONNX Runtime: one device of any of them, chosen by name and place.

A provider is registered from its wheel's library and then asked for its devices. Sessions get the device itself
(``add_provider_for_devices``): named in ``providers=``, such a provider falls back to the CPU with no more than a
warning. ONNX Runtime refuses a session of which a part would run on the CPU (``disable_cpu_ep_fallback``).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import onnxruntime as ort

from hams_agents.backends import ep_libraries, host
from hams_agents.backends.base import ModelFile
from hams_agents.backends.ep_libraries import SUFFIX, Library
from hams_agents.backends.network import one_line
from hams_agents.faults import FAULTS, fault
from hams_shared.errors import DeviceSpecError, UnsupportedModelError

REQUESTS = 2
"""Inferences at a time on a GPU or NPU: while the input of one is copied, another computes. ONNX Runtime serialises
them where the provider cannot."""
_OPTIONS: dict[str, dict[str, dict[str, str]]] = {
    # Without it, no device has a default; on x86 the library simulates the NPU.
    "QNN": {"cpu": {"backend_type": "htp"}, "npu": {"backend_type": "htp"}, "gpu": {"backend_type": "gpu"}},
}
"""By provider and kind: settings without which a device computes nothing."""
_HALF = {("QNN", "npu"), ("OpenVINO", "npu"), ("OpenVINO", "gpu")}
"""Devices that compute in 16 bits by themselves."""
_FALLBACK = "fallback to CPU EP has been explicitly disabled"


def count(name: str) -> int:
    """Return how many devices the provider `name` finds here, at least one. Raises as :func:`devices`."""
    return len(devices(ep_libraries.installed()[name.lower()]))


def devices(library: Library) -> list[Any]:
    """Register the provider, and return its devices (``OrtEpDevice``), at least one.

    Raises:
        DeviceSpecError: its library cannot be loaded, or it finds no device here.
    """
    register(library)
    found = [one for one in ort.get_ep_devices() if one.ep_name == library.provider]
    found = [one for one in found if not one.ep_metadata.get("ov_meta_device")]  # AUTO, HETERO: several in one
    if not found:
        raise DeviceSpecError(
            f"{library.provider} of {library.wheel} finds no device that it supports on this host",
            "install the device's driver, or remove the wheel",
        )
    return found


def register(library: Library) -> None:
    """Load the provider's library into ONNX Runtime, once per process.

    Raises:
        DeviceSpecError: that fails; the text is the system's reason.
    """
    try:
        helper = importlib.import_module(library.module)
        path = str(helper.get_library_path())
    except FAULTS as error:
        text = fault(error, library.module)
        raise DeviceSpecError(
            f"{library.wheel} cannot be imported: {text}", "install it again, or remove it"
        ) from error
    ort.set_default_logger_severity(4)
    try:
        ort.register_execution_provider_library(library.provider, path)
    except Exception as error:
        if "already registered" not in str(error):
            raise DeviceSpecError(
                f"{library.provider} of {library.wheel} cannot be loaded: {one_line(error)}",
                "install what it lacks (a driver?), or remove the wheel",
            ) from error


def find(target: str) -> PluginUnit:
    """Return the device ``NAME:INDEX``.

    Raises:
        DeviceSpecError: there is none; the text lists those that are.
    """
    name, _, index = target.partition(":")
    library = ep_libraries.installed().get(name.lower())
    if library is None:
        raise DeviceSpecError(
            f"no wheel with the execution provider {name}{SUFFIX} is installed", "see docs/backends.md"
        )
    found = devices(library)
    if int(index or 0) >= len(found):
        listed = ", ".join(f"{library.name}:{i} is {describe(one)}" for i, one in enumerate(found))
        raise DeviceSpecError(f"{library.provider} has no device {index}", listed)
    return PluginUnit(found[int(index or 0)], library)


def describe(device: Any) -> str:
    """Return the name of a device for people: its own where the system gives one, else maker and kind."""
    known = {**device.device.metadata, **device.ep_metadata}
    own = known.get("Description") or known.get("FULL_DEVICE_NAME")
    kind = device.device.type.name
    if not own:
        own = host.cpu_name() if kind == "CPU" else f"{device.device.vendor or device.ep_vendor} {kind}"
    place = known.get("ov_device", "")
    return f"{own} ({place})" if place else own


class PluginUnit:
    """One device of a plug-in provider; see :class:`hams_agents.backends.onnxruntime.Unit`.

    `library` is None for a provider that is part of ONNX Runtime.
    """

    static = True
    apart = True

    def __init__(self, device: Any, library: Library | None = None) -> None:
        self._device = device
        self.provider = str(device.ep_name)
        short = self.provider.removesuffix(SUFFIX)
        self.kind = str(device.device.type.name).lower()
        simulated = " (simulates an NPU)" if (short, self.kind) == ("QNN", "cpu") else ""
        self.name = f"{describe(device)}, {short}{simulated}"
        self.precision = "fp16" if (short, self.kind) in _HALF else "fp32"
        self.requests = 1 if self.kind == "cpu" else REQUESTS
        self.batches = self.kind == "gpu"
        self.runtime = _runtime(device, library)
        self._options = _OPTIONS.get(short, {}).get(self.kind, {})
        self._own_cpu = self.provider == "CPUExecutionProvider"

    def memory_mib(self) -> tuple[float, float] | None:
        """Return used and total memory, MiB; providers report none."""
        return None

    def open(self, model: ModelFile, options: Any, sizes: Mapping[str, int]) -> Any:
        """Open a session of which all runs on the device; `sizes` fix the free sizes of its input, by name.

        Raises:
            UnsupportedModelError: a part would run on the CPU; the text names its operators.
            Exception: of ONNX Runtime: it cannot read or compile the model.
        """
        for name, size in sizes.items():
            options.add_free_dimension_override_by_name(name, size)
        options.add_provider_for_devices([self._device], self._options)
        if self._own_cpu:
            return self._checked(model, ort.InferenceSession(str(model.path), options, enable_fallback=0))
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = ort.InferenceSession(str(model.path), options, enable_fallback=0)
        except Exception as error:
            if _FALLBACK not in str(error):
                raise
            raise self._refused(model, self._left_over(model, options)) from error
        return self._checked(model, session)

    def _checked(self, model: ModelFile, session: Any) -> Any:
        if self.provider not in session.get_providers():
            raise self._refused(model, "")
        return session

    def _left_over(self, model: ModelFile, options: Any) -> str:
        """Return the operators that the provider leaves to the CPU: it says so only of a session that may."""
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            session = ort.InferenceSession(str(model.path), options, enable_fallback=0)
            parts = session.get_provider_graph_assignment_info()
        except Exception:  # the refusal is known already
            return ""
        operators = {node.op_type for part in parts if part.ep_name != self.provider for node in part.get_nodes()}
        return ", ".join(sorted(operators))

    def _refused(self, model: ModelFile, operators: str) -> UnsupportedModelError:
        what = operators or "parts of it"
        return UnsupportedModelError(
            f"model {model.name}: {self.provider} leaves {what} to the CPU, which would not be this device",
            "use another device for it, or export it without them",
        )


def _runtime(device: Any, library: Library | None) -> str:
    """Return the versions that a measurement depends on: ONNX Runtime's, the provider's, the driver's."""
    known = device.ep_metadata
    provider = library.wheel.removeprefix("onnxruntime-") if library else device.ep_name
    parts = [
        f"onnxruntime {ort.__version__}",
        provider if library else f"{provider} {known.get('version', '')}".strip(),
    ]
    driver = known.get("os_driver_version", "")
    return ", ".join([*parts, f"driver {driver}"] if driver else parts)
