"""Guards a device of a plug-in: what its code raises, or returns wrongly, is an error that names it."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_agents.backends.base import Backend, Capabilities, ModelFile, Network
from hams_agents.faults import FAULTS, fault
from hams_shared.errors import DeviceSpecError, HamsError, ModelError

log = logging.getLogger("hams.agent")

_KINDS = ("cpu", "gpu", "npu", "vpu")
_HINT = "the error is in the backend's own package"


class GuardedBackend:
    """A backend of another package; see :class:`hams_agents.backends.base.Backend`.

    Raises:
        DeviceSpecError: its capabilities are not what HAMS can advertise.
    """

    def __init__(self, backend: Backend, name: str, origin: str) -> None:
        self._backend = backend
        self._name = name
        self._origin = origin
        self._capabilities = checked_capabilities(backend, name)

    @property
    def capabilities(self) -> Capabilities:
        """The device's properties."""
        return self._capabilities

    def load(self, model: ModelFile) -> Network:
        """See :meth:`hams_agents.backends.base.Backend.load`."""
        try:
            return GuardedNetwork(self._backend.load(model), model.name, self._name, self._origin)
        except HamsError:
            raise
        except FAULTS as error:
            text = fault(error, self._origin)
            raise ModelError(f"model {model.name}: backend {self._name} raised {text} on loading", _HINT) from error

    def close(self) -> None:
        """Release the device."""
        self._backend.close()


class GuardedNetwork:
    """A network of another package, closed when nobody has it any more; see
    :class:`hams_agents.backends.base.Network`."""

    def __init__(self, network: Network, model: str, name: str, origin: str) -> None:
        self._network = network
        self._dropped = weakref.finalize(self, _close, network, f"model {model}: backend {name}")
        self._dropped.atexit = False
        self._model = model
        self._name = name
        self._origin = origin

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") or key == "_network":
            raise AttributeError(key)
        return getattr(self._network, key)

    def infer(self, batch: NDArray[np.generic], **options: Any) -> Mapping[str, NDArray[np.generic]]:
        """See :meth:`hams_agents.backends.base.Network.infer`."""
        try:
            outputs = self._network.infer(batch, **options)
        except HamsError:
            raise
        except FAULTS as error:
            text = fault(error, self._origin)
            raise ModelError(f"model {self._model}: backend {self._name} raised {text}", _HINT) from error
        wrong = wrong_outputs(outputs, len(batch))
        if wrong:
            raise ModelError(f"model {self._model}: backend {self._name} {wrong}", _HINT)
        return outputs

    def close(self) -> None:
        """Release the network's memory."""
        if self._dropped.detach() is not None:
            self._network.close()


def _close(network: Network, whose: str) -> None:
    """Close a network that was dropped; nobody waits for the answer."""
    try:
        network.close()
    except FAULTS as error:
        log.warning("%s cannot be closed: %s: %s", whose, type(error).__name__, error)


def wrong_outputs(outputs: object, images: int) -> str:
    """Return what is wrong with the outputs of so many images; empty: nothing."""
    if not isinstance(outputs, Mapping) or not outputs:
        return f"gave {type(outputs).__name__} instead of outputs by name"
    for name, value in outputs.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            return f"gave output {name!r} as {type(value).__name__} instead of an array of numbers"
        if value.ndim == 0 or len(value) != images:
            shape = "×".join(map(str, value.shape)) or "a scalar"
            return f"gave output {name!r} as {shape}, not with {images} images first"
    return ""


def checked_capabilities(backend: Backend, name: str) -> Capabilities:
    """Return the capabilities of a backend called `name`. Raises DeviceSpecError: they are wrong."""
    able: object = backend.capabilities
    wrong = ""
    if not isinstance(able, Capabilities):
        wrong = f"are {type(able).__name__}, not Capabilities"
    elif able.backend != name:
        wrong = f"state the backend {able.backend!r}"
    elif able.kind not in _KINDS:
        wrong = f"state the kind {able.kind!r}: one of {', '.join(_KINDS)}"
    elif not able.precisions or not able.name or not able.runtime:
        wrong = "lack the hardware's name, its precisions or the runtime with its version"
    elif able.lanes < 1 or able.memory_mib < 1:
        wrong = f"state {able.lanes} lanes and {able.memory_mib} MiB of memory"
    if wrong or not isinstance(able, Capabilities):
        raise DeviceSpecError(f"the capabilities of backend {name} {wrong}", _HINT)
    return able
