"""What all runtimes share: a loaded network with its batches and lanes, and the checks of its file.

Every network runs single images. Batches are tried at load: their outputs must equal those of single images, since
reshaped graphs can be wrong, and they must be faster. On one CPU core they often are not. Batches are cut into powers
of two up to ``MAX_BATCH``, since a runtime compiles again for each new size (4 to 20 ms for the small networks here,
1.5 s for a detector with 8 images).
"""

from __future__ import annotations

import ctypes
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hams_agents.backends.base import NO_FURTHER, Further, ModelFile
from hams_agents.backends.further import FurtherInputs, examples, rows
from hams_agents.backends.joining import concatenated, stacked
from hams_shared.errors import ModelError, UnsupportedModelError

log = logging.getLogger("hams.agent")

Array = NDArray[Any]
Run = Callable[..., list[Array]]
"""Runs one batch, given as C-contiguous array of the network's element type; returns fresh arrays, one per output. A
network with further inputs gets those as second argument: arrays by name, as the network takes them."""

MAX_BATCH = 8
SLOW_MS = 10.0
"""A network that takes this long for one image fills its device; only small ones are tried in batches."""
_TOLERANCE = 0.02
"""Greatest difference between a batch and its images one by one, as share of the output's largest value."""
Dim = int | None
"""A size as a network file states it; None: any."""

IMAGE_TYPES = frozenset({"float32", "float16", "float64", "uint8", "int8"})
"""Element types of an input that images can be cast to."""

_NOISE = re.compile(r"Exception from \S+:\d+:|Check '.*?' failed at \S+?:\d+:|FrontEnd API failed with \w+:")
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")


class BatchNetwork:
    """A loaded network of any runtime; see :class:`hams_agents.backends.base.Network`.

    Outputs in float16 are given as float32: tasks compute with them, and float16 overflows at 65504.

    Args:
        model: the file it came from.
        element: element type that the network itself takes.
        names: names of the outputs, in the order of `one`'s list.
        one: runs a single image (1×…).
        open_many: opens what runs several images at once, or returns None; called once, at most.
        least_gain: share of the time that batches must save to be used.
        lanes: run a single image on a lane's part of the device, in several threads at a time; None: there is one lane.

    Raises:
        ModelError: it does not run on a first image, or not on so many at a time.
    """

    def __init__(
        self,
        model: ModelFile,
        element: DTypeLike,
        names: Sequence[str],
        one: Run,
        open_many: Callable[[], Run | None],
        least_gain: float,
        lanes: Lanes | None = None,
    ) -> None:
        self.memory_mib = 0.0
        self.load_ms = 0.0
        self.metadata: Mapping[str, str] = {}
        self._model = model
        self._element = np.dtype(element)
        self._names = tuple(names)
        self._one: Run | None = one
        self._lane: Run | None = lanes or one
        self._further = FurtherInputs(model)
        images = self._cast(noise(model, 2))
        further = self._further.checked(examples(model, MAX_BATCH), MAX_BATCH)
        singles = [self._run(one, images[i : i + 1], rows(further, i, i + 1)) for i in (0, 1)]
        self._has_batch_axis = tuple(_is_one(a) and _is_one(b) for a, b in zip(*singles, strict=True))
        self._empty = self._joined(singles[:1])
        self._many = self._try_batches(one, open_many, 1 - least_gain, images, further, singles)
        if lanes is not None and lanes is not one:  # the first inference of each takes its memory
            with ThreadPoolExecutor(lanes.count) as pool:
                list(pool.map(lambda _: self._run(lanes, images[:1], rows(further, 0, 1)), range(lanes.count)))

    @property
    def dynamic_batch(self) -> bool:
        """Whether several images are run at once."""
        return self._many is not None

    def infer(self, batch: Array, *, further: Further = NO_FURTHER, alone: bool = True) -> dict[str, Array]:
        """Run N images; see :meth:`hams_agents.backends.base.Network.infer`.

        An output whose length depends on the image (boxes after suppression) gets a batch axis, and zeros up
        to the longest.
        """
        one = self._one if alone else self._lane
        if one is None:
            raise ModelError(f"model {self._model.name} is closed")
        if batch.shape[1:] != self._model.input_shape[1:]:
            raise ModelError(
                f"model {self._model.name} was given {shape_text(batch.shape)}, "
                f"not images of {shape_text(self._model.input_shape)}"
            )
        images = self._cast(batch)
        if not len(images):
            return {name: value[:0] for name, value in self._empty.items()}
        values = self._further.checked(further, len(images))
        done: list[list[Array]] = []
        first = 0
        for run, part in self._parts(images, one):
            done.append(self._run(run, part, rows(values, first, first + len(part))))
            first += len(part)
        return self._joined(done)

    def close(self) -> None:
        """Release the network's memory."""
        self._one = self._lane = self._many = None
        release_memory()

    def _cast(self, batch: Array) -> Array:
        return np.ascontiguousarray(batch, dtype=self._element)

    def _run(self, run: Run, images: Array, further: Further = NO_FURTHER) -> list[Array]:
        try:
            outputs = run(*self._further.arguments(images, further))
        except Exception as error:
            reason = one_line(error, self._model.path)
            raise ModelError(f"model {self._model.name} failed on {shape_text(images.shape)}: {reason}") from error
        if not all(isinstance(output, np.ndarray) and output.dtype != object for output in outputs):
            raise ModelError(f"model {self._model.name}: an output is not a tensor of numbers")
        return [one.astype(np.float32) if one.dtype == np.float16 else one for one in outputs]

    def _parts(self, images: Array, one: Run) -> list[tuple[Run, Array]]:
        """Cut a batch into what is run at once: 13 images are 8 + 4 + 1."""
        if self._many is None:
            return [(one, images[i : i + 1]) for i in range(len(images))]
        parts = []
        start, size = 0, MAX_BATCH
        while start < len(images):
            while size > len(images) - start:
                size //= 2
            parts.append((one if size == 1 else self._many, images[start : start + size]))
            start += size
        return parts

    def _joined(self, parts: list[list[Array]]) -> dict[str, Array]:
        """Put the outputs of the parts together, N first."""
        return {
            name: concatenated([part[i] for part in parts])
            if self._has_batch_axis[i]
            else stacked([p[i] for p in parts])
            for i, name in enumerate(self._names)
        }

    def _try_batches(
        self,
        one: Run,
        open_many: Callable[[], Run | None],
        share: float,
        images: Array,
        further: Further,
        singles: list[list[Array]],
    ) -> Run | None:
        if not all(self._has_batch_axis) or not self._further.batched:
            return None
        arguments = self._further.arguments
        alone_s = _fastest(one, arguments(images[:1], further))
        if alone_s * 1e3 > SLOW_MS:
            return None
        try:
            many = open_many()
            if many is None or not _agree(singles, many(*arguments(images[:2], further))):
                return None
            images = self._cast(noise(self._model, MAX_BATCH))  # only now: large images take much memory
            many(*arguments(images, further))
            together_s = _fastest(many, arguments(images[:4], further))
        except Exception as error:  # the runtime cannot: then one by one, which works
            why = one_line(error, self._model.path)
            log.info("model %s runs one by one, not in batches: %s", self._model.name, why)
            return None
        return many if together_s < 4 * alone_s * share else None


