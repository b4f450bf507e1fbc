"""Loads, benchmarks and records that fail for a reason that passes: nobody has to do anything once it has."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hams_agents.service import AgentService
from hams_shared.bus.model_store import ModelStore
from hams_shared.errors import BrokerError, DeadlineError, HamsError
from hams_shared.wire import subjects
from hams_shared.wire.messages.group import GroupRecord, ModelRef
from support.world.parts import Part
from support.world.stub import StubDevice
from support.world.system import System, light
from world.test_failing_devices import File, health, more, serving, told

ME = "box.stub.sim"


async def measured(world: System) -> GroupRecord:
    """All parts, and a group that is measured and not deployed yet."""
    await world.box(sim=StubDevice(fps=40))
    record, files = world.record(light())
    await world.control.upload(files, lambda *_: None)
    await world.control.plan([record], ("mfs",), 5.0)
    return record


def pulls(world: System, monkeypatch: pytest.MonkeyPatch, fails: Callable[[], Exception | None]) -> list[float]:
    """Have the pulls of model files fail as `fails` says; return when they began."""
    times: list[float] = []
    real = ModelStore.path

    async def path(store: ModelStore, model: ModelRef) -> Path:
        times.append(world.clock.now())
        error = fails()
        if error is not None:
            await asyncio.sleep(5.0 if isinstance(error, DeadlineError) else 0.0)
            raise error
        return await real(store, model)

    monkeypatch.setattr(ModelStore, "path", path)
    return times


async def serves(world: System) -> bool:
    return (await world.group()).state == "serving"


async def failed(world: System) -> bool:
    return (await world.group()).state == "failed"


async def test_a_stalled_pull_is_tried_again_and_shown(world: System, monkeypatch: pytest.MonkeyPatch) -> None:
    record = await measured(world)
    errors: list[Exception] = [DeadlineError("only 3 of 9 bytes came"), BrokerError("away"), DeadlineError("stalled")]
    pulls(world, monkeypatch, lambda: errors.pop(0) if errors else None)
    await world.control.deploy(record)

    async def shown() -> bool:
        (device,) = (await world.view()).devices
        return "node light of group grey is not loaded yet and tried again: only 3 of 9 bytes came" in (
            device.heartbeat.remarks if device.heartbeat else ()
        )

    await world.until(shown)
    await world.until(lambda: serves(world), within=30)
    assert not (await health(world, ME)).faulty
    assert not await told(world, "refused")


async def test_a_broker_that_is_away_during_a_load(world: System, monkeypatch: pytest.MonkeyPatch) -> None:
    record = await measured(world)
    first = iter([True])

    def fails() -> Exception | None:
        if next(first, False):
            world.server.stop()
            asyncio.get_running_loop().call_later(300.0, world.server.start)
        return None if world.server.running else DeadlineError("the broker is away")

    times = pulls(world, monkeypatch, fails)
    await world.control.deploy(record)
    await world.until(lambda: bool(times))
    await world.later(301.0)
    await world.until(lambda: serves(world), within=15)
    assert not await told(world, "refused")


async def test_a_broker_that_never_gives_the_file_takes_the_network_out_for_minutes_only(
    world: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await measured(world)
    broken = [True]
    times = pulls(world, monkeypatch, lambda: DeadlineError("stalled") if broken else None)
    await world.control.deploy(record)
    await world.until(lambda: failed(world), within=90, every=0.5)
    assert len(times) == 5
    assert "stalled" in (await world.group()).text
    broken.clear()
    await world.until(lambda: serves(world), within=90, every=0.5)


async def test_a_full_cache_takes_the_network_out_for_minutes_only(
    world: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await measured(world)
    full = [True]
    pulls(world, monkeypatch, lambda: OSError(errno.ENOSPC, "No space left on device", "/cache") if full else None)
    await world.control.deploy(record)
    await world.until(lambda: failed(world), every=0.5)
    assert "the disk is full: /cache" in (await world.group()).text
    full.clear()
    await world.until(lambda: serves(world), within=90, every=0.5)


async def test_a_plan_without_the_device_ends_the_tries(world: System, monkeypatch: pytest.MonkeyPatch) -> None:
    record = await measured(world)
    times = pulls(world, monkeypatch, lambda: DeadlineError("stalled"))
    await world.control.deploy(record)
    await world.until(lambda: len(times) == 2, within=30)
    await world.control.undeploy("grey")
    await world.later(60.0)
    assert len(times) <= 3
    assert not (await health(world, ME)).faulty


class Full:
    """KV of faults that takes nothing while it is full."""

    def __init__(self, part: Part[object]) -> None:
        self.full = True
        self.refused = 0
        self._kv = part.bus.kv
        part.bus.kv = self.kv  # type: ignore[method-assign]

    async def kv(self, bucket: str, *, erase: bool = False) -> Any:
        kept: Any = await self._kv(bucket, erase=erase)
        if bucket == subjects.bucket("health"):
            for name in ("put", "update", "create"):
                setattr(kept, name, self._unless_full(getattr(kept, name)))
        return kept

    def _unless_full(self, write: Callable[..., Any]) -> Callable[..., Any]:
        async def unless_full(*args: object) -> object:
            if self.full:
                self.refused += 1
                raise BrokerError("the store is full")
            return await write(*args)

        return unless_full


async def test_a_network_that_failed_while_the_store_was_full_is_tried_again(world: System, tmp_path: Path) -> None:
    fault = File(tmp_path / "fault")
    ill, results = await serving(
        world, light(), tmp_path, sound_fps=0, fail={"while_exists": str(fault), "text": "bad"}
    )
    store = Full(ill)
    world.play()
    await more(world, results, 20)
    fault.make()
    await world.until(lambda: store.refused > 0, within=60)
    await world.later(10.0)
    fault.remove()
    store.full = False
    await more(world, results, 20, within=180)
    assert [entry.device for entry in await told(world, "network-out")] == ["box.emulated.ill"]
    assert (await world.stream()).failed == {}


async def test_a_first_benchmark_without_memory_is_made_again(world: System) -> None:
    await world.box(sim=StubDevice(fps=40))
    world.devices[ME].refuses = "CUDA failure 2: out of memory"
    with pytest.raises(HamsError, match="out of memory"):
        await world.deploy(light())
    await world.later(20.0)
    assert await failed(world)
    assert not await (await world.bus.kv(subjects.bucket("profiles"))).entries()
    world.devices[ME].refuses = ""
    await world.until(lambda: serves(world), within=120, every=0.5)


async def test_a_network_that_is_out_when_it_is_first_wanted_is_measured_when_it_is_back(world: System) -> None:
    await world.box(sim=StubDevice(fps=40))
    agent = world.parts[ME].service
    assert isinstance(agent, AgentService)
    record, _ = world.record(light())
    await agent._faults.health.take_out(
        record.models["light"].digest, "brightness", "it ended the process", aborts=True
    )
    with pytest.raises(HamsError, match="it ended the process"):
        await world.deploy(light())
    assert not await (await world.bus.kv(subjects.bucket("profiles"))).entries()
    await world.until(lambda: serves(world), within=90, every=0.5)
