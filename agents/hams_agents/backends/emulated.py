"""A simulated device with the throughput given in its profile; always labelled emulated.

It serves planning and tests of scheduling. Its outputs are real (computed on the CPU, then delayed) or zeros of the
right shapes; either way N images take ``max(what the CPU took, N / fps)``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from hams_agents.backends.base import Backend, Capabilities, ModelFile, Network, noise
from hams_agents.backends.batching import Array
from hams_agents.devices import DeviceSpec
from hams_agents.emulation_profile import EmulationProfile, HangFault, read_profile
from hams_shared.errors import ModelError, UnsupportedModelError

_MOST_LATE_S = 0.002
"""A sleep that ended later than this was disturbed; only what is below it is made up for."""


class EmulatedBackend:
    """A device by profile; `open_backend` opens the runtime that computes its outputs.

    Raises:
        DeviceSpecError: the profile is missing or wrong, or the runtime it computes with does not open.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        open_backend: Callable[[DeviceSpec], Backend],
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._profile = read_profile(Path(spec.target))
        self._pacer = Pacer(clock, sleep)
        inner = "onnxruntime" if self._profile.run == "onnxruntime" else "openvino"
        self._inner = open_backend(replace(spec, backend=inner, target="CPU"))
        self._capabilities = _capabilities(self._profile, self._inner.capabilities, spec)

    @property
    def capabilities(self) -> Capabilities:
        """The properties that the profile gives."""
        return self._capabilities

    def load(self, model: ModelFile) -> EmulatedNetwork:
        """Load `model` on the CPU behind the profile; see :meth:`hams_agents.backends.base.Backend.load`."""
        fps = self._profile.fps_of(model.name, model.digest)
        if fps is None:
            raise UnsupportedModelError(
                f"model {model.name}: the profile of emulated device {self._profile.name} has no speed for it",
                "add it to the profile's fps, or '*' for all others",
            )
        with self._pacer.at_least(self._profile.load_ms / 1e3):
            real = self._inner.load(model)
        load_ms = max(real.load_ms, self._profile.load_ms)
        memory_mib, metadata = real.memory_mib, real.metadata
        source: Network | _Zeros = real
        if self._profile.run == "none":
            source = _Zeros(model, real)
            real.close()
        hang = self._profile.hang
        return EmulatedNetwork(model, source, fps, self._pacer, load_ms, memory_mib, metadata, hang)

    def close(self) -> None:
        """Release the CPU behind it."""
        self._inner.close()


class EmulatedNetwork:
    """A network at a stated speed; see :class:`hams_agents.backends.base.Network`."""

    dynamic_batch = True

    def __init__(
        self,
        model: ModelFile,
        source: Network | _Zeros,
        fps: float,
        pacer: Pacer,
        load_ms: float,
        memory_mib: float,
        metadata: Mapping[str, str],
        hang: HangFault | None = None,
    ) -> None:
        self.metadata = metadata
        self.memory_mib = memory_mib
        self.load_ms = load_ms
        self._model = model
        self._source: Network | _Zeros | None = source
        self._fps = fps
        self._pacer = pacer
        self._hang = hang
        self._done = 0

    def infer(self, batch: Array, *, alone: bool = True) -> Mapping[str, Array]:
        """Run N images in no less than N / fps seconds; there is one lane."""
        if self._source is None:
            raise ModelError(f"model {self._model.name} is closed")
        if self._hang is not None and self._hang.hangs(self._model.name, self._done):
            threading.Event().wait()
        self._done += 1
        with self._pacer.at_least(len(batch) / self._fps):
            return self._source.infer(batch)

    def close(self) -> None:
        """Release what computes its outputs."""
        if self._source is not None:
            self._source.close()
        self._source = None


class Pacer:
    """Makes blocks of code last; what one sleep overshoots, the next is shorter, so that the mean is right."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._late = 0.0

    def at_least(self, seconds: float) -> _Pace:
        """Return a context that lasts no less than `seconds`."""
        return _Pace(self, seconds)

    def start(self, seconds: float) -> float:
        """Return when a block of `seconds` that begins now must end."""
        return self._clock() + seconds - self._late

    def wait(self, end: float) -> None:
        """Sleep until `end`."""
        left = end - self._clock()
        if left > 0:
            self._sleep(left)
            self._late = min(max(self._clock() - end, 0.0), _MOST_LATE_S)
        else:
            self._late = 0.0


class _Pace:
    def __init__(self, pacer: Pacer, seconds: float) -> None:
        self._pacer = pacer
        self._seconds = seconds
        self._end = 0.0

    def __enter__(self) -> None:
        self._end = self._pacer.start(self._seconds)

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._pacer.wait(self._end)


class _Zeros:
    """Zeros in the shapes that the real network gives for one image."""

    def __init__(self, model: ModelFile, network: Network) -> None:
        self._model = model
        self._like = {name: np.zeros_like(value) for name, value in network.infer(noise(model, 1)).items()}

    def infer(self, batch: Array) -> dict[str, Array]:
        if batch.shape[1:] != self._model.input_shape[1:]:
            raise ModelError(f"model {self._model.name} was given images of another shape than it was loaded for")
        return {name: np.repeat(value, len(batch), axis=0) for name, value in self._like.items()}

    def close(self) -> None:
        self._like = {}


def _capabilities(profile: EmulationProfile, inner: Capabilities, spec: DeviceSpec) -> Capabilities:
    return Capabilities(
        backend="emulated",
        unit=spec.unit,
        kind=profile.kind,
        name=f"emulated {profile.kind.upper()} {profile.name}{' (made to hang)' if profile.hang else ''}",
        cores=spec.cores,
        memory_mib=profile.memory_mib,
        precisions=inner.precisions[:1],
        runtime=inner.runtime,
        variant=profile.digest(),
        emulated=True,
    )
