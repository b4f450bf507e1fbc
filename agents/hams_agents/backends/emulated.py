"""A simulated device with the speed given in its profile; always labelled emulated.

It serves planning, tests of scheduling and measurements with more devices than the host has. Its outputs are zeros of
the right shapes, or real: computed on the CPU the first time that a network sees an image, and replayed from a record
afterwards, so that the device takes no CPU time from others. Either way an inference takes at least the time that the
profile states (:meth:`hams_agents.emulation_profile.EmulationProfile.service_s`).
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from hams_agents.backends.base import NO_FURTHER, Backend, Capabilities, Further, ModelFile, Network
from hams_agents.backends.further import examples
from hams_agents.backends.network import Array, noise
from hams_agents.backends.replay import Replay, Replays, Store, prune, store_path
from hams_agents.devices import DeviceSpec
from hams_agents.emulation_profile import EmulationProfile, read_profile
from hams_shared.errors import DeviceSpecError, ModelError, UnsupportedModelError

_MOST_LATE_S = 0.01
"""A sleep that ended later than this was disturbed; only what is below it is made up for. On two cores with five times
as many busy threads, blocks of 10 ms then last 10.03 ms in the mean; with 2 ms here it was 10.3."""
_SPIN = bytes(1 << 16)
"""What burning CPU time digests: about 80 µs, without Python's lock."""


class EmulatedBackend:
    """A device by profile; `open_backend` opens the runtime that computes its outputs.

    Args:
        spec: the profile is its target.
        open_backend: opens a CPU.
        records: folder of recorded outputs; None: each output is computed.
        clock: monotonic, s.
        sleep: takes s.

    Raises:
        DeviceSpecError: the profile is missing or wrong, or the runtime it computes with does not open.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        open_backend: Callable[[DeviceSpec], Backend],
        records: Path | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._profile = read_profile(Path(spec.target))
        self._faults = Faults(self._profile, clock)
        if self._faults.gone:
            raise DeviceSpecError(f"device {spec} is not there: no {self._profile.device_file}", "plug it in")
        self._clock = clock
        self._pacer = Pacer(clock, sleep)
        self._busy = Busy()
        inner = "onnxruntime" if self._profile.run == "onnxruntime" else "openvino"
        self._inner = open_backend(replace(spec, backend=inner, target="CPU"))
        self._records = records if self._profile.replay and self._profile.run != "none" else None
        self.replays = Replays(on=self._records is not None)
        if self._records is not None:
            prune(self._records)
        self._capabilities = _capabilities(self._profile, self._inner.capabilities, spec)

    @property
    def capabilities(self) -> Capabilities:
        """The properties that the profile gives."""
        return self._capabilities

    def load(self, model: ModelFile) -> EmulatedNetwork:
        """Load `model`, and on the CPU behind the profile what it needs; see
        :meth:`hams_agents.backends.base.Backend.load`."""
        if model.path.suffix.lower() == ".zip":
            raise UnsupportedModelError(f"model {model.name}: an emulated device runs no vision language model")
        fps = self._profile.fps_of(model.name, model.digest)
        if fps is None:
            raise UnsupportedModelError(
                f"model {model.name}: the profile of emulated device {self._profile.name} has no speed for it",
                "add it to the profile's fps, or '*' for all others",
            )
        start = self._clock()
        with self._pacer.at_least(self._profile.load_ms / 1e3):
            self._faults.load(model.name)
            source = self._source(model)
        load_ms = max((self._clock() - start) * 1e3, self._profile.load_ms)
        return EmulatedNetwork(model, source, self._profile, fps, self._pacer, self._busy, load_ms, self._faults)

    def _source(self, model: ModelFile) -> Network | Replay | Zeros:
        """Return what gives the outputs."""
        if self._records is not None:
            able = self._inner.capabilities
            computed_by = f"{able.backend} {able.runtime} {able.name} {able.precisions[0]}"
            store = Store(store_path(self._records, model, computed_by))
            prune(self._records)  # the newest stay: its own is one of them
            return Replay(model, partial(self._inner.load, model), store, self.replays)
        real = self._inner.load(model)
        if self._profile.run != "none":
            return real
        try:
            return Zeros(model, real)
        finally:
            real.close()

    def close(self) -> None:
        """Release the CPU behind it."""
        self._inner.close()


class EmulatedNetwork:
    """A network at a stated speed; see :class:`hams_agents.backends.base.Network`."""

    def __init__(
        self,
        model: ModelFile,
        source: Network | Replay | Zeros,
        profile: EmulationProfile,
        fps: float,
        pacer: Pacer,
        busy: Busy,
        load_ms: float,
        faults: Faults,
    ) -> None:
        self.dynamic_batch = bool(profile.batch)
        self.metadata = source.metadata
        self.memory_mib = source.memory_mib
        self.load_ms = load_ms
        self._model = model
        self._source: Network | Replay | Zeros | None = source
        self._profile = profile
        self._fps = fps
        self._pacer = pacer
        self._busy = busy
        self._faults = faults
        self._done = 0

    def infer(self, batch: Array, *, further: Further = NO_FURTHER, alone: bool = True) -> Mapping[str, Array]:
        """Run N images in no less than the stated time; the lanes that are busy count, `alone` does not."""
        if self._source is None:
            raise ModelError(f"model {self._model.name} is closed")
        done, self._done = self._done, self._done + 1
        failure = self._faults.inference(self._model.name, done)
        if failure is not None and self._profile.fail is not None and self._profile.fail.fast:
            raise failure
        with (
            self._busy.one_more() as lanes,
            self._pacer.at_least(self._profile.service_s(self._fps, len(batch), lanes)),
        ):
            if self._profile.host_cpu_ms:
                burn(self._profile.host_cpu_ms * len(batch) / 1e3)
            outputs = self._source.infer(batch, further=further)
        if failure is not None:
            raise failure
        return self._faults.outputs(self._model.name, done, outputs)

    def leave_out(self) -> None:
        """See :class:`hams_agents.backends.base.Counting`."""
        if isinstance(self._source, Replay):
            self._source.leave_out()

    def close(self) -> None:
        """Release what gives its outputs."""
        if self._source is not None:
            self._source.close()
        self._source = None


class Faults:
    """What the profile lets fail."""

    def __init__(self, profile: EmulationProfile, clock: Callable[[], float]) -> None:
        self._profile = profile
        self._clock = clock
        self._opened = clock()

    @property
    def gone(self) -> bool:
        """Whether the device is not there."""
        file = self._profile.device_file
        return file is not None and not file.exists()

    def load(self, model: str) -> None:
        """End the process where the profile wants it. Raises ModelError: the device is gone."""
        self._abort("load", model, 0)
        if self.gone:
            raise ModelError(f"model {model}: the device is gone")

    def inference(self, model: str, done: int) -> ModelError | None:
        """Hang or end the process where the profile wants it; return the error that the inference fails with."""
        profile = self._profile
        if profile.hang is not None and profile.hang.hangs(model, done):
            threading.Event().wait()
        self._abort("inference", model, done)
        if self.gone:
            return ModelError(f"model {model}: the device is gone")
        if profile.fail is None or not profile.fail.strikes(model, done, self._clock() - self._opened):
            return None
        return ModelError(f"model {model} failed: {profile.fail.text}")

    def outputs(self, model: str, done: int, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs of an inference: NaN where the profile wants it."""
        nan = self._profile.nan
        if nan is None or not nan.strikes(model, done, self._clock() - self._opened):
            return outputs
        return {
            name: np.full_like(value, np.nan) if value.dtype.kind == "f" else value for name, value in outputs.items()
        }

    def _abort(self, at: str, model: str, done: int) -> None:
        abort = self._profile.abort
        if abort is not None and abort.at == at and done >= abort.after and abort.concerns(model):
            os.kill(os.getpid(), signal.Signals[abort.signal])
            threading.Event().wait()  # the signal is on its way


