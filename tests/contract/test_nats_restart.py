"""What only a real broker can do: go away and come back."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import subprocess
import sys
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from hams_shared.bus.journal import follow
from hams_shared.bus.nats import journal as journal_module
from hams_shared.bus.nats import kv as kv_module
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Bounds, Entry, Journal, Message, Place
from hams_shared.bus.urls import redacted
from hams_shared.errors import BrokerError, DeadlineError, HamsError, TooLargeError
from support.nats_server import NatsServer
from support.wait import following, until


@pytest.fixture(autouse=True)
def _what_is_lost_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What went away with the broker is given up before the tests give up: `following` after 30 s."""
    monkeypatch.setattr(journal_module, "ACK_S", 2.0)  # `surely` publishes again
    monkeypatch.setattr(NatsBus, "jetstream", property(lambda bus: bus._nc.jetstream(timeout=20.0)))


async def in_thread(server: NatsServer, *, kill: bool = True, empty: bool = False) -> None:
    await asyncio.to_thread(server.restart, kill=kill, empty=empty)


async def test_publish_and_subscribe_go_on(own_nats_server: NatsServer) -> None:
    got: list[bytes] = []
    states: list[str] = []

    async def take(message: Message) -> None:
        got.append(message.data)

    async with (
        NatsBus(own_nats_server.url) as a,
        NatsBus(
            own_nats_server.url,
            on_disconnect=lambda: states.append("lost"),
            on_reconnect=lambda: states.append("back"),
        ) as b,
    ):
        await a.subscribe("x", take)
        await a.flush()
        await b.publish("x", b"before")
        await until(lambda: got == [b"before"])
        for kill in (True, False):
            await in_thread(own_nats_server, kill=kill)
            await until(lambda: a.connected and b.connected)
            await a.flush()
            await b.publish("x", b"after")
            await until(lambda: got[-1] == b"after")
            got.append(b"")
    assert states == ["lost", "back"] * 2


async def test_flush_waits_for_the_broker_or_the_deadline(own_nats_server: NatsServer) -> None:
    got: list[bytes] = []

    async def take(message: Message) -> None:
        got.append(message.data)

    async with NatsBus(own_nats_server.url) as bus:
        await bus.subscribe("x", take)
        own_nats_server.stop(kill=True)
        await until(lambda: not bus.connected)
        await bus.publish("x", b"buffered")
        with pytest.raises(DeadlineError):
            await bus.flush(0.2)
        with pytest.raises(DeadlineError):
            await bus.request("x", b"", timeout=0.2)
        own_nats_server.start()
        await bus.flush(60)
        await until(lambda: b"buffered" in got)


async def test_the_buffer_for_a_broker_that_is_away_is_bounded(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url, pending_bytes=100_000) as bus:
        own_nats_server.stop(kill=True)
        await until(lambda: not bus.connected)
        for _ in range(90):
            await bus.publish("x", bytes(1000))
        with pytest.raises(BrokerError, match="buffer"):
            await bus.publish("x", bytes(20_000))


async def test_a_watch_sees_the_newest_value(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url) as a, NatsBus(own_nats_server.url) as b:
        kv = await a.kv("b")
        await kv.put("stays", b"1")
        await kv.put("k", b"1")
        await kv.put("goes", b"1")
        async with aclosing((await b.kv("b")).watch()) as watch:
            assert [e and e.key for e in [await following(watch) for _ in range(4)]] == [
                "stays",
                "k",
                "goes",
                None,
            ]
            await in_thread(own_nats_server)
            newest = await kv.put("k", b"2")
            await kv.delete("goes")
            heard = [await following(watch), await following(watch)]
            assert heard[0] == Entry("k", b"2", newest)
            assert heard[1] is not None
            assert (heard[1].key, heard[1].value) == ("goes", None)
            last = await kv.put("stays", b"3")
            assert await following(watch) == Entry("stays", b"3", last)


async def test_data_survive_a_kill(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url) as bus:
        kv, store = await bus.kv("b"), await bus.objects("o")
        revision = await kv.put("k", b"1")
        await store.put("m", bytes(1_000_000))
        await in_thread(own_nats_server)
        assert await kv.get("k") == Entry("k", b"1", revision)
        assert await store.get("m") == bytes(1_000_000)
        assert await kv.update("k", b"2", revision)


