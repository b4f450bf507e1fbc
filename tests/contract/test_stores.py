from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from typing import Any

import pytest

from hams_shared.bus.protocol import Entry
from hams_shared.bus.records import watched
from hams_shared.errors import BadInputError, NotFoundError, RefusedError, TooLargeError
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec
from hams_shared.wire.messages.scheduler import MeasureAnswer
from support.wait import following, until


async def test_put_get_delete(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        kv, same = await a.kv(name), await b.kv(name)
        assert await kv.get("k") is None
        first = await kv.put("k", b"1")
        assert await same.get("k") == Entry("k", b"1", first)
        second = await same.put("k", b"2")
        assert second > first
        assert await kv.get("k") == Entry("k", b"2", second)
        await kv.delete("k")
        await kv.delete("k")
        await kv.delete("never-was")
        assert await same.get("k") is None


async def test_an_empty_value_is_a_value(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        revision = await kv.put("k", b"")
        assert await kv.get("k") == Entry("k", b"", revision)
        assert await kv.entries() == {"k": Entry("k", b"", revision)}


async def test_create_only_when_absent(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        await kv.create("k", b"1")
        with pytest.raises(RefusedError):
            await kv.create("k", b"2")
        await kv.delete("k")
        revision = await kv.create("k", b"3")
        assert await kv.get("k") == Entry("k", b"3", revision)


async def test_update_only_from_the_newest_revision(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        old = await kv.put("k", b"1")
        new = await kv.update("k", b"2", old)
        with pytest.raises(RefusedError):
            await kv.update("k", b"3", old)
        await kv.put("other", b"")
        assert await kv.get("k") == Entry("k", b"2", new)
        assert await kv.update("fresh", b"1", 0)


async def test_of_many_racing_updates_one_wins(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        one, two = await a.kv(name), await b.kv(name)
        revision = await one.put("lease", b"")
        results = await asyncio.gather(
            *((one if i % 2 else two).update("lease", b"%d" % i, revision) for i in range(10)),
            return_exceptions=True,
        )
    assert sum(isinstance(r, int) for r in results) == 1
    assert sum(isinstance(r, RefusedError) for r in results) == 9


async def test_entries(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        assert await kv.entries() == {}
        await kv.put("gone", b"")
        await kv.delete("gone")
        assert await kv.entries() == {}
        revisions = {f"k.{i}": await kv.put(f"k.{i}", b"%d" % i) for i in range(300)}
        assert await kv.entries() == {k: Entry(k, k[2:].encode(), r) for k, r in revisions.items()}


@pytest.mark.parametrize("key", ["", "a b", ".a", "a.", "a>", "ä"])
async def test_bad_keys(connect: Any, name: str, key: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        with pytest.raises(BadInputError):
            await kv.put(key, b"")


@pytest.mark.parametrize("bucket", ["", "a b", "a.b"])
async def test_bad_buckets(connect: Any, bucket: str) -> None:
    async with connect() as bus:
        with pytest.raises(BadInputError):
            await bus.kv(bucket)


async def test_a_value_that_is_too_large_is_refused_and_does_no_harm(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        with pytest.raises(TooLargeError):
            await kv.put("k", bytes(bus.max_payload + 1))
        await kv.put("k", b"small")


async def test_watch_gives_what_is_there_then_a_marker_then_changes(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        kv = await a.kv(name)
        one = await kv.put("one", b"1")
        await kv.put("gone", b"")
        await kv.delete("gone")
        two = await kv.put("two", b"2")
        async with aclosing((await b.kv(name)).watch()) as watch:
            assert [await following(watch) for _ in range(3)] == [
                Entry("one", b"1", one),
                Entry("two", b"2", two),
                None,
            ]
            three = await kv.put("two", b"3")
            assert await following(watch) == Entry("two", b"3", three)
            await kv.delete("one")
            deleted = await following(watch)
            assert deleted is not None
            assert (deleted.key, deleted.value) == ("one", None)
            again = await kv.create("one", b"4")
            assert await following(watch) == Entry("one", b"4", again)


async def test_watch_of_an_empty_bucket_starts_with_the_marker(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        async with aclosing(kv.watch()) as watch:
            assert await following(watch) is None
            await kv.put("k", b"")
            assert await following(watch) == Entry("k", b"", 1)


async def test_watch_of_some_keys(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        await kv.put("a.x", b"1")
        await kv.put("b.x", b"2")
        async with aclosing(kv.watch("b.*")) as some, aclosing(kv.watch("c")) as none:
            assert await following(some) == Entry("b.x", b"2", 2)
            assert await following(some) is None
            assert await following(none) is None
            await kv.put("a.y", b"3")
            await kv.put("b.y", b"4")
            assert await following(some) == Entry("b.y", b"4", 4)
            await kv.put("c", b"5")
            assert await following(none) == Entry("c", b"5", 5)


async def test_a_slow_reader_gets_the_newest_value(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        async with aclosing(kv.watch()) as watch, aclosing(kv.watch()) as quick:
            assert await following(watch) is None
            assert await following(quick) is None
            last = 0
            for i in range(500):
                last = await kv.put("k", b"%d" % i)
            for reader in (quick, watch):
                entry = None
                while entry is None or entry.revision != last:
                    entry = await following(reader)
                assert entry == Entry("k", b"499", last)


async def test_a_watch_ends_with_its_bus(connect: Any, name: str) -> None:
    got: list[Entry | None] = []
    async with connect() as bus:
        kv = await bus.kv(name)

        async def read() -> str:
            async for entry in kv.watch():
                got.append(entry)
            return "ended"

        task = asyncio.create_task(read())
        await until(lambda: got == [None])
    async with asyncio.timeout(30):
        assert await task == "ended"


async def test_a_watch_can_be_cancelled(connect: Any, name: str) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)

        async def read() -> None:
            async for _ in kv.watch():
                pass

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await read()
        await kv.put("k", b"still works")
        assert await kv.entries()


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 3_000_001])
async def test_objects_round_trip(connect: Any, name: str, size: int) -> None:
    data = os.urandom(size)
    sent: list[int] = []
    came: list[int] = []
    async with connect() as a, connect() as b:
        one, two = await a.objects(name), await b.objects(name)
        assert not await two.exists("m")
        await one.put("m", data, sent.append)
        assert await two.exists("m")
        assert await two.get("m", came.append) == data
        await until(lambda: not size or sent[-1:] == came[-1:] == [size])
        assert sent == sorted(sent)


async def test_an_object_is_stored_once(connect: Any, name: str) -> None:
    async with connect() as bus:
        store = await bus.objects(name)
        data = os.urandom(500_000)
        await store.put("m", data)
        await store.put("m", data)
        assert await store.get("m") == data
        await store.put("m", b"another")
        assert await store.get("m") == b"another"


async def test_a_list_of_objects_has_those_that_are_stored_now(connect: Any, name: str) -> None:
    async with connect() as bus:
        store = await bus.objects(name)
        assert await store.sizes() == {}
        for number in range(300):
            await store.put(f"m{number}", bytes(number))
        assert await store.sizes() == {f"m{number}": number for number in range(300)}
        await store.put("m7", b"another")
        await store.delete("m299")
        await store.delete("m8")
        sizes = await store.sizes()
        assert (len(sizes), sizes["m7"], sizes["m9"]) == (298, 7, 9)


async def test_objects_that_are_not_there(connect: Any, name: str) -> None:
    async with connect() as bus:
        store = await bus.objects(name)
        with pytest.raises(NotFoundError, match="nothing-here"):
            await store.get("nothing-here")
        await store.delete("nothing-here")
        await store.put("m", b"data")
        await store.delete("m")
        await store.delete("m")
        assert not await store.exists("m")
        with pytest.raises(NotFoundError):
            await store.get("m")
        await store.put("m", b"data")
        assert await store.get("m") == b"data"


@pytest.mark.parametrize("present", [0, 3])
async def test_a_reader_of_records_learns_when_it_has_all_that_were_present(
    connect: Any, name: str, present: int
) -> None:
    async with connect() as bus:
        kv = await bus.kv(name)
        for i in range(present):
            await kv.put(f"k{i}", codec.encode(MeasureAnswer(cells=i)))
        complete = asyncio.Event()
        seen: list[str] = []

        async def read() -> None:
            async for key, _ in watched(kv, MeasureAnswer, complete):
                assert not complete.is_set()
                seen.append(key)

        reading = asyncio.create_task(read())
        async with asyncio.timeout(60):
            await complete.wait()
        assert sorted(seen) == [f"k{i}" for i in range(present)]
        await ended([reading])