def _is_one(output: Array) -> bool:
    return output.ndim > 0 and output.shape[0] == 1


def _agree(singles: list[list[Array]], batch: list[Array]) -> bool:
    """Whether a batch's outputs are those of its images one by one, within a tolerance."""
    for index, output in enumerate(batch):
        expected = np.concatenate([single[index] for single in singles])
        if output.shape != expected.shape:
            return False
        bound = _TOLERANCE * float(np.abs(expected).max(initial=0.0)) if expected.dtype.kind == "f" else 0.0
        if not np.allclose(output, expected, rtol=0.0, atol=bound, equal_nan=True):
            return False
    return True


def _fastest(run: Run, arguments: tuple[Any, ...]) -> float:
    """The shortest of a few runs after one to warm up, s.

    The two forms are timed one after the other, never in turns: a batch evicts the weights of the other from the cache.
    """
    run(*arguments)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        run(*arguments)
        best = min(best, time.perf_counter() - start)
    return best


class Lanes:
    """Runs a batch per lane: as many threads at a time as there are `runs`; a further one waits for a free lane."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.count = len(runs)
        self._free: queue.SimpleQueue[Run] = queue.SimpleQueue()
        for run in runs:
            self._free.put(run)

    def __call__(self, images: Array, *further: Further) -> list[Array]:
        """Run a batch on a lane that is free, or becomes it."""
        run = self._free.get()
        try:
            return run(images, *further)
        finally:
            self._free.put(run)


class BySize:
    """Runs batches, those of each size in a form of the network of its own, which `new` opens for the first of them.

    A runtime that is given more or fewer images than the time before plans its work anew. A session on CUDA tunes all
    of its convolutions each time: seconds for a detector, in which it would count as hung.
    """

    def __init__(self, new: Callable[[int], Run]) -> None:
        self._new = new
        self._runs: dict[int, Run] = {}
        self._lock = threading.Lock()
        """Lanes that meet a new size at the same time open one form."""

    def __call__(self, images: Array, *further: Further) -> list[Array]:
        """Run a batch; as many threads at a time as the form itself admits."""
        with self._lock:
            run = self._runs.get(len(images))
            if run is None:
                run = self._runs[len(images)] = self._new(len(images))
        return run(images, *further)


def release_memory() -> None:
    """Give freed memory back to the system, so that resident memory means memory in use."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return