async def test_a_broker_that_comes_back_empty(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url) as bus:
        kv, store = await bus.kv("b"), await bus.objects("o")
        for i in range(5):
            await kv.put("old", b"%d" % i)
        await store.put("m", b"data")
        async with aclosing(kv.watch()) as watch:
            assert await following(watch) == Entry("old", b"4", 5)
            assert await following(watch) is None
            await in_thread(own_nats_server, empty=True)
            gone = await following(watch)
            assert gone is not None
            assert (gone.key, gone.value) == ("old", None)
            # The same revision as before, of another bucket.
            assert await kv.put("new", b"1") == 1
            assert await following(watch) == Entry("new", b"1", 1)
        assert await kv.get("old") is None
        assert set(await kv.entries()) == {"new"}
        assert not await store.exists("m")
        await store.put("m", b"data")
        assert await store.get("m") == b"data"


async def test_every_operation_reopens_a_bucket_that_vanished(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url) as bus:
        for number, operation in enumerate(("put", "create", "get", "delete", "entries")):
            kv = await bus.kv(f"b{number}")
            await bus.jetstream.delete_key_value(f"b{number}")
            arguments = {"put": ("k", b""), "create": ("k", b""), "entries": ()}.get(operation, ("k",))
            await getattr(kv, operation)(*arguments)
            await kv.put("after", b"")
        store = await bus.objects("o")
        await bus.jetstream.delete_object_store("o")
        await store.put("m", b"data")
        assert await store.get("m") == b"data"


async def test_a_watch_finds_that_its_bucket_was_replaced_without_a_reconnect(
    own_nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_module, "CHECK_S", 0.2)
    async with NatsBus(own_nats_server.url) as bus:
        kv = await bus.kv("b")
        for i in range(3):
            await kv.put("old", b"%d" % i)
        async with aclosing(kv.watch()) as watch:
            await following(watch)
            assert await following(watch) is None
            await bus.jetstream.delete_key_value("b")
            await kv.put("new", b"1")
            heard = {(e.key, e.value) for e in [await following(watch), await following(watch)] if e}
            assert heard == {("old", None), ("new", b"1")}


async def test_a_service_is_found_again(own_nats_server: NatsServer) -> None:
    async def echo(message: Message) -> None:
        await message.respond(message.data)

    async with NatsBus(own_nats_server.url) as a, NatsBus(own_nats_server.url) as b:
        await a.serve("svc", "1.0.0", {}, {"echo": ("svc.echo", echo)})
        await in_thread(own_nats_server)
        await until(lambda: a.connected and b.connected)
        await a.flush()
        assert (await b.request("svc.echo", b"hi", timeout=60)).data == b"hi"
        assert await b.request("$SRV.PING.svc", b"", timeout=60)


async def test_nobody_at_the_url() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"nats://me:secret@127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(BrokerError) as caught:
            async with NatsBus(url, connect_timeout=0.3):
                pass
    assert "no broker at nats://127.0.0.1" in str(caught.value)
    assert "hams-ctl up" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "nats://", "nats://127.0.0.1:notaport", "http://127.0.0.1:1", "nats://a b"])
async def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(HamsError):
        async with NatsBus(url, connect_timeout=0.3):
            pass


async def test_something_else_at_the_url() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerError, match="no broker at"):
            async with NatsBus(f"nats://127.0.0.1:{port}", connect_timeout=0.5):
                pass


