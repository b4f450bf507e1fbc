"""The disk of the embedded broker's store: whether it is full, and what to do then.

After a full disk nats-server stores nothing more in the streams that hit it, or switches JetStream off, until it is
restarted. Its supervisor therefore watches the disk, and restarts the broker once there is room.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hams_shared.errors import DISK_FULL, BrokerError, DeadlineError, DeviceSpecError
from hams_shared.runtime.runfile import running

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Pause between two looks at the disk, s."""
SOON_S = 0.25
"""The same while it is full, or the broker may have stopped storing."""
ROOM_BYTES = 256 * 1024
"""A disk with less room than this counts as full, bytes."""
PLENTY_BYTES = 64 << 20
"""With this much room the disk is not probed unless the broker complains, bytes."""
AGAIN_S = 1.0
"""Pause before a broker that still complains is restarted again, s; it doubles."""
LONGEST_S = 600.0
"""Longest such pause, s."""
SETTLED_S = 10.0
"""A restart has helped when the broker complained of nothing for so long after it, s."""

_LOGGED = (b"no space left on device", b"disk quota exceeded", b"out of space", b"out of resources")
"""What nats-server logs when its disk is full."""

Action = Literal["", "full", "restart"]


def is_full(folder: Path) -> bool:
    """Whether the disk or quota of `folder` has no room for :data:`ROOM_BYTES`; False where that is unknown.

    It writes and removes a file of that size, since only a write shows a quota.
    """
    probe = folder / f".room-{os.getpid()}"
    try:
        try:
            with probe.open("wb", buffering=0) as file:
                left = ROOM_BYTES
                while left > 0:
                    left -= file.write(bytes(left))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return error.errno in DISK_FULL
    return False


def has_plenty(folder: Path) -> bool:
    """Whether the file system of `folder` reports room, without regard to quotas. Costs nothing."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= PLENTY_BYTES and (not found.f_files or found.f_favail > 0)


GOES_ON = "nothing can be deployed, planned or measured; make room: HAMS then continues by itself"


def full(folder: Path, hint: str = GOES_ON) -> BrokerError:
    """Return the error for a full disk."""
    return BrokerError(f"the disk of the broker's store is full: {folder}", hint)


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Raise :func:`full` in place of an operating system's error about a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise full(folder) from None
        raise BrokerError(f"cannot write the broker's folder {folder}: {error.strerror}") from None


def own_store(url: str) -> Path | None:
    """Return the store of the broker at `url` if a `hams-ctl up` on this machine runs that broker."""
    found = running()
    return found.store if found is not None and found.url == url else None


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Report a full disk of the broker at `url`: in place of the error that it causes, else as a warning."""
    with instead(own_store(url)):
        yield
    store = own_store(url)
    if store is not None and is_full(store):
        log.warning("%s", full(store))


@contextmanager
def instead(store: Path | None) -> Iterator[None]:
    """While the disk of `store` is full, raise :func:`full` in place of the error that it causes."""
    try:
        yield
    except (BrokerError, DeadlineError, DeviceSpecError) as error:
        if store is None or not is_full(store):
            raise
        raise full(store) from error


@dataclass
class DiskWatch:
    """Decides what to do about the disk. Pure: `now` is any monotonic clock, s."""

    full: bool = False
    """Whether a full disk was reported, and room not yet."""
    harmed: bool = False
    """Whether the broker may have stopped storing."""
    _restarted: float = -math.inf
    _not_before: float = -math.inf
    _pause: float = AGAIN_S

    def decide(self, now: float, *, room: bool, complained: bool) -> Action:
        """Take one observation: whether there is room, and whether the broker complained since the last one.

        Returns ``full`` (report it), ``restart`` (restart the broker: there is room again), or an empty text.
        """
        self.harmed = self.harmed or complained or not room
        if not room:
            reported, self.full = self.full, True
            return "" if reported else "full"
        if not self.harmed:
            if now >= self._restarted + SETTLED_S:  # it has helped: what comes next is another full disk
                self._not_before, self._pause = now, AGAIN_S
            return ""
        if now < self._not_before:
            return ""
        self.full = self.harmed = False
        self._restarted, self._not_before = now, now + self._pause
        self._pause = min(LONGEST_S, 2 * self._pause)
        return "restart"


class Complaints:
    """Finds complaints about a full disk in what nats-server adds to its log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.skip()

    def skip(self) -> None:
        """Skip the present contents."""
        try:
            self._at = self._path.stat().st_size
        except OSError:
            self._at = 0

    def new(self) -> bool:
        """Whether there is a complaint since the last call, or since :meth:`skip`."""
        try:
            with self._path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                # A rotated log is smaller than it was: all of it is new.
                file.seek(max(self._at if self._at <= end else 0, end - 65536))
                text = file.read().lower()
                self._at = end
        except OSError:
            return False
        return any(words in text for words in _LOGGED)
