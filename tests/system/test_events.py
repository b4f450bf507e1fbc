"""Events over a real broker that is killed, and by `hams-ctl` as a process: nothing is lost, each has one id."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import IO

import pytest

from hams_client import Event, Hams, sync
from hams_services.pipeline.event_history import EventHistory
from hams_services.pipeline.event_outbox import EventOutbox
from hams_services.sinks.event_queue import EventQueue
from hams_shared.bus.nats.client import NatsBus
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import subjects
from support.events import TrackSource, check_tracks, event
from support.hook_server import hook_server
from support.nats_server import NatsServer, own_nats_server
from support.wait import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

__all__ = ["own_nats_server"]


@pytest.fixture
async def outbox(own_nats_server: NatsServer) -> AsyncIterator[EventOutbox]:
    """What a pipeline has of the way of events, over the broker of this test."""
    async with NatsBus(own_nats_server.url) as bus:
        history = EventHistory(bus, lambda: {"grey": ["s0"]})
        await bus.subscribe(subjects.events_after(), history.answer, queue="pipeline")
        await bus.flush()
        made = EventOutbox(bus, "grey")
        await made.recover()
        running = asyncio.create_task(made.run())
        yield made
        await ended([running])


def ctl(server: NatsServer, *args: str, stdout: IO[bytes] | int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hams_services.ctl", "events", *args, "--nats", server.url]
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=environment)


async def printed(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = await asyncio.to_thread(process.communicate, timeout=120)
    return process.returncode, (out or b"").decode(), err.decode()


async def read(server: NatsServer, got: list[Event], after: int, count: int) -> None:
    """Read events as an application that is started anew."""
    async with NatsBus(server.url) as bus, aclosing(Hams(bus).events("grey", after=after)) as events:
        async for one in events:
            got.append(one)
            if len(got) >= count:
                return


async def test_nothing_is_lost_over_restarts_of_broker_and_consumer(
    own_nats_server: NatsServer, outbox: EventOutbox
) -> None:
    source = TrackSource(outbox, 1, "r1")
    got: list[Event] = []
    for turn in range(4):
        for _ in range(15):
            source.step()
        reader = asyncio.create_task(read(own_nats_server, got, got[-1].sequence if got else 0, len(got) + 10))
        if turn < 3:
            await asyncio.to_thread(own_nats_server.stop, kill=turn % 2 == 0)
            for _ in range(15):
                source.step()
            await asyncio.to_thread(own_nats_server.start)
        while not reader.done() or reader.exception() is not None:
            await asyncio.wait([reader])
            if reader.exception() is not None:  # it met the broker while it was away, and is started again
                reader = asyncio.create_task(read(own_nats_server, got, got[-1].sequence if got else 0, len(got) + 10))
    source.end()
    assert await outbox.flush(60)
    await read(own_nats_server, got, got[-1].sequence, outbox.published)
    assert not outbox.dropped
    assert len({one.id for one in got}) == len(got) == outbox.published
    assert [one.sequence for one in got] == list(range(1, len(got) + 1))
    assert check_tracks(got) > 20

    def blocking() -> list[Event]:
        with sync.connect(own_nats_server.url) as hams:
            return list(hams.events("grey", after=0, follow=False))

    assert await asyncio.to_thread(blocking) == got


async def test_hams_ctl_follows_over_a_restart_of_the_broker(
    own_nats_server: NatsServer, outbox: EventOutbox, tmp_path: Path
) -> None:
    source = TrackSource(outbox, 2, "r1")
    file = tmp_path / "events.jsonl"
    with file.open("wb") as into:
        process = ctl(own_nats_server, "grey", "--follow", "--since", "1h", "--json", stdout=into)

    def lines() -> list[str]:
        return file.read_text().splitlines()

    try:
        for _ in range(5):
            source.step()
        await until(lines, timeout=30, what="a first event")
        await asyncio.to_thread(own_nats_server.restart, kill=True)
        for _ in range(20):
            source.step()
        source.end()
        assert await outbox.flush(60)
        await until(lambda: len(lines()) == outbox.published, timeout=30, what="all events")
    finally:
        process.send_signal(signal.SIGINT)
        code, _, err = await printed(process)
    assert code == 0, err
    found = [Event.model_validate(json.loads(line)) for line in lines()]
    assert check_tracks(found) == len({one.track for one in found})

    code, out, _ = await printed(ctl(own_nats_server, "grey", "--stream", "s0", "--kind", "end"))
    rows = out.splitlines()
    assert code == 0
    assert rows[0].split() == ["time", "stream", "event", "track", "object"]
    assert len(rows) - 1 == sum(one.kind == "end" for one in found)
    assert max(map(len, rows)) <= 80
    code, _, err = await printed(ctl(own_nats_server, "grey", "--stream", "s7"))
    assert (code, "no stream s7" in err, "it has s0" in err) == (5, True, True)
    code, _, err = await printed(ctl(own_nats_server, "gray"))
    assert (code, "group gray is not deployed" in err) == (5, True)


async def test_a_webhook_gets_every_event_of_a_rule_over_its_own_death(
    own_nats_server: NatsServer, outbox: EventOutbox, tmp_path: Path
) -> None:
    def post(url: str) -> subprocess.Popen[bytes]:
        options = ("--rule", "stays", "--queue", str(tmp_path / "queue"), "--nats", own_nats_server.url)
        return subprocess.Popen([sys.executable, "-m", "hams_services.ctl", "sink", "webhook", "grey", url, *options])

    with hook_server() as hooks:
        queue = EventQueue(tmp_path / "queue")
        queue.pass_by(0)  # from the oldest
        queue.close()
        hooks.statuses = [204, 503, 204, 0]
        process = post(hooks.url)
        outbox.put([event("rule", track, rule=("stays", "other")[track % 2]) for track in range(8)])
        await until(lambda: len(hooks.posted) >= 3, timeout=30, what="a first event")
        process.kill()
        process.wait(10)
        process = post(hooks.url)
        outbox.put([event("rule", track, rule="stays") for track in range(8, 11)])
        wanted = [0, 2, 4, 6, 8, 9, 10]
        try:
            await until(lambda: hooks.posted and hooks.posted[-1]["track"] == 10, timeout=30, what="all events")
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
    tracks = [one["track"] for one in hooks.posted]
    assert sorted(set(tracks)) == wanted
    assert tracks == sorted(tracks)


async def test_events_wait_in_the_queue_while_nobody_takes_them(
    own_nats_server: NatsServer, outbox: EventOutbox, tmp_path: Path
) -> None:
    """Longer than HAMS keeps them: its broker loses all, and the sink is killed; the receiver comes back."""
    queue = EventQueue(tmp_path / "queue")
    queue.pass_by(0)
    queue.close()

    log = tmp_path / "sink.log"

    def post(url: str) -> subprocess.Popen[bytes]:
        options = ("--queue", str(tmp_path / "queue"), "--nats", own_nats_server.url)
        with log.open("ab") as into:
            command = [sys.executable, "-m", "hams_services.ctl", "sink", "webhook", "grey", url, *options]
            return subprocess.Popen(command, stderr=into)

    async def all_wait(process: subprocess.Popen[bytes]) -> None:
        """It tells after each try, at 0.5, 1.5, 3.5 s and so on, how many wait."""
        await until(lambda: process.poll() is not None or "8 wait" in log.read_text(), timeout=60, what="8 wait")
        assert process.poll() is None, log.read_text()

    with hook_server() as hooks:
        hooks.statuses = [503] * 10_000
        process = post(hooks.url)
        try:
            outbox.put([event("new", track) for track in range(8)])
            await all_wait(process)
        finally:
            process.kill()
            process.wait(60)
            print(log.read_text())  # for a test that failed
        await asyncio.to_thread(own_nats_server.restart, kill=True, empty=True)
        hooks.statuses = []
        hooks.posted.clear()
        process = post(hooks.url)
        try:
            await until(lambda: process.poll() is not None or len(hooks.posted) >= 8, timeout=60, what="all events")
        finally:
            process.send_signal(signal.SIGINT)
            code = await asyncio.to_thread(process.wait, 60)
            assert code == 0, log.read_text()
    assert [one["track"] for one in hooks.posted[:8]] == list(range(8))
