"""The checks. Each is a function of an opened device; its docstring is the sentence that is printed.

A check returns nothing, or raises :class:`FailedError` or :class:`SkippedError`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_agents.backends.base import Backend, BackendType, ModelFile, Network, TensorSpec
from hams_agents.backends.contract import samples
from hams_agents.backends.contract.interrupt import interrupted
from hams_agents.backends.contract.samples import Sample
from hams_agents.backends.guard import wrong_outputs
from hams_agents.backends.network import noise, release_memory
from hams_agents.devices import DeviceSpec
from hams_shared.errors import DeviceSpecError, HamsError, ModelError, UnsupportedModelError
from hams_shared.runtime.process import resident_mib

TOLERANCE = 0.02
"""Greatest difference between two ways to compute the same, as share of the output's largest value: fp16 has 0.001."""
REPEATS = 200
LOADS = 12
MOST_GROWTH_MIB = 24.0
"""Allowed growth of the process over `REPEATS` inferences, or `LOADS` loads; a runtime's own pools take some."""

MOST_CPU_S = 0.025
"""CPU time that an inference of :func:`samples.heavy` may take on another device; a core takes 50 ms and more."""


class FailedError(Exception):
    """The backend does not keep the contract; the text says how."""


class SkippedError(Exception):
    """The check does not apply; the text says why."""


@dataclass
class Subject:
    """The backend that is checked."""

    type: type[BackendType]
    where: str
    """``module:Class``."""
    spec: DeviceSpec
    device: Backend
    sample: Sample
    folder: Path
    """For files of the checks."""

    def load(self) -> Network:
        """Load the sample."""
        return self.device.load(self.sample.model)

    def onnx(self, write: Callable[[Path], ModelFile]) -> ModelFile:
        """Return a network written by `write`, where the backend reads ONNX."""
        if not self.sample.onnx:
            raise SkippedError("the backend does not read ONNX, and no such network was given")
        return write(self.folder)


def same(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]], what: str) -> None:
    """Raise FailedError unless two sets of outputs are equal within the tolerance."""
    if a.keys() != b.keys():
        raise FailedError(f"{what}: outputs {', '.join(a)} instead of {', '.join(b)}")
    for name, value in b.items():
        if a[name].shape != value.shape:
            raise FailedError(f"{what}: output {name} is {_text(a[name].shape)} instead of {_text(value.shape)}")
        bound = TOLERANCE * float(np.abs(value.astype(np.float64)).max(initial=0.0))
        worst = float(np.abs(a[name].astype(np.float64) - value).max(initial=0.0))
        if not worst <= bound:
            raise FailedError(f"{what}: output {name} differs by {worst:.3g}, more than {bound:.3g}")


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a scalar"


def _refuses(does: Callable[[], object], error: type[HamsError], what: str) -> None:
    try:
        does()
    except error:
        return
    except Exception as other:
        raise FailedError(f"{what} raises {type(other).__name__} instead of {error.__name__}: {other}"[:300]) from other
    raise FailedError(f"{what} raises nothing; {error.__name__} is expected")


def names_of_targets(subject: Subject) -> None:
    """Its targets can be parsed, and parsing them again changes nothing."""
    for target in subject.type.targets():
        written, unit = subject.type.parse(str(target))
        if subject.type.parse(written) != (written, unit):
            raise FailedError(f"parse({target!r}) gives {written!r}, and parse of that something else")


def unknown_target(subject: Subject) -> None:
    """A target that cannot be is a DeviceSpecError."""
    _refuses(lambda: subject.type.parse("no such target!"), DeviceSpecError, "parse('no such target!')")


def outputs_by_name(subject: Subject) -> None:
    """A network loads, and its outputs come by name, as they should be."""
    network = subject.load()
    images = noise(subject.sample.model, 1)
    outputs = network.infer(images, further={}, alone=True)
    wrong = wrong_outputs(outputs, 1)
    if wrong:
        raise FailedError(f"infer {wrong}")
    if subject.sample.expected is not None:
        same(outputs, subject.sample.expected(images), "the first inference")
    stated = (network.memory_mib, network.load_ms, network.dynamic_batch, network.metadata)
    if not (stated[0] >= 0 and stated[1] >= 0 and isinstance(stated[2], bool) and isinstance(stated[3], Mapping)):
        raise FailedError(f"memory_mib, load_ms, dynamic_batch, metadata are {stated}")
    network.close()


