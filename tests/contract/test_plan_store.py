"""Plans are written by the leader alone: compare-and-set, fenced by term; and what a store lost is written back."""

from __future__ import annotations

from typing import Any

import pytest

from hams_scheduler.leader.plan_store import PlanStore
from hams_scheduler.leader.write_rules import OvertakenError
from hams_shared.bus.protocol import Entry, Message
from hams_shared.bus.records import restore
from hams_shared.errors import NotFoundError, NotLeaderError, RefusedError
from hams_shared.wire import codec
from hams_shared.wire.messages.plan import PlanRecord
from support.build import plan


def record(epoch: int, device: str = "h.b.u") -> PlanRecord:
    return PlanRecord(group="face", active=plan(epoch, {"det": device, "age": device}))


async def stored(bus: Any, name: str) -> PlanRecord:
    entry = await (await bus.kv(name)).get("face")
    return codec.decode(PlanRecord, entry.value)


async def test_an_earlier_leader_that_wakes_up_is_refused(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        old, new = PlanStore(await a.kv(name)), PlanStore(await b.kv(name))
        await old.store(record(1), term=1)
        assert await new.fence(term=2) == [record(1).model_copy(update={"term": 1})]
        with pytest.raises(NotLeaderError):
            await old.store(record(2), term=1)
        with pytest.raises(NotLeaderError):
            await old.delete("face", term=1)
        with pytest.raises(NotLeaderError):
            await old.fence(term=1)
        assert await stored(b, name) == record(1).model_copy(update={"term": 2})
        await new.store(record(2), term=2)
        assert (await stored(b, name)).newest == 2


async def test_a_plan_that_an_earlier_leader_created_in_the_last_moment_is_taken(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        old, new = PlanStore(await a.kv(name)), PlanStore(await b.kv(name))
        assert await new.fence(term=2) == []
        await old.store(record(5, "h.b.old"), term=1)
        with pytest.raises(OvertakenError) as overtaken:
            await new.store(record(5, "h.b.new"), term=2)  # the same epoch must not mean two plans
        assert overtaken.value.found.active == record(5, "h.b.old").active
        await new.store(record(6, "h.b.new"), term=2)
        assert (await stored(a, name)).newest == 6


async def test_a_plan_under_the_name_of_another_group_is_none_and_gives_way(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        await kv.put("face", codec.encode(record(9).model_copy(update={"group": "other"})))
        store = PlanStore(kv)
        assert await store.fence(term=2) == []
        await store.store(record(1), term=2)
        assert (await stored(bus, name)).group == "face"


async def test_a_write_whose_answer_was_lost_is_not_written_twice(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        store = PlanStore(kv)
        await store.store(record(1), term=3)
        revision = await kv.update("face", codec.encode(record(2).model_copy(update={"term": 3})), 1)
        await store.store(record(2), term=3)
        entry = await kv.get("face")
        assert entry is not None
        assert entry.revision == revision


def entry(revision: int, of: PlanRecord) -> Entry:
    return Entry("face", codec.encode(of), revision)


async def test_only_a_store_that_went_back_is_one_and_what_is_written_ends_it(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv, old, new = await bus.kv(name), record(1), record(2)
        store = PlanStore(kv)
        assert await store.fence(term=3) == []
        assert not store.noticed(entry(8, old), old)
        await store.store(old, term=3)  # revision 1: the store was lost and made anew
        assert store.noticed(entry(1, old), old)
        await store.store(new, term=3)
        assert store.back == frozenset()
        assert not store.noticed(entry(2, new), new)
        other = new.model_copy(update={"term": 4})
        assert store.noticed(entry(1, old), old)
        assert store.noticed(entry(2, old), old.model_copy(update={"term": 3}))  # written while it was fenced off
        assert not store.noticed(entry(3, new), other)
        assert store.back == frozenset()


async def test_who_fences_off_sees_that_the_store_went_back(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        revision = await kv.put("face", codec.encode(record(1).model_copy(update={"term": 1})))
        store = PlanStore(kv)
        store.noticed(entry(revision + 7, record(2)), record(2))
        [found] = await store.fence(term=2)
        assert (found.newest, store.back) == (1, {"face"})
        await store.store(record(2), term=2)
        assert store.back == frozenset()
        assert (await stored(bus, name)).newest == 2


async def test_after_an_undeployment_a_plan_may_be_made_again(connect: Any, name: str) -> None:
    async with connect() as bus:
        store = PlanStore(await bus.kv(name))
        await store.store(record(1), term=1)
        await store.delete("face", term=1)
        await store.delete("face", term=1)
        await store.store(record(2), term=1)
        assert (await stored(bus, name)).newest == 2


async def test_what_was_lost_is_written_back_and_what_was_deleted_is_not(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        assert await restore(kv, "lost", b"1")
        assert not await restore(kv, "lost", b"0")
        await kv.put("deleted", b"1")
        await kv.delete("deleted")
        assert not await restore(kv, "deleted", b"1")
        assert await kv.get("deleted") is None


async def test_delete_only_the_revision_seen(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        old = await kv.put("k", b"1")
        new = await kv.put("k", b"2")
        with pytest.raises(RefusedError):
            await kv.delete("k", old)
        await kv.delete("k", new)
        assert await kv.get("k") is None


async def test_a_service_that_is_stopped_answers_no_more(connect: Any, name: str) -> None:
    async def echo(message: Message) -> None:
        await message.respond(message.data)

    async with connect() as a, connect() as b:
        service = await a.serve(name, "1.0.0", {}, {"echo": (f"{name}.echo", echo)})
        assert (await b.request(f"{name}.echo", b"x", timeout=60)).data == b"x"
        await service.stop()
        await service.stop()
        await a.flush()
        with pytest.raises(NotFoundError):
            await b.request(f"{name}.echo", b"x", timeout=60)
        await a.serve(name, "1.0.0", {}, {"echo": (f"{name}.echo", echo)})  # and may begin again
        assert (await b.request(f"{name}.echo", b"x", timeout=60)).data == b"x"
