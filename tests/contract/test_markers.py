"""Markers of deleted keys on a real broker: they end, and until then and after it nothing else is different."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.js.api import StreamConfig

from hams_shared.bus.nats import kv
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import KeyValue
from hams_shared.errors import RefusedError
from support.nats_server import NatsServer
from support.wait import following


@pytest.fixture
async def bus(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NatsBus]:
    monkeypatch.setattr(kv, "MARKER_S", 3.0)
    async with NatsBus(nats_server.url) as bus:
        yield bus


async def messages(bus: NatsBus, name: str) -> int:
    jetstream: Any = bus.jetstream
    return int((await jetstream.stream_info(f"KV_{name}")).state.messages)


async def emptied(bus: NatsBus, name: str) -> None:
    for _ in range(200):
        if not await messages(bus, name):
            return
        await asyncio.sleep(0.1)
    pytest.fail("the marker stays")


async def test_a_marker_ends_and_the_key_can_be_made_again(bus: NatsBus, name: str) -> None:
    bucket = await bus.kv(name)
    watch = bucket.watch()
    assert await following(watch) is None
    old = await bucket.put("k", b"1")
    assert (await following(watch)).value == b"1"
    await bucket.delete("k", old)
    assert (await following(watch)).value is None
    await emptied(bus, name)
    assert await bucket.get("k") is None
    assert await bucket.entries() == {}
    await bucket.delete("k")  # absent: no new marker
    assert await messages(bus, name) == 0
    with pytest.raises(RefusedError):
        await bucket.update("k", b"2", old)  # whoever read it before it was deleted
    new = await bucket.create("k", b"3")
    found = await following(watch)  # the end of the marker itself was no news
    assert (found.value, found.revision) == (b"3", new)
    await asyncio.sleep(3.5)
    assert (await bucket.get("k")).value == b"3"  # type: ignore[union-attr]  # only the marker had an end
    await watch.aclose()


async def test_a_marker_is_there_until_its_end(bus: NatsBus, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv, "MARKER_S", 3600.0)
    bucket = await bus.kv(name)
    await bucket.put("k", b"1")
    await bucket.delete("k")
    assert await messages(bus, name) == 1


async def test_a_key_is_made_again_while_its_marker_is_there(bus: NatsBus, name: str) -> None:
    bucket = await bus.kv(name)
    await bucket.put("k", b"1")
    await bucket.delete("k")
    await bucket.create("k", b"2")
    await asyncio.sleep(3.5)
    assert (await bucket.get("k")).value == b"2"  # type: ignore[union-attr]


async def test_a_bucket_of_an_earlier_version_keeps_its_markers(bus: NatsBus, name: str) -> None:
    jetstream: Any = bus.jetstream
    await jetstream.add_stream(
        StreamConfig(name=f"KV_{name}", subjects=[f"$KV.{name}.>"], max_msgs_per_subject=1, allow_rollup_hdrs=True)
    )
    bucket = await bus.kv(name)
    for key in ("a", "b"):
        await bucket.put(key, b"1")
        await bucket.delete(key)
    assert await bucket.entries() == {}
    assert await messages(bus, name) == 2
    await bucket.create("a", b"2")


@pytest.mark.parametrize("own", [True, False])
async def test_a_delete_that_comes_too_late_is_refused(
    bus: NatsBus, name: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone else changes the key between the look at it and the marker."""
    bucket = await bus.kv(name)
    other: KeyValue = await bus.kv(name)
    if not own:
        monkeypatch.setattr(bucket, "_markers_end", False)
    old = await bucket.put("k", b"1")
    mark = bucket._mark_deleted  # type: ignore[attr-defined]

    async def late(key: str, revision: int | None) -> None:
        await other.put(key, b"2")
        await mark(key, revision)

    monkeypatch.setattr(bucket, "_mark_deleted", late)
    with pytest.raises(RefusedError):
        await bucket.delete("k", old)
    assert (await bucket.get("k")).value == b"2"  # type: ignore[union-attr]
