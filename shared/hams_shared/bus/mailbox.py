"""Messages between processes of one host, past the broker: what is sent for every frame, work and answers.

A mailbox is a datagram socket in the memory file system, beside the frames (``/dev/shm``); as with these, only the same
user of the operating system may use it. Its address is random, and new with each process; it travels in heartbeats and
in work. Delivery is at most once, as the bus's. What cannot be handed over goes by the broker: its mailbox is gone or
has no room, or the message is large.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet

from hams_shared.errors import HamsError

log = logging.getLogger(__name__)

PREFIX = "hams-mailbox-"
MAX_BYTES = 1 << 16
"""Largest message, bytes. Linux lets a sender have 208 KiB unread; pixels go in shared memory anyway."""
NEW_S = 10.0
"""A mailbox so young may not take messages yet; older ones that do not are abandoned."""


class Outgoing(NamedTuple):
    """A message with both of its addresses."""

    subject: str
    """For the broker."""
    data: bytes
    mailbox: str = ""
    """Of the receiver, on this host; empty: it has none."""


class Mailbox:
    """Takes the messages to `address`."""

    def __init__(self, path: Path | None = None) -> None:
        """Bind a socket to `path`; without one there is no mailbox: its address is empty. Raises OSError."""
        self.address = "" if path is None else path.name
        self._path = path
        self._socket = None if path is None else _bound(path)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._buffer = bytearray(MAX_BYTES)

    def listen(self, handler: Callable[[bytes], None]) -> None:
        """Call `handler` on the event loop for each message from now on; an exception in it is logged."""
        if self._socket is not None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket, self._read, self._socket, handler)

    def _read(self, source: socket.socket, handler: Callable[[bytes], None]) -> None:
        try:
            size = source.recv_into(self._buffer)  # one message: the loop calls again for the next, others come between
        except BlockingIOError:
            return
        try:
            handler(bytes(memoryview(self._buffer)[:size]))
        except Exception as error:
            log.error("message in a mailbox: %s", error, exc_info=not isinstance(error, HamsError))

    def close(self) -> None:
        """Take no more messages; idempotent."""
        if self._socket is not None and self._path is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)


class Mailboxes:
    """All mailboxes in `folder`, for one process; None: there are none, and all messages go by the broker."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._socket = None if folder is None else _socket()
        self._opened: WeakSet[Mailbox] = WeakSet()

    def open(self) -> Mailbox:
        """Return a new mailbox, without an address where this host has no place for one; abandoned ones are deleted."""
        if self._folder is None:
            return Mailbox()
        try:
            _remove_abandoned(self._folder)
            mailbox = Mailbox(self._folder / (PREFIX + secrets.token_hex(16)))
        except OSError as error:
            log.info("messages go by the broker: no mailbox in %s: %s", self._folder, error)
            return Mailbox()
        self._opened.add(mailbox)
        return mailbox

    def send(self, message: Outgoing) -> bool:
        """Hand a message over; False: it has to go by the broker. For any thread."""
        if self._socket is None or not _is_address(message.mailbox) or len(message.data) > MAX_BYTES:
            return False
        try:
            self._socket.sendto(message.data, f"{self._folder}/{message.mailbox}")
        except OSError:  # it is gone, full, or another user's
            return False
        return True

    def close(self) -> None:
        """Send no more, and close those opened; idempotent."""
        if self._socket is not None:
            self._socket.close()
        for mailbox in self._opened:
            mailbox.close()


def _remove_abandoned(folder: Path) -> None:
    """Delete the mailboxes whose owners have died."""
    for path in folder.glob(PREFIX + "*"):
        with suppress(FileNotFoundError, PermissionError), _socket() as probe:
            if time.time() - path.lstat().st_mtime > NEW_S and probe.connect_ex(str(path)) == errno.ECONNREFUSED:
                path.unlink()


def _is_address(text: str) -> bool:
    return text.startswith(PREFIX) and text.removeprefix(PREFIX).isalnum()


def _bound(path: Path) -> socket.socket:
    made = _socket()
    try:
        os.fchmod(made.fileno(), 0o600)  # before bind: the file is never open to others
        made.bind(str(path))
    except BaseException:
        made.close()
        raise
    return made


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made