async def test_no_traceback_is_printed(own_nats_server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    gc.collect()  # what earlier tests left complains now
    caplog.clear()
    async with NatsBus(own_nats_server.url) as bus:
        await in_thread(own_nats_server)
        await until(lambda: bus.generation >= 2)
    ours = [record for record in caplog.records if record.name.startswith(("hams_shared", "nats", "asyncio"))]
    assert not [record for record in ours if record.exc_info]


async def test_a_message_larger_than_a_smaller_broker_takes(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", max_payload=4096)
    server.start()
    try:
        async with NatsBus(server.url) as bus:
            kv = await bus.kv("b")
            with pytest.raises(TooLargeError):
                # Fits by itself, but not with its headers: the broker would end the connection.
                await kv.create("k", bytes(4096))
            await kv.put("k", b"still there")
    finally:
        server.stop()


def test_passwords_are_hidden() -> None:
    assert redacted("nats://me:pw@host:1,nats://token@other:2") == "nats://host:1,nats://other:2"


def test_a_process_with_an_open_bus_ends_without_noise(nats_server: NatsServer) -> None:
    code = f"""
import asyncio
from contextlib import aclosing, suppress
from hams_shared.bus.nats.client import NatsBus

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # -X dev complains of any stall of 0.1 s
    async with NatsBus({nats_server.url!r}, connect_timeout=60) as bus:
        kv = await bus.kv("noise")
        async with aclosing(kv.watch()) as watch:
            await anext(watch)

asyncio.run(main())
"""
    shared = Path(kv_module.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code],
        env={"PYTHONPATH": str(shared)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


JOURNAL = Bounds(bytes=1_000_000, age_s=3600, per_subject=1000, duplicate_s=60)


async def surely(journal: Journal, data: bytes, id: str) -> int:
    """Publish again and again: what is sent while the broker goes away may be lost."""
    async with asyncio.timeout(120):
        while True:
            with suppress(DeadlineError):
                return await journal.publish("j.x", data, id)


async def test_a_journal_and_its_ids_survive_a_kill(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url) as a, NatsBus(own_nats_server.url) as b:
        journal = await a.journal("j", "j.*", JOURNAL)
        same = await b.journal("j", "j.*", JOURNAL)
        async with aclosing(follow(b, "j.x", lambda at: same.page("j.x", at), Place())) as entries:
            for number in range(3):
                assert await surely(journal, b"%d" % number, f"id{number}") == number + 1
            assert [(await following(entries)).data for _ in range(3)] == [b"0", b"1", b"2"]
            await in_thread(own_nats_server)
            assert await surely(journal, b"2", "id2") == 3
            assert await surely(journal, b"3", "id3") == 4
            assert (await following(entries, 30)).data == b"3"


async def test_a_follower_reads_another_journal_from_its_beginning(own_nats_server: NatsServer) -> None:
    async with NatsBus(own_nats_server.url) as bus:
        journal = await bus.journal("j", "j.*", JOURNAL)
        for number in range(3):
            await surely(journal, b"%d" % number, f"id{number}")
        async with aclosing(follow(bus, "j.x", lambda at: journal.page("j.x", at), Place(1))) as entries:
            assert [(await following(entries)).sequence for _ in range(2)] == [2, 3]
            await in_thread(own_nats_server, empty=True)
            for number in range(5):  # more than before: the sequence alone would not tell
                await surely(journal, b"n%d" % number, f"new{number}")
            assert [(await following(entries, 30)).data for _ in range(5)] == [b"n%d" % i for i in range(5)]


async def test_a_question_ends_with_the_broker_that_was_asked(
    own_nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads are asked anew; of a write nobody knows whether it was done, so its caller decides."""
    monkeypatch.setattr(journal_module, "ACK_S", 60.0)  # what nobody answers is waited for so long
    monkeypatch.setattr(NatsBus, "jetstream", property(lambda bus: bus._nc.jetstream(timeout=60.0)))
    async with NatsBus(own_nats_server.url) as bus:
        bucket, journal = await bus.kv("b"), await bus.journal("j", "j.*", JOURNAL)
        await bucket.put("k", b"v")
        own_nats_server.pause()
        reads = [asyncio.create_task(one) for one in (bucket.get("k"), journal.page("j.x", Place()))]
        writes = [asyncio.create_task(one) for one in (bucket.put("k", b"w"), journal.publish("j.x", b"", "id"))]
        await until(lambda: len(bus.unanswered) == 4)
        await asyncio.to_thread(own_nats_server.stop, kill=True)
        asked = asyncio.get_running_loop().time()
        for write in writes:
            with pytest.raises(DeadlineError):
                await write
        assert asyncio.get_running_loop().time() - asked < 20
        assert not any(read.done() for read in reads)
        await asyncio.to_thread(own_nats_server.start)
        entry, page = await asyncio.gather(*reads)
        assert entry is not None
        assert entry.value in (b"v", b"w")
        assert len(page.entries) <= 1
