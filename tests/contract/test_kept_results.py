"""Results on their way into the journal: each is stored once, however late its acknowledgement comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from hams_services.pipeline import kept_results
from hams_services.pipeline.kept_results import KeptGroup, KeptResults
from hams_services.pipeline.kept_sizes import OVERHEAD
from hams_shared.bus.chunks import Assembler
from hams_shared.bus.journal import entries
from hams_shared.bus.protocol import Bounds, Bus, Journal, JournalEntry, Place
from hams_shared.errors import DeadlineError
from hams_shared.group.results_spec import ResultsSpec
from hams_shared.runtime.lifecycle import ended

FORGOTTEN_S = 0.1
"""The broker knows the id of a message for so long."""
BOUNDS = Bounds(bytes=100_000_000, age_s=3600, per_subject=-1, duplicate_s=FORGOTTEN_S, ages=True)


class HalfOpen:
    """A journal that stores all, and whose acknowledgements of the messages `lost` do not come in time."""

    def __init__(self, journal: Journal, lost: set[int]) -> None:
        self._journal, self._lost = journal, lost
        self.published = self.asked = 0

    async def publish(self, subject: str, data: bytes, id: str, age_s: float | None = None) -> int:
        sequence = await self._journal.publish(subject, data, id, age_s)
        self.published += 1
        if self.published in self._lost:
            await asyncio.sleep(4 * FORGOTTEN_S)
            raise DeadlineError("no acknowledgement")
        return sequence

    async def last(self, subject: str) -> JournalEntry | None:
        self.asked += 1
        return await self._journal.last(subject)


@asynccontextmanager
async def keeping(bus: Bus, name: str, lost: set[int]) -> AsyncIterator[tuple[KeptResults, HalfOpen, Journal]]:
    journal = await bus.journal(name, f"{name}.>", BOUNDS)
    half_open = HalfOpen(journal, lost)
    group = KeptGroup(bus, name, ResultsSpec(keep=3600.0))
    group._journal = cast("Any", half_open)
    kept = KeptResults(group, "cam", on_stored=lambda: None, on_lost=lambda: pytest.fail("a result is lost"))
    kept._subject = f"{name}.cam"
    task = asyncio.get_running_loop().create_task(kept.run())
    try:
        yield kept, half_open, journal
    finally:
        await ended([task])


async def stored(journal: Journal, name: str) -> list[bytes]:
    return [one.data async for one in entries(journal, f"{name}.>", Place())]


async def put_all(kept: KeptResults, results: list[bytes]) -> None:
    for frame, data in enumerate(results):
        kept.put("r1", frame, data)
    await kept.flush(60)
    assert not kept.waiting


async def test_a_result_is_stored_once_however_late_its_acknowledgement(connect: Any, name: str) -> None:
    results = [b"%d" % frame for frame in range(8)]
    async with connect() as bus, keeping(bus, name, {1, 4, 8}) as (kept, half_open, journal):
        await put_all(kept, results)
        assert await stored(journal, name) == results
        assert (half_open.published, half_open.asked) == (8, 3)  # where all goes well nothing is asked
        assert kept._kept._sizes.newest == 8 * (1 + OVERHEAD)


async def test_so_is_each_part_of_a_large_one(connect: Any, name: str) -> None:
    async with connect() as bus:
        results = [bytes([frame]) * int(1.2 * bus.max_payload) for frame in range(3)]  # three parts each
        async with keeping(bus, name, {2, 6}) as (kept, half_open, journal):
            await put_all(kept, results)
            parts, whole = await stored(journal, name), Assembler()
            assert len(parts) == half_open.published == 9
            assert [one for part in parts if (one := whole.take(part, 0.0)) is not None] == results
            sizes = kept._kept._sizes
            assert sizes.newest + sum(size for _, size in sizes.pieces) == sum(len(part) + OVERHEAD for part in parts)


async def test_a_large_one_is_begun_again_where_readers_have_given_its_parts_up(
    connect: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_results, "TOGETHER_S", 2 * FORGOTTEN_S)
    async with connect() as bus:
        results = [bytes([frame]) * int(1.2 * bus.max_payload) for frame in range(2)]
        async with keeping(bus, name, {1, 7}) as (kept, _, journal):  # of the first part, and the last of all
            await put_all(kept, results)
            parts, whole, late = await stored(journal, name), Assembler(), 0.0
            assert len(parts) == 1 + 3 + 3
            found = []
            for index, part in enumerate(parts):
                late += 20.0 if index == 1 else 0.0
                found.append(whole.take(part, late))
            assert [one for one in found if one is not None] == results
