"""Reading a journal without an end: what is stored from a place on, then each message as it comes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

from hams_shared.bus.protocol import Bounds, Bus, Journal, JournalEntry, Message, Page, Place
from hams_shared.errors import (
    BadInputError,
    BrokerError,
    CredentialsError,
    DeadlineError,
    OverloadedError,
    TooLargeError,
)
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire import subjects

log = logging.getLogger(__name__)

ReadPage = Callable[[Place], Awaitable[Page]]

PAUSE = Backoff(first=0.01, longest=5.0)
"""Pauses between two looks while a message that was heard is not stored yet, or a part is away."""
MANY = 10
"""After so many looks, and where nothing is missing, the next one is after the longest pause, or when one is heard:
what is published while the broker is away is not heard."""
REMEMBERED = 1024
AWAY_S = 5.0
"""How long one wait for the broker lasts, s."""

EVENTS = Bounds(bytes=256 * 1024 * 1024, age_s=7 * 86_400.0, per_subject=10_000, duplicate_s=120.0)
"""Of the events of a site: 256 MiB, a week, and 10 000 of each video stream."""
HISTORY = Bounds(bytes=16 * 1024 * 1024, age_s=30 * 86_400.0, per_subject=10_000, duplicate_s=120.0)
"""Of what happened in the system: 16 MiB, 30 days, and 10 000 entries of each part that tells."""
RESULTS = Bounds(
    bytes=8 * 1024 * 1024 * 1024,
    age_s=7 * 86_400.0,
    per_subject=-1,
    duplicate_s=120.0,
    heard_on=f"{subjects.PREFIX}.result.>",
    ages=True,
)
"""Of the kept results of a site: 8 GiB and a week. Each group has bounds of its own, see :mod:`group.results_spec`."""

MAX_ID = 256
"""Longest id of a message, characters."""


def check_message(subject: str, data: bytes, id: str, room: int) -> None:
    """Raise TooLargeError for more than `room` bytes, BadInputError for an `id` that fits no header."""
    if len(data) > room:
        raise TooLargeError(f"{subject}: {len(data)} bytes; a message of a journal has {room} at most")
    if not id.isprintable() or not id.isascii() or not 0 < len(id) <= MAX_ID:
        raise BadInputError(f"{subject}: {id[:MAX_ID]!r} is not a valid id (1 to {MAX_ID} printable ASCII characters)")


async def events_journal(bus: Bus) -> Journal:
    """Open the journal of all events, creating it when absent."""
    return await bus.journal(subjects.EVENTS, subjects.event("*"), EVENTS)


async def history_journal(bus: Bus) -> Journal:
    """Open the journal of what happened in the system, creating it when absent."""
    return await bus.journal(subjects.HISTORY, subjects.history(), HISTORY)


async def results_journal(bus: Bus) -> Journal:
    """Open the journal of kept results, creating it when absent. Subscribers of results receive what it stores."""
    return await bus.journal(subjects.RESULTS, subjects.kept("*"), RESULTS)


async def entries(journal: Journal, subject: str, place: Place) -> AsyncGenerator[JournalEntry, None]:
    """Yield what is stored from a place on, to the end. Raises BrokerError, DeadlineError."""
    while True:
        page = await journal.page(subject, place)
        for one in page.entries:
            yield one
        if not page.more or not page.entries:
            return
        place = page.place


class _News:
    """The messages that were heard and not read yet: one is heard before it is stored, or after it was read."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.missing: set[int] = set()
        """Hashes; at most REMEMBERED."""
        self._read: deque[int] = deque(maxlen=REMEMBERED)

    async def heard(self, message: Message) -> None:
        """Take a message of the subscription."""
        key = hash(message.data)
        if key not in self._read and len(self.missing) < REMEMBERED:
            self.missing.add(key)
            self.came.set()

    def read(self, entry: JournalEntry) -> None:
        """Take a message of a page."""
        key = hash(entry.data)
        self.missing.discard(key)
        self._read.append(key)

    async def wait(self, pause: float, gather_s: float) -> bool:
        """Wait for a message, `pause` s at most, then for others for `gather_s`; return whether one came."""
        try:
            async with asyncio.timeout(pause):
                await self.came.wait()
        except TimeoutError:
            return False
        if gather_s:
            await asyncio.sleep(gather_s)
        return True


async def follow(
    bus: Bus, subject: str, read: ReadPage, place: Place, *, live: bool = True, gather_s: float = 0.0
) -> AsyncGenerator[JournalEntry, None]:
    """Yield each message on `subject` from `place` on, in order; with `live` without end, else those stored now.

    `read` returns a page of them, as :meth:`Journal.page` does. Errors before the first page are raised; later ones, of
    a broker or a part that is away, are waited out. A stored message is missed only if the journal's bounds discarded
    it first. Those that come within `gather_s` are read together. Ends with a BrokerError when the bus is closed.
    """
    news = _News()
    subscription = await bus.subscribe(subject, news.heard)
    tries, begun = 0, False
    try:
        while True:
            news.came.clear()
            try:
                page = await read(place)
            except (BrokerError, DeadlineError, OverloadedError) as error:
                if not begun or isinstance(error, CredentialsError):
                    raise
                log.info("messages on %s: %s; trying again", subject, error)
                await _until_back(bus)
            else:
                begun, place = True, page.place
                for entry in page.entries:
                    news.read(entry)
                    yield entry
                if page.more:
                    continue
                if not live:
                    return
                if not news.missing:
                    tries = MANY
            tries += 1
            if tries > MANY:
                news.missing.clear()  # for example one that is stored already, under its id
            if await news.wait(PAUSE.pause(tries), gather_s):
                tries = 0
    finally:
        await subscription.unsubscribe()


async def _until_back(bus: Bus) -> None:
    """Wait for the broker, AWAY_S at most. Raises BrokerError when the bus is closed for good."""
    with suppress(DeadlineError):
        await bus.flush(AWAY_S)
