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
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet

from hams_shared.errors import HamsError

log = logging.getLogger(__name__)

PREFIX = "hams-mailbox-"
MAX_ADDRESS = 64
"""Longest address, characters: the name of a socket, folder included, has at most 107 bytes."""
MAX_BYTES = 1 << 16
"""Largest message, bytes. Linux lets a sender have 208 KiB unread; pixels go in shared memory anyway."""
MAX_LINKS = 256
"""Most mailboxes that a process keeps a socket for; beyond, the one used longest ago gives way."""
NEW_S = 10.0
"""A mailbox so young may not take messages yet; others that do not are abandoned, also when from the future: the clock
was set back."""


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
        self._errors = 0

    def listen(self, handler: Callable[[bytes], None]) -> None:
        """Call `handler` on the event loop for each message from now on; an exception in it is logged."""
        if self._socket is not None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket, self._read, self._socket, handler, bytearray(MAX_BYTES))

    def _read(self, source: socket.socket, handler: Callable[[bytes], None], buffer: bytearray) -> None:
        try:
            size = source.recv_into(buffer)  # one message: the loop calls again for the next, others come between
        except BlockingIOError:
            return
        try:
            handler(bytes(memoryview(buffer)[:size]))
        except Exception as error:
            self._errors += 1
            if self._errors & (self._errors - 1) == 0:  # 1, 2, 4, 8 …: a flood does not fill the log
                text = "message in a mailbox (%d bad ones so far): %s"
                log.error(text, self._errors, error, exc_info=not isinstance(error, HamsError))

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
        self._opened: WeakSet[Mailbox] = WeakSet()
        self._lock = threading.Lock()
        self._links: OrderedDict[str, socket.socket] = OrderedDict()
        """By address: the kernel charges unread messages to the socket that sent them, so that a receiver that has
        stopped would fill one that all share."""

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
        address = message.mailbox
        if self._folder is None or not _is_address(address) or len(message.data) > MAX_BYTES:
            return False
        with self._lock:
            try:
                self._link(self._folder, address).send(message.data)
            except BlockingIOError:  # it is full
                return False
            except OSError:  # it is gone, or another user's
                self._unlink(address)
                return False
        return True

    def _link(self, folder: Path, address: str) -> socket.socket:
        link = self._links.get(address)
        if link is None:
            while len(self._links) >= MAX_LINKS:
                self._unlink(next(iter(self._links)))
            link = self._links[address] = _socket()
            link.connect(f"{folder}/{address}")
        self._links.move_to_end(address)
        return link

    def _unlink(self, address: str) -> None:
        link = self._links.pop(address, None)
        if link is not None:
            link.close()

    def close(self) -> None:
        """Send no more, and close those opened; idempotent."""
        with self._lock:
            self._folder = None
            while self._links:
                self._unlink(next(iter(self._links)))
        for mailbox in self._opened:
            mailbox.close()


def _remove_abandoned(folder: Path) -> None:
    """Delete the mailboxes whose owners have died."""
    for path in folder.iterdir():
        if _is_address(path.name):
            with suppress(OSError), _socket() as probe:
                age = abs(time.time() - path.lstat().st_mtime)
                if age > NEW_S and probe.connect_ex(str(path)) == errno.ECONNREFUSED:
                    path.unlink()


def _is_address(text: str) -> bool:
    return text.startswith(PREFIX) and len(text) <= MAX_ADDRESS and text.removeprefix(PREFIX).isalnum()


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
