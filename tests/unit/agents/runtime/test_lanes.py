"""A device with several lanes: as many batches at a time, benchmarks alone, fair shares of the device's time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from hams_agents.backends.base import NO_FURTHER, Further
from hams_agents.backends.network import Lanes
from hams_agents.devices import lanes, request_lanes
from hams_agents.runtime.executor import Executor
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Finished, Visit
from hams_agents.tasks.registry import build_task
from hams_shared.errors import HamsError
from hams_shared.wire.frames import FrameId, Work
from support.build import group_spec, plan
from support.wait import until


class Counting:
    """A network that computes nothing while its gate is shut; counts what it does at a time."""

    memory_mib, load_ms = 0.0, 0.0

    def __init__(self) -> None:
        self.dynamic_batch = False
        self.gate = threading.Event()
        self.lock = threading.Lock()
        self.running = self.most = 0
        self.alone: list[bool] = []

    def infer(
        self, batch: NDArray[np.generic], *, further: Further = NO_FURTHER, alone: bool = True
    ) -> Mapping[str, NDArray[np.generic]]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.alone.append(alone)
        assert self.gate.wait(60)
        with self.lock:
            self.running -= 1
        return {"out": np.zeros((len(batch), 1), np.float32)}

    def close(self) -> None: ...


class Bench:
    """An executor of several lanes, and work for it."""

    def __init__(self, count: int) -> None:
        self.network = Counting()
        self.frames: list[int] = []
        self.executor = Executor(self._deliver, lanes=count)
        self.executor.start()

    def _deliver(self, finished: list[Finished]) -> None:
        self.frames += [one.output.id.frame for one in finished]

    def cpu_s(self) -> float:
        """CPU time of the executor's threads so far, s."""
        clocks = [time.pthread_getcpuclockid(one.ident) for one in self.executor.threads if one.ident]
        return sum(map(time.clock_gettime, clocks))

    def submit(self, frame: int, wait_ms: float = 0.0) -> None:
        spec = group_spec("g", nodes=("scene",))
        node = spec.nodes["scene"].model_copy(update={"max_wait_ms": wait_ms})
        spec = spec.model_copy(update={"nodes": {"scene": node}})
        served = ServedNode(
            "h.b.u", plan(1, {"scene": "h.b.u"}, spec), "scene", self.network, build_task(node.task, node.input)
        )
        image = np.zeros((1, 64, 64, 3), np.uint8)
        to_frame = np.array([[[1.0, 0, 0], [0, 1, 0]]])
        work = Work(FrameId("g", "cam", frame, 0, 1, 0.0), "scene", image, to_frame, [0], (64, 64))
        assert self.executor.submit(served, work, Visit())


async def test_as_many_batches_are_computed_at_a_time_as_there_are_lanes() -> None:
    bench = Bench(3)
    for frame in range(5):
        bench.submit(frame)
    await until(lambda: bench.network.running == 3)
    await until(lambda: bench.executor.waiting == 2)
    bench.network.gate.set()
    await until(lambda: len(bench.frames) == 5)
    assert bench.executor.stop(60)
    assert bench.network.most == 3
    assert sorted(bench.frames) == list(range(5))


async def test_only_a_batch_that_is_alone_gets_the_whole_device() -> None:
    bench = Bench(2)
    bench.submit(0)
    await until(lambda: bench.network.running == 1)
    bench.submit(1)
    await until(lambda: bench.network.running == 2)
    bench.network.gate.set()
    await until(lambda: len(bench.frames) == 2)
    assert bench.executor.stop(60)
    assert bench.network.alone == [True, False]


async def test_work_that_waits_for_others_begins_in_time_though_no_lane_is_done_meanwhile() -> None:
    bench = Bench(2)
    bench.network.dynamic_batch = True
    bench.submit(0)
    await until(lambda: bench.network.running == 1)
    start = bench.cpu_s()
    bench.submit(1, wait_ms=400.0)
    await until(lambda: bench.network.running == 2)
    assert bench.cpu_s() - start < 0.3  # the idle lane sleeps meanwhile
    bench.network.gate.set()
    await until(lambda: len(bench.frames) == 2)
    assert bench.executor.stop(60)


