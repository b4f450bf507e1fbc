"""The outbox of the history: in order, once each, bounded, and never in the way of who tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from hams_shared.bus.history import HistoryOutbox
from hams_shared.bus.journal import history_journal
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import Place
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.history import HistoryEntry
from support.wait import until


def entry(number: int) -> HistoryEntry:
    return HistoryEntry(id=f"me.1.{number}", by="scheduler", kind="leader", text=f"entry {number}")


@asynccontextmanager
async def running(outbox: HistoryOutbox) -> AsyncGenerator[None, None]:
    task = asyncio.create_task(outbox.run())
    try:
        yield
    finally:
        await ended([task])


async def stored(bus: InMemoryBus) -> list[str]:
    page = await (await history_journal(bus)).page(subjects.history(), Place())
    return [codec.decode(HistoryEntry, one.data).text for one in page.entries]


async def until_empty(outbox: HistoryOutbox) -> None:
    await until(lambda: not outbox.waiting)


async def test_entries_are_stored_in_order_and_one_with_a_known_id_is_not_stored_again() -> None:
    async with InMemoryBus(MemoryServer()) as bus:
        outbox = HistoryOutbox(bus, "scheduler")
        async with running(outbox):
            for number in (1, 2, 1, 3):
                outbox.put(entry(number))
            await until_empty(outbox)
        assert await stored(bus) == ["entry 1", "entry 2", "entry 3"]


async def test_while_the_broker_is_away_entries_wait_and_the_oldest_give_way() -> None:
    server = MemoryServer()
    async with InMemoryBus(server) as bus:
        outbox = HistoryOutbox(bus, "scheduler", limit=3)
        server.stop()
        async with running(outbox):
            for number in range(10):
                outbox.put(entry(number))
                await asyncio.sleep(0)
            assert (outbox.waiting, outbox.dropped) == (3, 7)
            server.start()
            await until_empty(outbox)
        assert await stored(bus) == ["entry 0", "entry 7", "entry 8", "entry 9"]  # the first was on its way already


async def test_who_may_not_write_keeps_entries_until_it_may_or_forgets_them() -> None:
    allowed = False
    async with InMemoryBus(MemoryServer()) as bus:
        outbox = HistoryOutbox(bus, "scheduler", lambda: allowed)
        async with running(outbox):
            outbox.put(entry(1))
            await asyncio.sleep(0.02)
            outbox.clear()
            outbox.put(entry(2))
            assert await stored(bus) == []
            allowed = True
            await until_empty(outbox)
        assert await stored(bus) == ["entry 2"]
