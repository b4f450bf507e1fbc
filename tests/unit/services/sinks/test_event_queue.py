"""The queue of events on the disk: restarts, bounds, files that are none."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from hams_client import Event
from hams_services.sinks.courier import Courier
from hams_services.sinks.event_queue import EventQueue, Waiting
from hams_services.sinks.webhook import Webhook
from hams_shared.errors import NoSpaceError, SourceError
from hams_shared.runtime.lifecycle import ended
from support.events import event
from support.hook_server import hook_server
from support.small_disk import small_disk
from support.wait import until


def test_a_restart_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "queue"
    queue = EventQueue(path)
    assert (queue.after, queue.first(), len(queue)) == (None, None, 0)
    queue.put(3, "a", b"one")
    queue.put(5, "b", b"two")
    queue.pass_by(9)
    queue.close()
    assert path.stat().st_mode & 0o777 == 0o600
    again = EventQueue(path)
    assert (again.after, again.first(), len(again)) == (9, Waiting(1, "a", b"one"), 2)
    again.done(Waiting(1, "a", b"one"), refused=True)
    again.close()
    last = EventQueue(path)
    assert (last.first(), len(last), last.refused) == (Waiting(2, "b", b"two"), 1, 1)


@pytest.mark.parametrize("earlier", [False, True])
def test_nobody_else_reads_the_queue_or_its_log(tmp_path: Path, earlier: bool) -> None:
    path = tmp_path / "queue"
    if earlier:  # a version before left its files to all
        EventQueue(path).close()
        path.chmod(0o644)
    queue = EventQueue(path)
    queue.put(1, "a", b"one")
    assert {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {"queue": 0o600, "queue-wal": 0o600}
    queue.close()


def test_a_broker_that_lost_its_store_counts_anew(tmp_path: Path) -> None:
    queue = EventQueue(tmp_path / "queue")
    queue.put(500, "a", b"one")
    queue.put(1, "b", b"two")
    assert (queue.after, len(queue)) == (1, 2)


async def test_a_full_queue_takes_no_more_until_there_is_room(tmp_path: Path) -> None:
    queue = EventQueue(tmp_path / "queue", max_events=2)
    with hook_server() as hooks:
        hooks.statuses = [503]
        courier = Courier(queue, Webhook(hooks.url))
        made = [Event(**event("new", track).model_dump(), sequence=track) for track in range(1, 6)]

        async def take() -> None:
            for one in made:
                await courier.take(one)
                assert len(queue) <= 2

        taking = asyncio.create_task(take())
        await until(lambda: queue.full, what="a full queue")
        assert queue.after == 2  # the journal keeps what follows
        sending = asyncio.create_task(courier.send())
        await until(lambda: courier.sent == 5, what="all events")
        await ended([taking, sending])
    assert [one["track"] for one in hooks.posted] == [1, 1, 2, 3, 4, 5]


def test_bytes_are_bounded_too() -> None:
    queue = EventQueue(None, max_bytes=10)
    queue.put(1, "a", bytes(9))
    assert not queue.full
    queue.put(2, "b", bytes(9))
    assert queue.full


def test_files_that_are_no_queue(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("something else entirely, and longer than a header of SQLite has to be" * 20)
    with pytest.raises(SourceError, match=r"is no queue, or damaged.*delete it"):
        EventQueue(other)
    with pytest.raises(SourceError, match="cannot use the queue"):
        EventQueue(tmp_path / "none" / "queue")
    newer = tmp_path / "newer"
    with sqlite3.connect(newer) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    with pytest.raises(SourceError, match="of another version"):
        EventQueue(newer)


def test_a_second_sink_with_the_same_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hams_services.sinks.event_queue.LOCKED_S", 0.01)
    queue = EventQueue(tmp_path / "queue")
    queue.put(1, "a", b"one")
    with pytest.raises(SourceError, match="another program uses"):
        EventQueue(tmp_path / "queue")
    queue.close()
    EventQueue(tmp_path / "queue").close()


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        queue = EventQueue(disk / "queue")
        with pytest.raises(NoSpaceError, match="the disk is full"):
            for sequence in range(1, 1000):
                queue.put(sequence, f"e{sequence}", bytes(1000))
        assert queue.after == len(queue) > 10
        queue.close()
        again = EventQueue(disk / "queue")
        assert again.after == len(again) > 10
        again.close()