async def test_the_device_time_of_lanes_adds_up_to_no_more_than_the_time_that_passed() -> None:
    bench = Bench(2)
    start = bench.executor.clock.now()
    for frame in range(6):
        bench.submit(frame)
    await until(lambda: bench.network.running == 2)
    await asyncio.sleep(0.05)
    bench.network.gate.set()
    await until(lambda: len(bench.frames) == 6)
    passed = bench.executor.clock.now() - start
    assert bench.executor.stop(60)
    (load,) = bench.executor.loads()
    assert (load.frames, load.inferences) == (6, 6)
    assert 0 < load.busy_s - load.alone_s <= passed
    assert bench.executor.busy_s == pytest.approx(load.busy_s, abs=1e-5)


@pytest.mark.parametrize("lanes", [1, 2])
async def test_the_cpu_time_of_each_step_is_counted(lanes: int) -> None:
    bench, start = Bench(lanes), time.process_time()
    bench.network.gate.set()
    for frame in range(6):
        bench.submit(frame)
    await until(lambda: len(bench.frames) == 6)
    assert bench.executor.stop(60)
    (load,) = bench.executor.loads()
    assert load.batches == 6
    assert load.cpu_s.keys() >= {"prepare", "infer", "decode"}
    assert min(load.cpu_s.values()) > 0
    assert sum(load.cpu_s.values()) < time.process_time() - start


async def test_a_step_of_a_benchmark_has_the_device_to_itself_and_batches_go_on_between_steps() -> None:
    bench = Bench(2)
    bench.network.gate.set()
    beside: list[int] = []

    def job() -> Iterator[str | None]:
        for _ in range(200):
            beside.append(bench.network.running)
            yield None
        yield "result"

    running = asyncio.create_task(bench.executor.run_steps(job()))
    for frame in range(50):
        bench.submit(frame)
    assert await running == "result"
    await until(lambda: len(bench.frames) == 50)
    assert bench.executor.stop(60)
    assert set(beside) == {0}


async def test_a_step_that_fails_is_told_and_the_lanes_go_on() -> None:
    bench = Bench(2)
    bench.network.gate.set()

    def job() -> Iterator[str | None]:
        yield None
        raise ValueError("broken")

    with pytest.raises(HamsError, match="broken"):
        await bench.executor.run_steps(job())
    bench.submit(0)
    await until(lambda: bench.frames == [0])
    assert bench.executor.stop(60)


@pytest.mark.parametrize(
    ("threads", "wanted"), [(1, 1), (2, 2), (3, 3), (4, 4), (8, 8), (11, 5), (12, 6), (13, 6), (16, 8), (64, 8)]
)
def test_a_cpu_has_a_lane_per_core_up_to_eight(threads: int, wanted: int) -> None:
    assert lanes(threads) == wanted


@pytest.mark.parametrize(
    ("requests", "threads", "wanted"), [(1, 16, 1), (2, 16, 2), (4, 16, 4), (16, 16, 4), (4, 2, 2), (0, 4, 1)]
)
def test_a_gpu_has_the_lanes_that_it_asks_for_up_to_four_and_to_the_threads_that_feed_it(
    requests: int, threads: int, wanted: int
) -> None:
    assert request_lanes(requests, threads) == wanted


def test_a_free_lane_is_waited_for() -> None:
    gates = [threading.Event(), threading.Event()]
    entered: list[int] = []

    def run(number: int, images: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        entered.append(number)
        assert gates[number].wait(60)
        return [images]

    both = Lanes([lambda images: run(0, images), lambda images: run(1, images)])
    threads = [threading.Thread(target=both, args=(np.zeros(1),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    gates[0].set()
    gates[1].set()
    for thread in threads:
        thread.join(60)
    assert len(entered) == 3
    assert set(entered) == {0, 1}