def images_first(subject: Subject) -> None:
    """A batch gives N rows, and each equals that of its image alone; also an empty one."""
    network = subject.load()
    images = noise(subject.sample.model, 5)
    singles = [network.infer(images[i : i + 1]) for i in range(5)]
    for count in (1, 2, 3, 5):
        outputs = network.infer(images[:count])
        wrong = wrong_outputs(outputs, count)
        if wrong:
            raise FailedError(f"infer of {count} images {wrong}")
        for i in range(count):
            rows = {name: value[i : i + 1] for name, value in outputs.items()}
            same(rows, singles[i], f"image {i + 1} of {count}")
    wrong = wrong_outputs(network.infer(images[:0]), 0)
    if wrong:
        raise FailedError(f"infer of no image {wrong}")
    network.close()


def fresh_arrays(subject: Subject) -> None:
    """The outputs of an inference stay as they are during the next one."""
    network = subject.load()
    images = noise(subject.sample.model, 2)
    first = network.infer(images[:1])
    kept = {name: value.copy() for name, value in first.items()}
    network.infer(images[1:])
    if any(not np.array_equal(first[name], value) for name, value in kept.items()):
        raise FailedError("the next inference writes into the arrays of the one before: return copies")
    network.close()


def wrong_shape(subject: Subject) -> None:
    """Images of another size are a ModelError."""
    network = subject.load()
    shape = subject.sample.model.input_shape
    other = np.zeros((1, *shape[1:-1], shape[-1] + 1), noise(subject.sample.model, 1).dtype)
    _refuses(lambda: network.infer(other), ModelError, "infer of a wider image")
    network.close()


def other_size_at_load(subject: Subject) -> None:
    """A network that takes another number of channels than the node states is a ModelError."""
    model = subject.onnx(lambda folder: samples.scaled(folder).model)
    _refuses(lambda: subject.device.load(replace(model, input_shape=(1, 4, 8, 8))), ModelError, "load for 4 channels")