def noise(model: ModelFile, count: int) -> NDArray[Any]:
    """Return `count` random images as `model` takes them: f32 in 0..1, u8 in 0..255; the same ones each time."""
    random = np.random.default_rng(0)
    shape = (count, *model.input_shape[1:])
    if model.dtype == "u8":
        return random.integers(0, 256, shape, dtype=np.uint8)
    return random.random(shape, dtype=np.float32)


# ── the checks of a file, which need no runtime ───────────────────────────────────────────────────────────────────────


def check_file(model: ModelFile, formats: frozenset[str], runtime: str) -> None:
    """Check the file's format by suffix and content, before a runtime sees it.

    Runtimes try other formats, and print, when the content does not fit the suffix.

    Raises:
        UnsupportedModelError: `runtime` does not read files with this suffix.
        ModelError: the file is missing or empty, or holds something else.
    """
    suffix = model.path.suffix.lower()
    if suffix not in formats:
        raise UnsupportedModelError(
            f"model {model.name}: {runtime} does not read {suffix or 'files without a suffix'}",
            f"it reads {', '.join(sorted(formats))}",
        )
    try:
        with model.path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ModelError(f"model {model.name}: {(error.strerror or 'cannot be read').lower()}") from error
    if not head:
        raise ModelError(f"model {model.name}: the file is empty", "fetch or export it again")
    if not _looks_right(suffix, head):
        raise ModelError(
            f"model {model.name}: the content is not that of a {suffix} file",
            "check its source, and export it again",
        )


def _looks_right(suffix: str, head: bytes) -> bool:
    match suffix:
        case ".tflite":
            return head[4:8] == b"TFL3"
        case ".xml":
            return b"<net" in head
        case ".pb":
            return head[0] == 0x0A  # GraphDef.node; text graphs are not read
        case _:
            return True


def file_mib(path: Path) -> float:
    """Return the size of a network on disk, MiB, its separate weights included."""
    weights = [path.with_suffix(s) for s in (".bin", ".pdiparams") if path.suffix in (".xml", ".pdmodel")]
    return sum(p.stat().st_size for p in (path, *weights) if p.exists()) / 2**20


def check_shape(model: ModelFile, stated: Sequence[Dim]) -> None:
    """Check that a network whose file states the input shape `stated` takes images of ``model.input_shape``.

    The batch, the first axis, may differ.

    Raises:
        ModelError: it does not.
    """
    wanted = model.input_shape
    fits = len(stated) == len(wanted) and all(s is None or s == w for s, w in zip(stated[1:], wanted[1:], strict=True))
    if not fits:
        raise ModelError(
            f"model {model.name} takes {shape_text(stated)}, not {shape_text(wanted)}",
            "correct the size, color and layout of the node's input in the group file",
        )


def check_type(model: ModelFile, element: DTypeLike) -> None:
    """Check that images can be cast to the network's element type.

    Raises:
        UnsupportedModelError: they cannot.
    """
    name = np.dtype(element).name
    if name not in IMAGE_TYPES:
        raise UnsupportedModelError(f"model {model.name} takes {name}, not images")


def one_input(model: ModelFile, names: Sequence[str]) -> None:
    """Check that the network has exactly one real input: for runtimes that take no further ones (of packages).

    Raises:
        UnsupportedModelError: it has another number.
    """
    if len(names) != 1:
        listed = f": {', '.join(names)}" if names else ""
        raise UnsupportedModelError(
            f"model {model.name} has {len(names)} inputs{listed}", "this runtime runs networks with one image input"
        )


def shape_text(shape: Sequence[Dim]) -> str:
    """Write a shape as ``1×3×?×?``."""
    return "×".join("?" if size is None else str(size) for size in shape) or "a scalar"


def one_line(error: BaseException, path: Path | None = None) -> str:
    """Return a runtime's error text without its source positions, line breaks and the file's path."""
    text = _CODE.sub("", _NOISE.sub(" ", str(error)))
    if path is not None:
        text = text.replace(f"Load model from {path} failed:", "").replace(str(path), path.name)
    text = " ".join(text.split())
    return (text[:300] + "…" if len(text) > 300 else text) or type(error).__name__
