"""Journals: acknowledged, stored once per id, read from any place on, and followed without an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from hams_shared.bus.journal import follow
from hams_shared.bus.protocol import Bounds, Bus, Journal, JournalEntry, Message, Place
from hams_shared.errors import BadInputError, BrokerError, TooLargeError
from support.wait import following, until

BOUNDS = Bounds(bytes=1_000_000, age_s=3600, per_subject=100, duplicate_s=60)


async def opened(bus: Bus, name: str, bounds: Bounds = BOUNDS) -> Journal:
    return await bus.journal(name, f"{name}.>", bounds)


async def stored(journal: Journal, name: str, subject: str = ">") -> list[bytes]:
    return [entry.data for entry in (await journal.page(f"{name}.{subject}", Place())).entries]


async def until_stored(journal: Journal, name: str, wanted: list[bytes]) -> None:
    async with asyncio.timeout(60):
        found = await stored(journal, name)
        while found != wanted:
            await asyncio.sleep(0.02)
            found = await stored(journal, name)


def followed(bus: Bus, journal: Journal, subject: str, place: Place) -> AsyncGenerator[JournalEntry, None]:
    return follow(bus, subject, lambda at: journal.page(subject, at), place)


async def test_what_is_published_is_stored_and_heard(connect: Any, name: str) -> None:
    heard: list[bytes] = []

    async def take(message: Message) -> None:
        heard.append(message.data)

    async with connect() as a, connect() as b:
        one, other = await opened(a, name), await opened(b, name)
        await b.subscribe(f"{name}.x", take)
        await b.flush()
        assert [await one.publish(f"{name}.{at}", at.encode(), at) for at in "xyx1"[:2]] == [1, 2]
        await until(lambda: heard == [b"x"])
        page = await other.page(f"{name}.>", Place())
        assert page.entries == (JournalEntry(1, f"{name}.x", b"x"), JournalEntry(2, f"{name}.y", b"y"))
        assert (page.place.sequence, page.more) == (2, False)
        assert await stored(other, name, "y") == [b"y"]
        assert await stored(other, name, "z") == []


async def test_an_id_is_stored_once(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name)
        first = await journal.publish(f"{name}.x", b"1", "a")
        await journal.publish(f"{name}.x", b"2", "b")
        assert await journal.publish(f"{name}.x", b"1", "a") == first
        assert await stored(journal, name) == [b"1", b"2"]


async def test_an_id_is_forgotten_in_time(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name, Bounds(bytes=1_000_000, age_s=3600, per_subject=100, duplicate_s=0.1))
        last = 0
        async with asyncio.timeout(60):
            while last != 2:
                last = await journal.publish(f"{name}.x", b"", "a")
                await asyncio.sleep(0.02)


async def test_bounds_discard_the_oldest(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name, Bounds(bytes=1_000_000, age_s=3600, per_subject=3, duplicate_s=60))
        await journal.publish(f"{name}.quiet", b"q", "q")
        for number in range(5):
            await journal.publish(f"{name}.x", b"%d" % number, str(number))
        assert await stored(journal, name) == [b"q", b"2", b"3", b"4"]
        page = await journal.page(f"{name}.x", Place(2))
        assert [entry.sequence for entry in page.entries] == [4, 5, 6]


async def test_bytes_are_bounded(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name, Bounds(bytes=100_000, age_s=3600, per_subject=100, duplicate_s=60))
        for number in range(20):
            await journal.publish(f"{name}.x", bytes([number]) * 10_000, str(number))
        kept = await stored(journal, name)
        assert 8 <= len(kept) <= 10
        assert kept[-1][0] == 19


async def test_age_is_bounded(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name, Bounds(bytes=100_000, age_s=0.2, per_subject=100, duplicate_s=0.1))
        await journal.publish(f"{name}.x", b"1", "1")
        await until_stored(journal, name, [])
        assert await journal.publish(f"{name}.x", b"2", "2") == 2


async def test_pages_follow_on_one_another(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name)
        for number in range(20):
            await journal.publish(f"{name}.{'xy'[number % 2]}", bytes([number]) * 100, str(number))
        got, place, more = [], Place(), True
        while more:
            page = await journal.page(f"{name}.x", place, limit=3)
            assert len(page.entries) <= 3
            got += [entry.data[0] for entry in page.entries]
            place, more = page.place, page.more
        assert got == list(range(0, 20, 2))
        assert place.sequence == 20
        assert len((await journal.page(f"{name}.x", Place(), limit_bytes=250)).entries) == 3
        assert (await journal.page(f"{name}.x", Place(1))).entries[0].data[0] == 2
        assert not (await journal.page(f"{name}.x", place)).entries


async def test_reading_from_a_time_on(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name)
        assert not (await journal.page(f"{name}.>", Place(age_s=10))).entries
        loop = asyncio.get_running_loop()
        for number in range(9):
            await journal.publish(f"{name}.x", b"%d" % number, str(number))
        between = loop.time()
        await asyncio.sleep(4.0)  # a broker that is asked up to 3.5 s late gives the same
        for number in range(9, 14):
            await journal.publish(f"{name}.x", b"%d" % number, str(number))
        some = await journal.page(f"{name}.>", Place(age_s=loop.time() - between - 0.5))
        assert [entry.sequence for entry in some.entries] == [10, 11, 12, 13, 14]
        assert len((await journal.page(f"{name}.>", Place(age_s=600))).entries) == 14
        now = await journal.page(f"{name}.>", Place(age_s=0))
        assert (now.entries, now.place.sequence) == ((), 14)


async def test_a_place_of_another_journal_is_read_from_the_beginning(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name)
        await journal.publish(f"{name}.x", b"1", "1")
        for place in (Place(1, "another"), Place(7), Place(1, "another", age_s=0)):
            assert [entry.data for entry in (await journal.page(f"{name}.>", place)).entries] == [b"1"]


async def test_following_gives_what_is_stored_then_what_comes(connect: Any, name: str) -> None:
    async with connect() as a, connect() as b:
        journal = await opened(a, name)
        for number in range(300):
            await journal.publish(f"{name}.{number % 5}", b"%d" % number, str(number))
        entries = followed(b, await opened(b, name), f"{name}.*", Place(50))
        async with aclosing(entries):
            assert [(await following(entries)).sequence for _ in range(250)] == list(range(51, 301))
            waiting = asyncio.create_task(following(entries))
            await asyncio.sleep(0.05)
            await journal.publish(f"{name}.x", b"live", "live")
            assert (await waiting).data == b"live"
        assert [
            e.data async for e in follow(b, f"{name}.x", lambda at: journal.page(f"{name}.x", at), Place(), live=False)
        ] == [b"live"]


async def test_following_ends_with_its_bus(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name)
        await journal.publish(f"{name}.x", b"1", "1")
        entries = followed(bus, journal, f"{name}.x", Place())
        assert (await following(entries)).data == b"1"
        waiting = asyncio.create_task(following(entries))
        await asyncio.sleep(0.05)
    with pytest.raises(BrokerError):
        await waiting


async def test_what_cannot_be_stored_is_refused_and_does_no_harm(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name)
        with pytest.raises(TooLargeError):
            await journal.publish(f"{name}.x", bytes(bus.max_payload + 1), "a")
        for bad in ("", "a\r\nb", "ä", "x" * 300):
            with pytest.raises(BadInputError):
                await journal.publish(f"{name}.x", b"", bad)
        with pytest.raises(BadInputError):
            await bus.journal("a b", "x", BOUNDS)
        await journal.publish(f"{name}.x", b"small", "b")
        assert await stored(journal, name) == [b"small"]


async def test_what_is_published_without_an_acknowledgement_is_stored_too(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name)
        await bus.publish(f"{name}.x", b"1")
        await bus.flush()
        await until_stored(journal, name, [b"1"])


RESULTS = Bounds(bytes=1_000_000, age_s=3600, per_subject=-1, duplicate_s=3.0, ages=True)


async def test_what_is_stored_is_sent_on_once(connect: Any, name: str) -> None:
    """A subscriber hears what was stored, on another subject, and nothing twice. After the window it is stored anew."""
    for window_s in (3.0, 10.0, 30.0):
        if await is_sent_on_once(connect, f"{name}{window_s:g}", window_s):
            return
    pytest.fail("the broker takes longer than its window for five messages")


async def is_sent_on_once(connect: Any, name: str, window_s: float) -> bool:
    """Whether the messages were published fast enough for the window; then what is to be heard was heard."""
    heard: list[tuple[str, bytes]] = []

    async def take(message: Message) -> None:
        heard.append((message.subject, message.data))

    async with connect() as bus:
        bounds = replace(RESULTS, duplicate_s=window_s, heard_on=f"{name}.heard.>")
        journal = await bus.journal(name, f"{name}.kept.*.*", bounds)
        await bus.subscribe(f"{name}.heard.g.*", take)
        await bus.flush()
        began = asyncio.get_running_loop().time()
        for number in (0, 1, 1, 0, 2):
            await journal.publish(f"{name}.kept.g.s", b"%d" % number, f"id{number}", 600)
        if asyncio.get_running_loop().time() - began > window_s / 2:
            return False
        await until(lambda: len(heard) == 3)
        assert heard == [(f"{name}.heard.g.s", b"%d" % number) for number in range(3)]
        async with asyncio.timeout(90):
            sequence = 3
            while sequence == 3:
                sequence = await journal.publish(f"{name}.kept.g.s", b"2", "id2", 600)
                await asyncio.sleep(0.05)
        await until(lambda: len(heard) == 4)
        assert await stored(journal, f"{name}.kept") == [b"0", b"1", b"2", b"2"]
    return True


async def test_the_newest_message_has_its_id(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name)
        assert await journal.last(f"{name}.x") is None
        for at in "xxyx":
            await journal.publish(f"{name}.{at}", at.encode(), f"{at}.{len(await stored(journal, name))}")
        assert await journal.last(f"{name}.x") == JournalEntry(4, f"{name}.x", b"x", "x.3")
        assert await journal.last(f"{name}.y") == JournalEntry(3, f"{name}.y", b"y", "y.2")


async def test_the_oldest_of_some_subjects_are_discarded(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await opened(bus, name)
        for number in range(10):
            await journal.publish(f"{name}.{'ab'[number % 2]}.s", b"%d" % number, str(number))
        await journal.discard(f"{name}.a.*", 6)
        assert await stored(journal, name) == [b"1", b"3", b"5", b"6", b"7", b"8", b"9"]
        await journal.discard(f"{name}.a.*", 6)
        assert (await journal.page(f"{name}.>", Place())).place.sequence == 10


async def test_a_message_has_an_age_of_its_own(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await bus.journal(name, f"{name}.*", RESULTS)
        await journal.publish(f"{name}.x", b"short", "1", 1)
        await journal.publish(f"{name}.x", b"long", "2", 600)
        await until_stored(journal, name, [b"long"])
