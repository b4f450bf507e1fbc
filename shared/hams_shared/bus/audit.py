"""Who changed what: each change that a person makes is told to the broker, which keeps it for a year.

    hams.v1.audit.<what>.<user>       in the stream hams-audit, which nobody may purge, change or delete

`<user>` is the broker's user of the connection; with credentials the broker lets nobody but the admin write here, so it
is proven. The actor in the entry is what the program states: several people may share the admin's credentials.
"""

from __future__ import annotations

import getpass
import logging
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from hams_shared.bus.journal import entries
from hams_shared.bus.protocol import Bounds, Bus, Journal, Place
from hams_shared.errors import HamsError, MessageError
from hams_shared.runtime.process import host_name
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.audit import AuditEntry, AuditWhat

log = logging.getLogger(__name__)

BOUNDS = Bounds(bytes=32 << 20, age_s=365 * 86_400.0, per_subject=100_000, duplicate_s=120.0, append_only=True)
"""Of the audit of a site: a year, 32 MiB, and 100 000 changes of one kind by one user."""
NOBODY = "local"
"""The user's token in subjects where the broker knows no users."""
LONGEST = 200
"""Longest target and actor, characters."""


async def audit_journal(bus: Bus) -> Journal:
    """Open the journal of all changes, creating it when absent."""
    return await bus.journal(subjects.AUDIT, subjects.audit(), BOUNDS)


class Audit:
    """Tells what a person changes by one connection."""

    def __init__(self, bus: Bus, actor: str = "") -> None:
        """Tell for `actor`; empty: the login of this process."""
        self._bus = bus
        self.actor = actor or login()
        """Who changes something."""

    async def tell(self, what: AuditWhat, target: str, text: str) -> None:
        """Store that `text` was done to `target`. A change that is made stays made: an error is logged, not raised."""
        await self.store(what, entry(self.actor, target, text))

    async def store(self, what: AuditWhat, told: AuditEntry) -> bool:
        """Store an entry, once whatever the number of calls; return whether it is stored."""
        user = subjects.token(self._bus.user) if self._bus.user else NOBODY
        try:
            journal = await audit_journal(self._bus)
            await journal.publish(subjects.audit(what, user), codec.encode(told), told.id)
        except HamsError as error:
            log.warning("the audit lacks this change (%s %s): %s", what, told.target, error)
            return False
        return True


def entry(actor: str, target: str, text: str) -> AuditEntry:
    """Return a new entry of now."""
    return AuditEntry(
        id=uuid.uuid4().hex, at=time.time(), actor=actor[:LONGEST], target=target[:LONGEST], text=text[:1000]
    )


def login() -> str:
    """Return ``login@host`` of this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without a password file
        user = "?"
    return f"{user}@{host_name()}"


@dataclass(frozen=True)
class Audited:
    """A stored change."""

    what: str
    user: str
    """The broker's user; ``local``: a broker without users."""
    entry: AuditEntry


async def stored(bus: Bus, since_s: float, what: str = "*") -> AsyncGenerator[Audited, None]:
    """Yield the changes of the last `since_s` s, oldest first. Raises BrokerError, DeadlineError."""
    async with aclosing(entries(await audit_journal(bus), subjects.audit(what), Place(age_s=since_s))) as found:
        async for one in found:
            kind, _, user = one.subject.removeprefix(subjects.audit("")).partition(".")
            try:
                yield Audited(kind, user, codec.decode(AuditEntry, one.data))
            except MessageError as error:
                log.warning("entry %d of the audit cannot be read: %s", one.sequence, error)
