"""Messages from process to process of one host: what arrives, what has to go by the broker, and what is left behind."""

from __future__ import annotations

import gc
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hams_shared.bus.mailbox import MAX_BYTES, NEW_S, PREFIX, Mailbox, Mailboxes, Outgoing
from hams_shared.errors import MessageError
from hams_shared.wire.frame_pool import FOLDER
from support.wait import until


@pytest.fixture
def folder() -> Iterator[Path]:
    """The name of a socket has at most 107 bytes, more than many a `tmp_path` leaves."""
    with TemporaryDirectory(dir=FOLDER) as made:
        yield Path(made)


@pytest.fixture
def mailboxes(folder: Path) -> Iterator[Mailboxes]:
    with closing(Mailboxes(folder)) as made:
        yield made


@pytest.fixture
def mailbox(mailboxes: Mailboxes) -> Iterator[Mailbox]:
    with closing(mailboxes.open()) as made:
        yield made


def to(mailbox: Mailbox, data: bytes) -> Outgoing:
    return Outgoing("subject", data, mailbox.address)


def listened(mailbox: Mailbox) -> list[bytes]:
    """What comes into a mailbox from now on."""
    received: list[bytes] = []

    def take(data: bytes) -> None:
        if data == b"bad":
            raise MessageError("not what is expected")
        received.append(data)

    mailbox.listen(take)
    return received


async def test_messages_arrive_whole_and_in_order(mailboxes: Mailboxes, mailbox: Mailbox) -> None:
    messages = [b"", b"one", bytes(range(256)) * 256, b"\xc1HAMS"]
    assert len(messages[2]) == MAX_BYTES
    received = listened(mailbox)
    for data in messages:
        assert mailboxes.send(to(mailbox, data))
    await until(lambda: len(received) == len(messages))
    assert received == messages


async def test_a_handler_that_fails_takes_the_next_message(
    mailboxes: Mailboxes, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    received = listened(mailbox)
    for data in (b"bad", b"good"):
        assert mailboxes.send(to(mailbox, data))
    await until(lambda: received == [b"good"])
    assert "message in a mailbox (1 bad ones so far): not what is expected" in caplog.text


async def test_a_flood_leaves_turns_to_others(mailboxes: Mailboxes, mailbox: Mailbox) -> None:
    """There is always another message while a thread sends all the time."""
    ended = threading.Event()

    def flood() -> None:
        while not ended.is_set():
            mailboxes.send(to(mailbox, b"x"))

    thread = threading.Thread(target=flood)
    received = listened(mailbox)
    thread.start()
    try:
        await until(lambda: len(received) > 500)
    finally:
        ended.set()
        thread.join()


async def test_a_handler_may_close_its_mailbox(mailboxes: Mailboxes, mailbox: Mailbox) -> None:
    taken: list[bytes] = []

    def take(data: bytes) -> None:
        taken.append(data)
        mailbox.close()

    mailbox.listen(take)
    for data in (b"first", b"second"):
        assert mailboxes.send(to(mailbox, data))
    await until(lambda: taken)
    assert not mailboxes.send(to(mailbox, b"third"))
    assert taken == [b"first"]


def test_what_finds_no_room_goes_by_the_broker(mailboxes: Mailboxes, mailbox: Mailbox) -> None:
    taken = 0
    while mailboxes.send(to(mailbox, bytes(1000))):
        taken += 1
        assert taken < 100_000, "a mailbox that nobody reads takes messages without end"
    assert taken > 0


@pytest.mark.parametrize(
    "address",
    ["", "hams-mailbox-", "hams-mailbox-gone", "hams-frames-1", "../hams-mailbox-1", "hams-mailbox-/../../etc/passwd"],
)
def test_what_has_no_mailbox_goes_by_the_broker(mailboxes: Mailboxes, address: str) -> None:
    assert not mailboxes.send(Outgoing("subject", b"x", address))


@pytest.mark.parametrize("size", [300, 20_000, MAX_BYTES])
async def test_a_receiver_that_has_stopped_blocks_no_other(mailboxes: Mailboxes, mailbox: Mailbox, size: int) -> None:
    while mailboxes.send(to(mailbox, bytes(size))):
        pass
    with closing(mailboxes.open()) as other:
        received = listened(other)
        assert mailboxes.send(to(other, bytes(size)))
        await until(lambda: received)


async def test_more_mailboxes_than_a_process_keeps_sockets_for(
    mailboxes: Mailboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hams_shared.bus.mailbox.MAX_LINKS", 2)
    several = [mailboxes.open() for _ in range(4)]
    received = [listened(one) for one in several]
    gc.collect()  # what other tests left behind closes now, and not between the two counts
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        for one in several:
            assert mailboxes.send(to(one, b"x"))
    await until(lambda: [len(one) for one in received] == [3] * 4)
    assert len(os.listdir("/proc/self/fd")) == before + 2
    for one in several:
        one.close()


def test_a_large_message_goes_by_the_broker(mailboxes: Mailboxes, mailbox: Mailbox) -> None:
    assert not mailboxes.send(to(mailbox, bytes(MAX_BYTES + 1)))


def test_a_closed_mailbox_takes_nothing_and_leaves_nothing(
    mailboxes: Mailboxes, mailbox: Mailbox, folder: Path
) -> None:
    mailbox.close()
    mailbox.close()
    assert not mailboxes.send(to(mailbox, b"x"))
    assert list(folder.iterdir()) == []


def test_only_its_user_may_write_into_it(mailbox: Mailbox, folder: Path) -> None:
    assert stat.S_IMODE((folder / mailbox.address).stat().st_mode) == 0o600


def test_nothing_is_sent_after_the_end(mailboxes: Mailboxes, mailbox: Mailbox) -> None:
    mailboxes.close()
    mailboxes.close()
    assert not mailboxes.send(to(mailbox, b"x"))


@pytest.mark.parametrize("place", [None, Path("/nowhere"), FOLDER / ("x" * 120)])
async def test_without_a_place_all_goes_by_the_broker(place: Path | None) -> None:
    with closing(Mailboxes(place)) as mailboxes, closing(mailboxes.open()) as mailbox:
        assert mailbox.address == ""
        mailbox.listen(_never)
        assert not mailboxes.send(to(mailbox, b"x"))


def _never(_: bytes) -> None:
    raise AssertionError("there is no mailbox")


def test_abandoned_mailboxes_are_deleted_and_others_kept(mailboxes: Mailboxes, mailbox: Mailbox, folder: Path) -> None:
    for name, age in (("old", NEW_S + 1), ("new", 0.0), ("future", -NEW_S - 3600)):
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        dead.bind(str(folder / f"{PREFIX}{name}"))
        dead.close()  # as kill -9 leaves it
        at = os.stat(folder / f"{PREFIX}{name}").st_mtime - age
        os.utime(folder / f"{PREFIX}{name}", (at, at))
    (folder / "hams-frames-1").touch()
    long = f"{PREFIX}{'a' * 200}"  # anybody may make such a file
    (folder / long).touch()
    at = os.stat(folder / mailbox.address).st_mtime - NEW_S - 1
    os.utime(folder / mailbox.address, (at, at))
    with closing(mailboxes.open()) as other:
        left = {path.name for path in folder.iterdir()}
    assert left == {f"{PREFIX}new", "hams-frames-1", long, mailbox.address, other.address}
