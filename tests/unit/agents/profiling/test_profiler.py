"""How much others used of a device's cores while it was measured; which failures are a record, and which may pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from hams_agents.backends.base import ModelFile
from hams_agents.profiling.profiler import CpuUse, Profiler, cpu_use, parse_stat, used_by_others
from hams_agents.runtime.device_faults import DeviceFaults
from hams_agents.runtime.executor import Executor
from hams_agents.runtime.progress import Progress
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.errors import ModelError, NoSpaceError, RefusedError, UnsupportedModelError
from hams_shared.runtime.clock import SYSTEM_CLOCK
from support.build import device

ME = device("h.ov.cpu0")
DET = ModelFile("det", "d" * 64, Path("model.onnx"), (1, 3, 8, 8), "f32")


class Failing:
    """A backend that loads nothing."""

    def __init__(self) -> None:
        self.error: Exception = ModelError("primitive failed")

    def load(self, model: ModelFile) -> Any:
        raise self.error


class Bench:
    """A profiler, its backend and the faults of its device, whose file is `file`."""

    def __init__(self, folder: Path, bus: InMemoryBus, loader: ThreadPoolExecutor) -> None:
        self.file = folder / "stick"
        self.file.touch()
        self.faults = DeviceFaults(bus, ME, folder / "notes", str(self.file), lambda _: None, SYSTEM_CLOCK)
        self.backend = Failing()
        executor = Executor(lambda _: None)
        self.profiler = Profiler(cast(Any, self.backend), ME, loader, Progress(), executor, self.faults)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    with ThreadPoolExecutor(1) as loader:
        async with InMemoryBus() as bus:
            yield Bench(tmp_path, bus, loader)


@pytest.mark.parametrize("error", [UnsupportedModelError("operator Foo is unknown"), ModelError("primitive failed")])
async def test_a_network_that_does_not_run_here_is_a_record(bench: Bench, error: ModelError) -> None:
    bench.backend.error = error
    record = await bench.profiler.measure(DET)
    assert (record.reason, record.fps) == (error.text, 0.0)


@pytest.mark.parametrize(
    "error",
    [
        ModelError("clEnqueueNDRangeKernel, error code: -5 CL_OUT_OF_RESOURCES"),
        ModelError("CUDA failure 2: out of memory"),
        ModelError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1048576"),
        ModelError("std::bad_alloc"),
        ModelError("compiling det: the process that worked on it was killed, as the system does when memory runs out"),
        ModelError("CUDA error: an illegal memory access was encountered"),
        ModelError("model det: the device is gone"),
        NoSpaceError("the disk is full: /cache/tensorrt"),
    ],
)
async def test_a_device_that_fails_or_is_short_of_memory_gives_no_record(bench: Bench, error: ModelError) -> None:
    bench.backend.error = error
    with pytest.raises(type(error)) as raised:
        await bench.profiler.measure(DET)
    assert raised.value.text == error.text


async def test_a_device_that_was_pulled_out_gives_no_record(bench: Bench) -> None:
    bench.file.unlink()
    with pytest.raises(ModelError, match="primitive failed"):
        await bench.profiler.measure(DET)


async def test_a_network_that_is_out_gives_no_record(bench: Bench) -> None:
    await bench.faults.health.take_out(DET.digest, "det", "it ended the process")
    with pytest.raises(RefusedError, match="it ended the process"):
        await bench.profiler.measure(DET)


STAT = """cpu  400 0 200 4000 50 0 10 40 0 0
cpu0 100 0 100 2000 50 0 10 20 7 7
cpu1 300 0 100 2000 0 0 0 20
intr 1 2 3
"""


def test_what_a_host_tells() -> None:
    assert parse_stat(STAT, 100) == {0: pytest.approx(2.3), 1: pytest.approx(4.2)}
    assert parse_stat("", 100) == {}


@pytest.mark.parametrize(
    ("cores", "own", "part"),
    [
        ((0,), 1.0, 0.0),  # the device's own work is nobody else's
        ((0,), 0.25, 0.75),
        ((1,), 0.0, 0.5),
        ((), 1.0, 0.25),  # of both cores
        ((7,), 0.0, 0.75),  # a core that the host does not tell of
        ((0,), 5.0, 0.0),  # clocks that disagree
    ],
)
def test_the_part_of_others(cores: tuple[int, ...], own: float, part: float) -> None:
    before, after = CpuUse(0.0, {0: 10.0, 1: 20.0}, 3.0), CpuUse(2.0, {0: 12.0, 1: 21.0}, 3.0 + 2 * own)
    assert used_by_others(before, after, cores) == pytest.approx(part)


def test_a_host_that_tells_nothing_is_nobodys_fault() -> None:
    assert used_by_others(CpuUse(0.0, {}, 0.0), CpuUse(1.0, {}, 0.0), (0,)) == 0.0


def test_this_host() -> None:
    before = cpu_use()
    total = 0
    while (after := cpu_use()).own - before.own < 0.2:
        total += sum(range(1000))
    assert total
    assert 0.0 <= used_by_others(before, after, ()) <= 1.0
    assert sum(after.busy.values()) > sum(before.busy.values())
