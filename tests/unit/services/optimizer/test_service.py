"""The optimizer's jobs on a bus: what is taken, what is written of it, and when."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hams_services.optimizer import service as shell
from hams_services.optimizer.service import OptimizerService
from hams_shared.bus.jobs import submit
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import KeyValue
from hams_shared.errors import DeadlineError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.optimizer import JobRecord
from support.wait import until


def job(name: str, at: float = 1.0, **more: Any) -> JobRecord:
    return JobRecord(**{"id": name, "kind": "calibrate", "group": "face", "created_at": at, **more})


class Flaky:
    """A bucket that loses the first `lost` writes of ends, as a broker that restarts does."""

    def __init__(self, bucket: KeyValue, lost: int) -> None:
        self._bucket, self.lost = bucket, lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        if self.lost and codec.decode(JobRecord, value).over:
            self.lost -= 1
            raise DeadlineError("the broker does not answer")
        return await self._bucket.update(key, value, revision)


class Optimizer(OptimizerService):
    """One whose jobs of kind `calibrate` only wait until `go` is set."""

    def __init__(self, bus: InMemoryBus, folder: Path, lost: int = 0) -> None:
        super().__init__(bus, "box", folder)
        self.done: list[str] = []
        self.go = asyncio.Event()
        self._lost = lost

    async def _calibrate(self, job: JobRecord) -> tuple[str, str]:
        self._bucket = Flaky(self._bucket, self._lost)  # type: ignore[assignment, arg-type]
        self.done.append(job.id)
        await self.go.wait()
        return "frames", ""


@asynccontextmanager
async def running(optimizer: Optimizer) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(optimizer.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def read(bus: InMemoryBus, key: str) -> JobRecord:
    entry = await (await bus.kv(subjects.bucket("jobs"))).get(key)
    assert entry is not None
    assert entry.value is not None
    return codec.decode(JobRecord, entry.value)


async def test_the_end_of_a_job_is_written_when_the_broker_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "AGAIN_S", 0.01)
    async with InMemoryBus(MemoryServer()) as bus:
        optimizer = Optimizer(bus, tmp_path, lost=3)
        optimizer.go.set()
        async with running(optimizer):
            await submit(bus, job("a"))
            await until(lambda: "a" in optimizer._jobs and optimizer._jobs["a"].over)
        found = await read(bus, "a")
    assert (found.state, found.text, found.attempts) == ("done", "frames", 1)
    assert optimizer.done == ["a"]


async def test_a_job_shows_its_own_progress(tmp_path: Path) -> None:
    async with InMemoryBus(MemoryServer()) as bus:
        optimizer = Optimizer(bus, tmp_path)
        optimizer._report("of the last job", 9, 10)
        async with running(optimizer):
            await submit(bus, job("a"))
            await until(lambda: optimizer.done)
            assert optimizer._progress == ("", 0, 0)
            optimizer._report("take frames", 1, 2)
            optimizer._report("of another kind")
            assert optimizer._progress == ("of another kind", 0, 0)


async def test_a_record_under_the_key_of_another_and_one_that_is_gone_block_no_job(tmp_path: Path) -> None:
    async with InMemoryBus(MemoryServer()) as bus:
        bucket = await bus.kv(subjects.bucket("jobs"))
        await bucket.put("wrong", codec.encode(job("other", 0.5)))
        optimizer = Optimizer(bus, tmp_path)
        optimizer._jobs["gone"] = job("gone", 0.1)  # the broker lost it, and nobody could write it back
        async with running(optimizer):
            await submit(bus, job("good"))
            await until(lambda: optimizer.done)
    assert optimizer.done == ["good"]


async def test_what_an_earlier_process_of_the_same_id_left_is_removed(tmp_path: Path) -> None:
    """In a container each optimizer is process 1. A group may be called `scratch`."""
    left, frames = tmp_path / "nco" / ".scratch" / str(os.getpid()) / "old", tmp_path / "nco" / "scratch" / "frames"
    left.mkdir(parents=True)
    frames.mkdir(parents=True)
    async with InMemoryBus(MemoryServer()) as bus:
        optimizer = Optimizer(bus, tmp_path)
        async with running(optimizer):
            await submit(bus, job("a"))
            await until(lambda: optimizer.done)
            assert not left.exists()
            assert left.parent.stat().st_mode & 0o077 == 0
    assert frames.exists()
