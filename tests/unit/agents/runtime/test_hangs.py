"""Hung inference: found by progress, counted, and in the end quarantined."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hams_agents.backends.base import ModelFile
from hams_agents.backends.registry import open_backend
from hams_agents.core import LoadNode, NetworkKey
from hams_agents.devices import parse
from hams_agents.runtime import executor as executor_module
from hams_agents.runtime import loaded as loaded_module
from hams_agents.runtime.failure_watch import self_test
from hams_agents.runtime.health_rules import WINDOW_S, after_hang
from hams_agents.runtime.loaded import Loaded
from hams_agents.runtime.progress import FIRST_S, FLOOR_S, LOAD_S, MOST_S, NETWORKS, Hang, Pace, Progress
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch
from hams_agents.runtime.watchdog import Watchdog
from hams_agents.tasks.registry import build_task
from hams_shared.group.spec import parse_group
from hams_shared.wire.messages.agents import HANGS, DeviceHealth
from support.build import group_spec, plan
from support.networks import means, model_file
from support.wait import until, until_sync
from unit.agents.runtime.test_lanes import Bench


def ticks(progress: Progress, seconds: float, step: float = 0.25) -> Hang | None:
    for _ in range(round(seconds / step)):
        hang = progress.tick(step)
        if hang is not None:
            return hang
    return None


def test_the_limit_follows_what_was_measured() -> None:
    pace, net = Pace(), ("digest", (1, 3, 64, 64))
    assert pace.limit_s(net, images=1) == FIRST_S
    pace.add(net, images=100, spent_s=1.0)
    assert pace.limit_s(net, images=1) == FLOOR_S
    pace.add(net, images=100, spent_s=199.0)
    assert pace.limit_s(net, images=4) == 80.0


def test_the_limit_is_that_of_the_network() -> None:
    pace, fast = Pace(), ("fast", (1, 3, 64, 64))
    pace.add(fast, images=1000, spent_s=8.0)
    assert pace.limit_s(fast, images=25) == FLOOR_S
    assert pace.limit_s(("slow", (1, 3, 64, 64)), images=1) == FIRST_S
    assert pace.limit_s(("fast", (1, 3, 640, 640)), images=1) == FIRST_S


def test_before_it_was_measured_each_image_has_its_time() -> None:
    """Crops of one frame run one after the other."""
    limits = [Pace().limit_s(("new", (1, 3, 64, 64)), images) for images in (0, 1, 4, 64, 1024)]
    assert limits == [FIRST_S, FIRST_S, 4 * FIRST_S, LOAD_S, LOAD_S]


@pytest.mark.parametrize("lanes", [1, 4])
async def test_a_step_of_a_benchmark_has_the_time_of_an_inference_in_each_lane(lanes: int) -> None:
    begun, gate = threading.Event(), threading.Event()

    def steps() -> Iterator[int | None]:
        begun.set()
        assert gate.wait(60)
        yield 1

    bench = Bench(lanes)
    done = asyncio.ensure_future(bench.executor.run_steps(steps()))
    try:
        await until(begun.is_set)
        assert not any(ticks(one, lanes * FIRST_S - 1) for one in bench.executor.progress)
        assert any(ticks(one, 2) for one in bench.executor.progress)
    finally:
        gate.set()
    assert await done == 1
    assert await asyncio.to_thread(bench.executor.stop, 60)


async def test_a_self_test_has_the_time_of_a_lane_s_part_of_the_device() -> None:
    bench, progress = Bench(1), Progress()
    file = ModelFile("m", "0" * 64, Path("/m.onnx"), (1, 3, 64, 64))
    node = group_spec("g", nodes=("scene",)).nodes["scene"]
    of = plan(1, {"scene": "h.b.u"}, group_spec("g", nodes=("scene",)))
    task = build_task(node.task, node.input)
    served = ServedNode("h.b.u", of, "scene", bench.network, task, model=file)
    testing = asyncio.ensure_future(asyncio.to_thread(self_test, served, progress, 1, 8))
    try:
        await until(lambda: bench.network.running == 1)
        assert ticks(progress, 8 * FIRST_S - 1) is None
        assert ticks(progress, 2) is not None
    finally:
        bench.network.gate.set()
    assert await testing == ""
    assert await asyncio.to_thread(bench.executor.stop, 60)


@pytest.mark.parametrize("writes", [False, True])
async def test_a_network_that_writes_text_may_take_as_long_as_a_load_at_first(*, writes: bool) -> None:
    bench, loading = Bench(1), Progress()
    if writes:
        bench.network.asked = lambda question: bench.network  # type: ignore[attr-defined]
    loaded = Loaded(cast(Any, SimpleNamespace(load=lambda model: bench.network)), loading)
    file = ModelFile("m", "0" * 64, Path("/m.onnx"), (1, 3, 64, 64))
    first = asyncio.ensure_future(asyncio.to_thread(loaded._load, file))
    try:
        await until(lambda: bench.network.running == 1)
        assert (ticks(loading, FIRST_S + 1) is None) == writes
    finally:
        bench.network.gate.set()
    await first
    assert await asyncio.to_thread(bench.executor.stop, 60)


@pytest.mark.parametrize("again", [False, True])
async def test_a_task_that_does_not_end_while_its_node_is_built_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, again: bool
) -> None:
    begun, gate = threading.Event(), threading.Event()

    def waits(*_: object) -> None:
        begun.set()
        assert gate.wait(60)

    loading, file = Progress(), model_file(means(tmp_path))
    loaded = Loaded(open_backend(parse("onnxruntime:CPU")), loading)
    node = {"model": "/m.onnx", "input": {"size": [8, 8]}, "task": {"type": "raw"}}
    of = plan(1, {"n": "h.b.u"}, parse_group({"name": "g", "nodes": {"n": node}}))
    command = LoadNode(of, "n", of.group.models["n"], NetworkKey(file.digest, file.input_shape, file.dtype))
    if again:
        loaded.load(command, "h.b.u", file)
    monkeypatch.setattr(loaded_module, "try_task", waits)
    call = (loaded.rebuild, command, "h.b.u") if again else (loaded.load, command, "h.b.u", file)
    building = asyncio.ensure_future(asyncio.to_thread(*call))
    try:
        await until(begun.is_set)
        hang = ticks(loaded.rebuilding if again else loading, LOAD_S + 1)
        assert hang is not None
        assert "building of node n" in hang.what
    finally:
        gate.set()
    await building


def test_the_times_of_a_few_networks_are_kept() -> None:
    pace, kept = Pace(), ("kept", (1,))
    for number in range(3 * NETWORKS):
        pace.add(kept, images=1, spent_s=1.0)
        pace.add((str(number), (1,)), images=1, spent_s=1.0)
    assert pace.limit_s(kept, images=1) == 20.0
    assert pace.limit_s(("0", (1,)), images=1) == FIRST_S
    assert len(pace._spent) == NETWORKS


def test_what_ends_in_time_is_no_hang() -> None:
    progress = Progress()
    for _ in range(10):
        with progress.job("a", 2.0):
            assert ticks(progress, 1.9) is None
        assert ticks(progress, 60) is None


def test_what_does_not_end_is_one() -> None:
    progress = Progress()
    with progress.job("inference of g/n", 2.0):
        assert str(ticks(progress, 3)) == "inference of g/n does not end: more than 2.0 s"


def test_equal_jobs_in_a_row_are_progress() -> None:
    progress = Progress()
    for _ in range(10):
        with progress.job("a", 2.0):
            assert ticks(progress, 1.5) is None


def test_a_process_that_was_stopped_itself_has_not_hung() -> None:
    progress = Progress()
    with progress.job("a", 2.0):
        assert progress.tick(0.25) is None
        assert progress.tick(3600.0) is None  # SIGSTOP, SIGCONT: the device may answer now
        assert ticks(progress, 2.0 - MOST_S + 0.25) is not None


def test_hangs_are_counted_and_the_last_straw_is_quarantine() -> None:
    health = DeviceHealth(device="h.b.u")
    for number in range(1, HANGS + 1):
        assert not health.quarantined
        health = after_hang(health, "inference of g/n", 1000.0 + number)
    assert health.quarantined
    assert health.reason == f"hung {HANGS} times within 15 min; last: inference of g/n"


def test_hangs_long_ago_do_not_count() -> None:
    health = DeviceHealth(device="h.b.u")
    for number in range(10):
        health = after_hang(health, "x", number * WINDOW_S)
        assert not health.quarantined


@pytest.mark.parametrize(
    ("step", "what"), [("prepare", "preparation of the input of g/scene"), ("finish", "decoding of g/scene")]
)
@pytest.mark.parametrize(("lanes", "beside"), [(1, False), (1, True), (2, False)])
async def test_a_step_before_or_after_the_inference_that_does_not_end_is_one(
    monkeypatch: pytest.MonkeyPatch, step: str, what: str, lanes: int, *, beside: bool
) -> None:
    """An idle lane does it itself; `beside` the only one a thread does, and all groups of the device wait for that."""
    gate, real = threading.Event(), getattr(executor_module, step)
    stuck: list[str] = []

    def gated(batch: Batch) -> object:
        stuck.append(threading.current_thread().name)
        assert gate.wait(60)
        return real(batch)

    bench = Bench(lanes)
    if beside:
        bench.submit(0)
        await until(lambda: bench.network.running == 1)
    if step == "finish":
        bench.submit(1)
        await until(lambda: bench.executor.waiting == 0)
    monkeypatch.setattr(executor_module, step, gated)
    if step == "prepare":
        bench.submit(1)
    else:
        bench.network.gate.set()
    try:
        await until(lambda: (step if beside else "lane 0") in stuck or (lanes > 1 and bool(stuck)))
        assert what in {hang.what for one in bench.executor.progress if (hang := ticks(one, FIRST_S + 1)) is not None}
    finally:
        gate.set()
        bench.network.gate.set()
        assert await asyncio.to_thread(bench.executor.stop, 60)


def test_the_watchdog_calls_once() -> None:
    progress = Progress()
    found: list[str] = []
    called = threading.Event()

    def on_hang(hang: Hang) -> None:
        found.append(hang.what)
        called.set()

    dog = Watchdog((Progress(), progress), on_hang)
    dog.start()
    try:
        with progress.job("a", 0.3):
            until_sync(called.is_set, 10, "the hang")
    finally:
        dog.stop()
    assert found == ["a"]