class Busy:
    """How many lanes of a device are busy."""

    def __init__(self) -> None:
        self._lanes = 0
        self._lock = threading.Lock()

    @contextmanager
    def one_more(self) -> Iterator[int]:
        """Occupy one lane more for a while; gives how many there are with it."""
        with self._lock:
            self._lanes += 1
            lanes = self._lanes
        try:
            yield lanes
        finally:
            with self._lock:
                self._lanes -= 1


def burn(seconds: float, clock: Callable[[], float] = time.thread_time) -> None:
    """Keep one core busy for so much CPU time of this thread, in steps of 80 µs."""
    if seconds <= 0:
        return
    end = clock() + seconds
    while clock() < end:
        hashlib.blake2b(_SPIN)


class Pacer:
    """Makes blocks of code last; what one sleep overshoots, the next is shorter, so that the mean is right.

    A block is shortened by at most half.
    """

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._thread = threading.local()
        """How late its last sleep ended, s: each lane is a thread."""

    def at_least(self, seconds: float) -> _Pace:
        """Return a context that lasts no less than `seconds`."""
        return _Pace(self, seconds)

    def start(self, seconds: float) -> float:
        """Return when a block of `seconds` that begins now must end."""
        return self._clock() + seconds - min(getattr(self._thread, "late", 0.0), seconds / 2)

    def wait(self, end: float) -> None:
        """Sleep until `end`."""
        left = end - self._clock()
        if left > 0:
            self._sleep(left)
            self._thread.late = min(max(self._clock() - end, 0.0), _MOST_LATE_S)
        else:
            self._thread.late = 0.0


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


class Zeros:
    """Zeros in the shapes that the real network gives for one image."""

    def __init__(self, model: ModelFile, network: Network) -> None:
        self.metadata = network.metadata
        self.memory_mib = network.memory_mib
        self._model = model
        outputs = network.infer(noise(model, 1), further=examples(model, 1))
        self._like = {name: np.zeros_like(value) for name, value in outputs.items()}

    def infer(self, batch: Array, *, further: Further = NO_FURTHER) -> dict[str, Array]:
        """Return zeros for N images."""
        if batch.shape[1:] != self._model.input_shape[1:]:
            raise ModelError(f"model {self._model.name} was given images of another shape than it was loaded for")
        return {name: np.repeat(value, len(batch), axis=0) for name, value in self._like.items()}

    def close(self) -> None:
        """Forget them."""
        self._like = {}


def _capabilities(profile: EmulationProfile, inner: Capabilities, spec: DeviceSpec) -> Capabilities:
    return Capabilities(
        backend="emulated",
        unit=spec.unit,
        kind=profile.kind,
        name=f"emulated {profile.kind.upper()}{f' ({profile.made_to})' if profile.made_to else ''}",
        cores=spec.cores,
        memory_mib=profile.memory_mib,
        precisions=inner.precisions[:1],
        runtime=inner.runtime,
        lanes=profile.lanes,
        variant=profile.digest(),
        emulated=True,
        idle_w=profile.power_w.idle if profile.power_w else 0.0,
        busy_w=profile.power_w.busy if profile.power_w else 0.0,
        device_file=str(profile.device_file or ""),
    )
