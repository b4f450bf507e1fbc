"""The device's threads: turns, priorities, bounds, long jobs between pieces of work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from hams_agents.backends.base import NO_FURTHER, Further
from hams_agents.runtime import executor as executor_module
from hams_agents.runtime.executor import Executor
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Finished, Visit
from hams_agents.tasks.registry import build_task
from hams_shared.errors import HamsError, ModelError, RefusedError
from hams_shared.wire.frames import FrameId, Work
from support.build import group_spec, plan
from support.wait import until


class Gated:
    """A runtime that computes nothing, and only when the gate is open."""

    dynamic_batch, memory_mib, load_ms = False, 0.0, 0.0

    def __init__(self) -> None:
        self.gate = threading.Event()

    def infer(
        self, batch: NDArray[np.generic], *, further: Further = NO_FURTHER, alone: bool = True
    ) -> Mapping[str, NDArray[np.generic]]:
        assert self.gate.wait(60)
        return {"out": np.zeros((len(batch), 1), np.float32)}

    def close(self) -> None: ...


class Bench:
    """An executor, what it delivers, and work for it."""

    def __init__(self) -> None:
        self.network = Gated()
        self.done: list[tuple[str, int]] = []
        self.errors: list[str] = []
        self.executor = Executor(self._deliver)
        self.executor.start()

    def _deliver(self, finished: list[Finished]) -> None:
        for one in finished:
            self.done.append((one.output.id.group, one.output.id.frame))
            if one.output.error:
                self.errors.append(one.output.error["text"])

    def submit(self, group: str, frame: int, priority: int = 0) -> bool:
        spec = group_spec(group, nodes=("scene",), priority=priority)
        of = plan(1, {"scene": "h.b.u"}, spec)
        node = spec.nodes["scene"]
        served = ServedNode("h.b.u", of, "scene", self.network, build_task(node.task, node.input))
        image = np.zeros((1, 64, 64, 3), np.uint8)
        work = Work(
            FrameId(group, "cam", frame, 0, 1, 0.0), "scene", image, np.array([[[1.0, 0, 0], [0, 1, 0]]]), [0], (64, 64)
        )
        return self.executor.submit(served, work, Visit())

    async def occupy(self) -> None:
        """One piece at work and one ready to follow; the rest queues up."""
        for frame in range(2):
            self.submit("first", frame)
            await until(lambda: self.executor.waiting == 0)

    async def finish(self, count: int) -> list[tuple[str, int]]:
        self.network.gate.set()
        await until(lambda: len(self.done) == count)
        assert self.executor.stop(60)
        return self.done


async def test_groups_take_turns() -> None:
    bench = Bench()
    await bench.occupy()
    for frame in range(3):
        bench.submit("busy", frame)
    bench.submit("quiet", 0)
    assert (await bench.finish(6))[2:] == [("busy", 0), ("quiet", 0), ("busy", 1), ("busy", 2)]
    loads = {load.group: (load.frames, load.inferences) for load in bench.executor.loads()}
    assert loads["busy"] == (3, 3)


async def test_a_higher_priority_goes_first() -> None:
    bench = Bench()
    await bench.occupy()
    for frame in range(2):
        bench.submit("low", frame, priority=0)
        bench.submit("high", frame, priority=5)
    done = await bench.finish(6)
    assert [group for group, _ in done if group != "first"] == ["high", "high", "low", "low"]


async def test_a_full_queue_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "QUEUE_LIMIT", 2)
    bench = Bench()
    await bench.occupy()
    assert [bench.submit("g", frame) for frame in (1, 2, 3)] == [True, True, False]
    await bench.finish(4)


async def test_a_long_job_runs_between_pieces_of_work() -> None:
    bench = Bench()
    bench.network.gate.set()
    steps = 0

    def job() -> Iterator[str | None]:
        nonlocal steps
        for _ in range(1000):
            steps += 1
            yield None
        yield "result"

    running = asyncio.ensure_future(bench.executor.run_steps(job()))
    await until(lambda: steps > 0)
    bench.submit("g", 0)
    await until(lambda: bench.done == [("g", 0)])
    assert await running == "result"
    assert bench.executor.stop(60)


async def test_a_failing_job_tells_why_and_the_thread_goes_on() -> None:
    bench = Bench()

    def job() -> Iterator[str | None]:
        yield None
        raise ModelError("no")

    with pytest.raises(ModelError, match="no"):
        await bench.executor.run_steps(job())
    bench.submit("g", 0)
    await bench.finish(1)
    with pytest.raises(RefusedError):
        await bench.executor.run_steps(job())


async def test_a_failing_network_becomes_an_output_that_says_so() -> None:
    bench = Bench()

    def fail(batch: object, **_: object) -> Mapping[str, NDArray[np.generic]]:
        raise ModelError("device lost its mind")

    bench.network.infer = fail  # type: ignore[method-assign,assignment]
    bench.submit("g", 0)
    await bench.finish(1)
    assert bench.errors == ["node scene failed on h.b.u: device lost its mind"]


@pytest.mark.parametrize("name", ["lane 0", "finish"])
async def test_a_thread_that_ends_by_an_error_is_told(name: str) -> None:
    told: list[HamsError] = []
    bench = Bench()

    def no(_outgoing: list[Finished]) -> None:
        raise OSError("no room")

    bench.executor.ended = told.append
    bench.executor.deliver = no
    bench.submit("a", 0)  # an idle lane delivers by itself
    if name == "finish":
        bench.submit("a", 1)
        await until(lambda: bench.executor.waiting == 0)
    bench.network.gate.set()
    await until(lambda: bool(told))
    assert f"the {name} thread ended: OSError: no room" in str(told[0])
