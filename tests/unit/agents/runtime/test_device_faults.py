"""What follows from a load that fails, and how faults get into KV though that is away, full, or changed by others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hams_agents.runtime.device_faults import DeviceFaults, may_pass
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.protocol import Entry, KeyValue
from hams_shared.errors import (
    BrokerError,
    DeadlineError,
    DigestError,
    HamsError,
    InternalError,
    ModelError,
    ModelFetchError,
    NoSpaceError,
    RefusedError,
    TaskError,
    UnsupportedModelError,
    as_hams_error,
)
from hams_shared.runtime.clock import SYSTEM_CLOCK
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth
from support.build import device, model_ref
from support.wait import until

ME = device("h.ov.cpu0")


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ModelError("out of memory"), True),
        (NoSpaceError("the disk is full"), True),
        (as_hams_error(OSError(28, "No space left on device")), True),
        (BrokerError("away"), True),
        (DeadlineError("no answer"), True),
        (as_hams_error(MemoryError()), True),
        (RefusedError("no memory"), True),
        (UnsupportedModelError("no such operator"), False),
        (DigestError("other bytes"), False),
        (ModelFetchError("its source does not give it"), False),
        (TaskError("no such task"), False),
        (InternalError("a defect"), False),
    ],
)
def test_which_failed_loads_are_tried_again_after_minutes(error: HamsError, passes: bool) -> None:
    assert may_pass(error) is passes


class FlakyBus(InMemoryBus):
    """A broker whose store fails `fails` times, and before whose next writes somebody else does something."""

    fails = 0
    before: list[Callable[[KeyValue], Awaitable[object]]]

    async def kv(self, bucket: str, *, erase: bool = False) -> KeyValue:
        return Flaky(self, await super().kv(bucket, erase=erase))  # type: ignore[return-value]


class Flaky:
    """A bucket of such a broker."""

    def __init__(self, bus: FlakyBus, kept: KeyValue) -> None:
        self._bus, self._kept = bus, kept

    async def get(self, key: str) -> Entry | None:
        return await self._kept.get(key)

    async def _writes(self) -> None:
        if self._bus.fails:
            self._bus.fails -= 1
            raise BrokerError("the store is full")
        if self._bus.before:
            await self._bus.before.pop(0)(self._kept)

    def __getattr__(self, name: str) -> Any:
        async def write(*args: object, **more: object) -> object:
            await self._writes()
            return await getattr(self._kept, name)(*args, **more)

        return write


async def flaky() -> FlakyBus:
    bus = FlakyBus()
    bus.before = []
    return bus


def faults_of(bus: FlakyBus, folder: Path) -> DeviceFaults:
    return DeviceFaults(bus, ME, folder, "", lambda _: None, SYSTEM_CLOCK)


async def recorded(bus: InMemoryBus) -> DeviceHealth | None:
    entry = await (await bus.kv(subjects.bucket("health"))).get(ME.device)
    return codec.decode(DeviceHealth, entry.value) if entry is not None and entry.value is not None else None


async def test_a_fault_that_cannot_be_recorded_is_recorded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await flaky() as bus:
        faults = faults_of(bus, tmp_path)
        pauses: list[float] = []
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            await real(0)

        monkeypatch.setattr("hams_agents.runtime.device_faults.asyncio.sleep", sleep)
        bus.fails = 7
        recording = asyncio.get_running_loop().create_task(faults._record())
        for name in ("det", "age"):
            assert faults.load_failed(model_ref(name), NoSpaceError("the disk is full"))
        for _ in range(200):
            await real(0)
        recording.cancel()
        health = await recorded(bus)
        assert health is not None
        assert {(one.model, one.out, one.reason) for one in health.networks} == {
            (name, True, "it does not load: the disk is full") for name in ("det", "age")
        }
        assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


async def test_networks_that_fail_again_before_that_are_kept_once(tmp_path: Path) -> None:
    async with await flaky() as bus:
        faults = faults_of(bus, tmp_path)
        for _ in range(1000):
            faults.load_failed(model_ref("det"), DeadlineError("no answer"))
        assert len(faults._out) == 1


async def resume(bucket: KeyValue) -> None:
    await bucket.delete(ME.device)


async def test_a_resume_in_between_is_not_undone(tmp_path: Path) -> None:
    async with await flaky() as bus:
        book = faults_of(bus, tmp_path).health
        await book.take_out("a", "first", "it fails")
        bus.before.append(resume)
        await book.take_out("b", "second", "it fails")
        health = await recorded(bus)
        assert health is not None
        assert [one.model for one in health.networks] == ["second"]  # not the first, which was resumed
        assert book.health == health


async def test_the_end_of_a_faults_time_does_not_bring_back_what_was_resumed(tmp_path: Path) -> None:
    async with await flaky() as bus:
        book = faults_of(bus, tmp_path).health
        await book.take_out("a", "first", "it fails")
        bus.before.append(resume)
        await book.change(lambda health, _: health.model_copy(update={"networks": health.networks[:1], "reason": "x"}))
        assert await recorded(bus) == DeviceHealth(device=ME.device, reason="x")


async def test_what_others_wrote_in_between_is_not_deleted(tmp_path: Path) -> None:
    async with await flaky() as bus:
        book = faults_of(bus, tmp_path).health
        await book.take_out("a", "first", "it fails")
        gone = DeviceHealth(device=ME.device, gone="pulled out")

        async def write(bucket: KeyValue) -> None:
            await bucket.put(ME.device, codec.encode(gone))

        bus.before.append(write)
        await book.change(lambda health, _: health.model_copy(update={"networks": ()}))  # empty: it is deleted
        assert await recorded(bus) == gone


async def test_a_record_that_others_change_all_the_time_is_an_error(tmp_path: Path) -> None:
    async with await flaky() as bus:
        book = faults_of(bus, tmp_path).health

        async def write(bucket: KeyValue) -> None:
            await bucket.put(ME.device, codec.encode(DeviceHealth(device=ME.device, reason="x")))

        bus.before += [write] * 100
        with pytest.raises(RefusedError):
            await book.take_out("a", "first", "it fails")


async def test_the_first_fault_of_a_device_is_recorded(tmp_path: Path) -> None:
    async with await flaky() as bus:
        faults = faults_of(bus, tmp_path)
        recording = asyncio.get_running_loop().create_task(faults._record())
        faults.load_failed(model_ref("det"), ModelError("out of memory"))
        await until(lambda: not faults._out)
        recording.cancel()
        assert await recorded(bus) is not None