def corrupt_files(subject: Subject) -> None:
    """A file that is corrupt, empty or absent is a ModelError."""
    model = subject.sample.model
    content = model.path.read_bytes()
    for name, part in (("cut", content[: len(content) // 2]), ("empty", b""), ("noise", bytes(range(256)) * 16)):
        path = subject.folder / f"{name}{model.path.suffix}"
        path.write_bytes(part)
        broken = replace(model, path=path, digest=samples.digest(path))
        _refuses(partial(subject.device.load, broken), ModelError, f"load of a file ({name})")
    model = replace(model, digest="0" * 64)
    absent = subject.folder / f"absent{model.path.suffix}"
    _refuses(lambda: subject.device.load(replace(model, path=absent)), ModelError, "load of no file")


def other_format(subject: Subject) -> None:
    """A format that the runtime does not read is an UnsupportedModelError."""
    path = subject.folder / "network.abacus"
    path.write_bytes(subject.sample.model.path.read_bytes() + b"\n")
    model = replace(subject.sample.model, path=path, digest=samples.digest(path))
    _refuses(lambda: subject.device.load(model), UnsupportedModelError, "load of network.abacus")


def unknown_operator(subject: Subject) -> None:
    """An operator that the runtime does not have is an UnsupportedModelError."""
    model = subject.onnx(samples.unknown_operator)
    _refuses(lambda: subject.device.load(model), UnsupportedModelError, "load of an unknown operator")


def closed(subject: Subject) -> None:
    """A closed network refuses with a ModelError; closing twice is allowed; another one goes on."""
    network, other = subject.load(), subject.load()
    network.close()
    _refuses(lambda: network.infer(noise(subject.sample.model, 1)), ModelError, "infer of a closed network")
    network.close()
    other.infer(noise(subject.sample.model, 1))
    other.close()


def memory_of_loads(subject: Subject) -> None:
    """Closing a network frees its memory."""
    subject.load().close()
    _grows(lambda: subject.load().close(), LOADS, "loads")


def memory_of_inferences(subject: Subject) -> None:
    """Inferences do not take memory."""
    network = subject.load()
    images = noise(subject.sample.model, 3)
    for _ in range(10):
        network.infer(images)
    _grows(lambda: network.infer(images), REPEATS, "inferences")
    network.close()


def _grows(does: Callable[[], object], times: int, what: str) -> None:
    release_memory()
    before = resident_mib()
    for _ in range(times):
        does()
    release_memory()
    grown = resident_mib() - before
    if grown > MOST_GROWTH_MIB:
        raise FailedError(f"{times} {what} take {grown:.0f} MiB, more than {MOST_GROWTH_MIB:.0f}")


def lanes(subject: Subject) -> None:
    """As many threads as there are lanes infer at a time, each with the outputs of its own image."""
    count = subject.device.capabilities.lanes
    network = subject.load()
    images = noise(subject.sample.model, count)
    singles = [network.infer(images[i : i + 1]) for i in range(count)]
    start = threading.Barrier(count)

    def work(i: int) -> None:
        start.wait(30)
        for _ in range(10):
            same(network.infer(images[i : i + 1], alone=False), singles[i], f"lane {i + 1} of {count}")

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))
    network.close()


def load_beside(subject: Subject) -> None:
    """A network loads while another infers."""
    network = subject.load()
    images = noise(subject.sample.model, 1)
    right = network.infer(images)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            same(network.infer(images, alone=False), right, "beside a loading")

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        try:
            for _ in range(3):
                subject.load().close()
        finally:
            stop.set()
        served.result(30)
    network.close()


def bytes_and_floats(subject: Subject) -> None:
    """uint8 images are taken where the node gives them, by networks of either type."""
    numbers = subject.onnx(samples.bytes_in)
    floats = subject.onnx(lambda folder: samples.scaled(folder).model)
    images = noise(numbers, 2)
    for model, name, factor in ((numbers, "numbers", 1), (replace(floats, dtype="u8"), "twice", 2)):
        try:
            network = subject.device.load(model)
        except UnsupportedModelError as error:
            raise SkippedError(f"the device takes no {model.name} with uint8 images: {error}") from error
        outputs = network.infer(images)
        same({name: outputs[name]}, {name: images.astype(np.float32) * factor}, f"{model.name} with uint8 images")
        network.close()


def further_inputs(subject: Subject) -> None:
    """Further inputs are fed by name, or refused with an UnsupportedModelError."""
    path = subject.onnx(lambda folder: ModelFile("two", "", samples.two_inputs(folder), samples.SHAPE)).path
    scales = TensorSpec("scale", (1, 1, 1, 1), "float32")
    model = ModelFile("two", samples.digest(path), path, samples.SHAPE, further=(scales,))
    try:
        network = subject.device.load(model)
    except UnsupportedModelError:
        return
    images = noise(model, 2)
    scale = np.array([2.0, 3.0], np.float32).reshape(2, 1, 1, 1)
    same(network.infer(images, further={"scale": scale}), {"product": images * scale}, "two images with their scales")
    network.close()


def no_fallback(subject: Subject) -> None:
    """A device that is not the CPU does not compute on it."""
    if subject.device.capabilities.kind == "cpu" or subject.device.capabilities.emulated:
        raise SkippedError("the device is a CPU, or emulated")
    model = subject.onnx(samples.heavy)
    network = subject.device.load(model)
    images = noise(model, 1)
    network.infer(images)
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    while count < 5 and (count < 2 or time.perf_counter() < wall + 2):
        network.infer(images)
        count += 1
    each = (time.process_time() - cpu) / count
    network.close()
    if each > MOST_CPU_S:
        raise FailedError(f"an inference of 8 GFLOP takes {1e3 * each:.0f} ms of CPU time: the CPU computes it")


def ctrl_c(subject: Subject) -> None:
    """Ctrl-C ends a process that infers, in order."""
    wrong = interrupted(subject.where, subject.spec, subject.sample.model)
    if wrong:
        raise FailedError(wrong)


def closing(subject: Subject) -> None:
    """The device closes."""
    subject.device.close()


CHECKS: tuple[Callable[[Subject], None], ...] = (
    names_of_targets,
    unknown_target,
    outputs_by_name,
    images_first,
    fresh_arrays,
    wrong_shape,
    other_size_at_load,
    corrupt_files,
    other_format,
    unknown_operator,
    closed,
    memory_of_loads,
    memory_of_inferences,
    lanes,
    load_beside,
    bytes_and_floats,
    further_inputs,
    no_fallback,
    ctrl_c,
    closing,
)
"""In the order in which they run; the last one ends the device."""
