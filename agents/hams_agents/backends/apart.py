"""Compiles an unknown network in a child process first: on CPUs, and on devices whose driver may abort the process.

What ends the child is the reason of an empty cell of the matrix, and the agent lives on. A network that the child
compiled is noted in the cache and compiled without one the next time. On a CPU the child is a sandbox
(:mod:`hams_agents.backends.trial`); a driver may need files and sockets that nobody knows.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hams_agents.backends.base import Backend, Capabilities, ModelFile, Network
from hams_agents.backends.trial import trial
from hams_agents.devices import DeviceSpec
from hams_shared.errors import DeadlineError, HamsError, ModelError, UnsupportedModelError

COMPILE_S = 240.0
"""Longest time in the child, s; less than the agent allows for a loading."""
_CHILD = "hams_agents.backends.registry:load_once"
_MODEL = TypeAdapter(ModelFile)
_KILLED = "memory runs out"
"""What the error of a killed child says. With less of the system in use, the network may compile."""
_HINT = "update the device's driver, or give the node to another device"


class ApartBackend:
    """A device that compiles in a child first; see :class:`hams_agents.backends.base.Backend`."""

    def __init__(self, backend: Backend, spec: DeviceSpec, cache: Path | None, child: str = _CHILD) -> None:
        self._backend = backend
        self._confined = backend.capabilities.kind == "cpu"
        self._spec = spec
        self._folder = None if cache is None else cache / "compiled"
        self._child = child

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") or key == "_backend":
            raise AttributeError(key)
        return getattr(self._backend, key)

    @property
    def capabilities(self) -> Capabilities:
        """The device's properties."""
        return self._backend.capabilities

    def load(self, model: ModelFile) -> Network:
        """See :meth:`hams_agents.backends.base.Backend.load`; UnsupportedModelError: the driver aborts on it."""
        note = None if self._folder is None else self._folder / _key(model, self.capabilities)
        if note is None or not note.exists():
            self._try(model)
        if note is not None:
            with suppress(OSError):  # a full disk: the child runs again the next time
                note.parent.mkdir(parents=True, exist_ok=True)
                note.touch()
        return self._backend.load(model)

    def _try(self, model: ModelFile) -> None:
        arguments = {"device": str(self._spec), "model": _MODEL.dump_python(model, mode="json")}
        try:
            with trial(model.path, self._spec, self._confined) as child:
                child.run(self._child, arguments, what=f"compiling {model.name} for {self._spec}", timeout=COMPILE_S)
        except UnsupportedModelError as error:
            if _KILLED in error.text:
                raise ModelError(error.text, error.hint) from None
            raise UnsupportedModelError(error.text, error.hint if error.text.startswith("model ") else _HINT) from None
        except DeadlineError as error:
            raise UnsupportedModelError(error.text, _HINT) from None
        except ModelError:
            raise
        except HamsError as error:
            raise ModelError(f"model {model.name} was not compiled: {error.text}", error.hint) from None

    def close(self) -> None:
        """Release the device."""
        self._backend.close()


def model_of(values: dict[str, Any]) -> ModelFile:
    """Return the model that travelled to the child."""
    return _MODEL.validate_python(values)


def _key(model: ModelFile, able: Capabilities) -> str:
    about = (
        f"{model.digest} {model.input_shape} {model.dtype} {model.further} {able.backend} {able.name} {able.runtime}"
    )
    return hashlib.sha256(about.encode()).hexdigest()[:32]
