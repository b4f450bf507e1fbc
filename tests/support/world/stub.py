"""A device whose speed, memory and faults a test sets; its networks are small functions in numpy.

A model file holds the name of one of `NETWORKS`, and what is added to its numbers: ``brightness +300``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hams_agents.backends.base import NO_FURTHER, Capabilities, Further, ModelFile
from hams_shared.errors import ModelError, UnsupportedModelError
from support.world.clock import WorldClock

Array = NDArray[np.generic]
BOXES = ((0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0))
"""What the detector finds in every image: x0, y0, x1, y1 of its size."""


def brightness(batch: Array, adds: float) -> dict[str, Array]:
    """How bright each image is."""
    return {"y": batch.mean(axis=(1, 2, 3), keepdims=False)[:, None].astype(np.float32) + np.float32(adds)}


def boxes(batch: Array, adds: float) -> dict[str, Array]:
    """Two objects in each image that is not black, none in one that is."""
    rows = np.array([[0, 1, 0.9, *box] for box in BOXES] + [[-1] + [0] * 6], np.float32)
    nothing = np.roll(rows, 1, axis=0)
    return {"found": np.stack([rows if image.mean() > 0 else nothing for image in batch])[:, None]}


def logarithm(batch: Array, adds: float) -> dict[str, Array]:
    """The logarithm of how bright each image is, which of a black one is not finite."""
    with np.errstate(divide="ignore"):
        return {"y": np.log(brightness(batch, adds)["y"])}


def touchy(batch: Array, adds: float) -> dict[str, Array]:
    """How bright each image is; a black one it cannot do, on any device."""
    if any(image.mean() == 0 for image in batch):
        raise ModelError("CUDA error: device-side assert triggered by a black image")
    return brightness(batch, adds)


PERSONS = 8
"""Kinds of images that `person` tells apart."""


def person(batch: Array, adds: float) -> dict[str, Array]:
    """A vector for each image: the same for those alike in brightness, at right angles to all others."""
    kinds = (batch.mean(axis=(1, 2, 3)) * PERSONS / 256).astype(int)
    return {"vector": np.roll(np.eye(PERSONS, dtype=np.float32)[kinds], int(adds), axis=1)}


NETWORKS: dict[str, Callable[[Array, float], dict[str, Array]]] = {
    "brightness": brightness,
    "boxes": boxes,
    "logarithm": logarithm,
    "person": person,
    "touchy": touchy,
}


@dataclass
class StubDevice:
    """What a test says of one device; all may be changed while it serves."""

    fps: float | dict[str, float] = 50.0
    """Images/s, of all models or by the name in the file (``brightness +300``); one not in the map is unsupported."""
    load_s: float = 0.0
    memory_mib: int = 512
    memory: dict[str, float] = field(default_factory=dict)
    """What a model takes, MiB, by the name in the file; 1 otherwise."""
    kind: str = "vpu"
    cores: tuple[int, ...] = ()
    batches: bool = False
    hangs: bool = False
    """Whether an inference that begins does not end until this is False again and :meth:`StubBackend.release`."""
    fails_from: int | None = None
    """The number of the inference, counted per network from 0, from which on all fail."""
    fails_every: int = 0
    """Every so many inferences of a network one fails; 0: none."""
    refuses: str = ""
    """Why it loads no more networks."""
    runs: dict[str, list[int]] = field(default_factory=dict)
    """How many images each inference had so far, by the name in the file."""
    lanes: list[int] = field(default_factory=list)
    """How many inferences at a time each network was loaded for, 0 for all lanes."""


class StubBackend:
    """A backend; see :class:`hams_agents.backends.base.Backend`."""

    def __init__(self, unit: str, device: StubDevice, clock: WorldClock) -> None:
        self.unit = unit
        self.device = device
        self.clock = clock
        self.fails_next = 0
        """How many of the next inferences fail."""
        self._hanging = threading.Condition()

    @property
    def capabilities(self) -> Capabilities:
        """What it says it is."""
        return Capabilities(
            backend="stub",
            unit=self.unit,
            kind=self.device.kind,
            name=f"stub {self.unit}",
            cores=self.device.cores,
            memory_mib=self.device.memory_mib,
            precisions=("fp32",),
            runtime="stub 1.0",
            variant=f"{self.unit} {self.device.fps}",
            emulated=True,
        )

    def load(self, model: ModelFile) -> StubNetwork:
        """Load a network."""
        text = model.path.read_text()
        name, _, adds = text.partition(" +")
        if self.device.refuses:
            raise ModelError(f"model {model.name}: {self.device.refuses}")
        if name not in NETWORKS:
            raise ModelError(f"model {model.name}: {text!r} is no network")
        if isinstance(self.device.fps, dict) and text not in self.device.fps:
            raise UnsupportedModelError(f"model {model.name}: this device does not run {text}")
        self.device.lanes.append(model.lanes)
        if self.device.load_s:
            self.clock.sleep(self.device.load_s)
        return StubNetwork(self, text, model, float(adds or 0))

    def hang(self) -> None:
        """Wait until the device is sound again."""
        with self._hanging:
            while self.device.hangs:
                self.clock.wait(self._hanging, 1e6)

    def release(self) -> None:
        """End all that hangs."""
        self.device.hangs = False
        with self._hanging:
            self._hanging.notify_all()

    def close(self) -> None:
        """Release the device."""


class StubNetwork:
    """A loaded network; see :class:`hams_agents.backends.base.Network`."""

    def __init__(self, backend: StubBackend, text: str, model: ModelFile, adds: float) -> None:
        self._backend = backend
        self._text = text
        self._model = model
        self._adds = adds
        self._done = 0
        self._begun = 0
        self.metadata: Mapping[str, str] = {}
        self.memory_mib = backend.device.memory.get(text, 1.0)
        self.load_ms = backend.device.load_s * 1e3

    @property
    def dynamic_batch(self) -> bool:
        """Whether several images are run at once."""
        return self._backend.device.batches

    def infer(self, batch: Array, *, further: Further = NO_FURTHER, alone: bool = True) -> Mapping[str, Array]:
        """Run N images in N / fps seconds of the world's time."""
        device = self._backend.device
        if device.hangs:
            self._backend.hang()
        if self._backend.fails_next:
            self._backend.fails_next -= 1
            raise ModelError(f"model {self._model.name} failed: once")
        self._begun += 1
        if device.fails_every and self._begun % device.fails_every == 0:
            raise ModelError(f"model {self._model.name} failed: now and then")
        if device.fails_from is not None and self._done >= device.fails_from:
            raise ModelError(f"model {self._model.name} failed: the stub was told to")
        self._done += 1
        device.runs.setdefault(self._text, []).append(len(batch))
        fps = device.fps if isinstance(device.fps, float | int) else device.fps[self._text]
        self._backend.clock.sleep(len(batch) / fps)
        return NETWORKS[self._text.partition(" +")[0]](batch, self._adds)

    def close(self) -> None:
        """Release its memory."""
