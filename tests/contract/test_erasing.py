"""What is deleted is gone: from reads on either broker, and from every file of nats-server's store."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import pytest

from hams_services.ctl.system.broker import MAX_PAYLOAD, Broker
from hams_services.security.folder import set_up_site
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.nats.erasing import erases, rewrite
from hams_shared.bus.protocol import Bounds, Place
from hams_shared.errors import RefusedError
from hams_shared.runtime.credentials import load
from hams_shared.wire import subjects
from support.nats_server import NatsServer
from support.wait import until

BOUNDS = Bounds(bytes=1_000_000, age_s=3600, per_subject=100, duplicate_s=60)


def on_disk(store: Path, *needles: bytes) -> set[bytes]:
    """Those of `needles` that are in any file of the broker's store."""
    while True:
        with suppress(FileNotFoundError):  # the broker removed one meanwhile
            files = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
            return {one for one in needles if any(one in data for data in files)}


def secret(number: int) -> bytes:
    return b"<vector %d of a person>" % number * 5


async def test_a_bucket_that_erases_is_a_bucket(connect: Any, name: str) -> None:
    async with connect() as bus:
        bucket = await bus.kv(name, erase=True)
        first = await bucket.put("a", b"1")
        assert await bucket.update("a", b"2", first) > first
        with pytest.raises(RefusedError):
            await bucket.update("a", b"3", first)
        with pytest.raises(RefusedError):
            await bucket.create("a", b"3")
        await bucket.put("b", b"4")
        assert {key: entry.value for key, entry in (await bucket.entries()).items()} == {"a": b"2", "b": b"4"}
        await bucket.delete("a")
        await bucket.delete("a")
        assert (await bucket.get("a"), set(await bucket.entries())) == (None, {"b"})
        await bucket.create("a", b"5")
        entry = await bucket.get("a")
        assert entry is not None
        assert entry.value == b"5"


async def test_replaced_and_deleted_values_are_in_no_file_of_the_broker(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url) as bus:
        bucket = await bus.kv("people", erase=True)
        revision = await bucket.create("a", secret(1))
        for number in (2, 3):
            revision = await bucket.update("a", secret(number), revision)
        await bucket.put("a", secret(4))
        await bucket.put("b", secret(5))
        await bucket.delete("b")
        await bucket.delete("none")
        secrets = [secret(number) for number in range(1, 6)]
        assert on_disk(own_nats_server.store, *secrets) == {secret(4)}
        await bucket.delete("a")
        await bucket.create("a", b"new")
        assert on_disk(own_nats_server.store, *secrets) == set()
    own_nats_server.restart()
    assert on_disk(own_nats_server.store, *secrets) == set()
    async with NatsBus(own_nats_server.url) as bus:
        assert set(await (await bus.kv("people", erase=True)).entries()) == {"a"}


async def test_a_bucket_of_an_earlier_version_works_and_is_rewritten(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url) as bus:
        old = await bus.kv("people")  # as earlier versions made it
        await old.put("a", secret(1))
        await old.put("b", secret(2))
        bucket = await bus.kv("people", erase=True)
        await bucket.delete("a")
        assert not await erases(bus, "people")
        assert on_disk(own_nats_server.store, secret(1)) == {secret(1)}  # nats-server keeps it
        assert await rewrite(bus, "people") == 1
        assert await erases(bus, "people")
        # nats-server removes the files of a deleted stream after it has answered
        await until(lambda: on_disk(own_nats_server.store, secret(1), secret(2)) == {secret(2)})
        await bucket.delete("b")
        assert await bucket.entries() == {}
        fresh = await bus.kv("people", erase=True)
        await fresh.put("c", secret(3))
        await fresh.delete("c")
        assert on_disk(own_nats_server.store, secret(3)) == set()


async def test_what_a_crash_left_is_erased_by_the_next_change(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url) as bus:
        bucket = await bus.kv("people", erase=True)
        await bucket.put("a", secret(1))
        raw = await nats.connect(own_nats_server.url)
        await raw.jetstream(timeout=60).publish("$KV.people.a", secret(2))  # its writer ended before it erased
        await raw.close()
        await bucket.put("a", b"new")
        assert on_disk(own_nats_server.store, secret(1), secret(2)) == set()


async def test_a_message_of_a_journal_is_erased(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await bus.journal(name, f"{name}.>", BOUNDS)
        for number in range(3):
            await journal.publish(f"{name}.x", secret(number), str(number))
        await journal.erase(2)
        await journal.erase(2)
        await journal.erase(99)
        page = await journal.page(f"{name}.>", Place())
        assert [(one.sequence, one.data) for one in page.entries] == [(1, secret(0)), (3, secret(2))]
        kept = await bus.journal(f"{name}k", f"{name}k.>", Bounds(1_000_000, 3600, 100, 60, append_only=True))
        await kept.publish(f"{name}k.x", b"", "1")
        with pytest.raises(RefusedError, match="append-only"):
            await kept.erase(1)


async def test_an_erased_message_is_in_no_file(own_nats_server: NatsServer, tmp_path: Path) -> None:
    async with NatsBus(own_nats_server.url) as bus:
        journal = await bus.journal("crops", "crops.>", BOUNDS)
        for number in range(3):
            await journal.publish("crops.x", secret(number), str(number))
        await journal.erase(2)
        assert on_disk(own_nats_server.store, *map(secret, range(3))) == {secret(0), secret(2)}


async def test_the_pipeline_has_the_right_to_erase(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site, store = tmp_path / "site", tmp_path / "store"
    set_up_site(site, [], ["box"], max_payload=MAX_PAYLOAD)
    async with Broker(store, secrets=site) as broker:
        async with NatsBus(broker.url, credentials=load(site / "pipeline.creds")) as bus:
            bucket = await bus.kv(subjects.bucket(subjects.GALLERIES), erase=True)
            await bucket.put("face.who.net.0", secret(1))
            await bucket.put("face.who.net.0", b"new")
        assert on_disk(store, secret(1)) == set()
    assert "stays on the broker's disk" not in caplog.text
