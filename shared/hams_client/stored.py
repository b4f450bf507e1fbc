"""What the broker has stored, read from the part that answers for it, and then what comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

from hams_shared.bus.ask import ask
from hams_shared.bus.journal import follow
from hams_shared.bus.protocol import Bus, JournalEntry, Page, Place
from hams_shared.errors import BadInputError, DeadlineError, from_wire
from hams_shared.wire.messages.base import WireError

ASK_S = (1.0, 10.0)
"""Deadlines of the first try of a request and of the second, s: a part that was killed meanwhile does not answer."""
PATIENCE_S = 6.0
"""How long to wait for a part that is absent, s: a killed one is back by then."""

Asked = tuple[WireError | None, tuple[JournalEntry, ...], Place, bool]
"""Of an answer: its error, its messages, where to read on, and whether there may be more now."""


async def request(bus: Bus, subject: str, data: bytes, part: str) -> bytes:
    """Return the answer of `part`; see :func:`hams_shared.bus.ask.ask`."""
    first, second = ASK_S
    with suppress(DeadlineError):
        return await ask(bus, subject, data, part, timeout=first, patience=PATIENCE_S)
    return await ask(bus, subject, data, part, timeout=second, patience=PATIENCE_S)


def stored(
    bus: Bus,
    subject: str,
    read: Callable[[Place], Awaitable[Asked]],
    since: float | None,
    after: int | None,
    live: bool,
    gather_s: float = 0.0,
) -> AsyncGenerator[JournalEntry, None]:
    """Yield the messages on `subject` as `read` returns them: from now on, of the last `since` s, or behind `after`.

    Raises BadInputError for both `since` and `after`, or a negative one.
    """
    if since is not None and after is not None:
        raise BadInputError("give `since` or `after`, not both")
    if (after is not None and after < 0) or (since is not None and not since >= 0):
        raise BadInputError("`since` and `after` are 0 or more")

    async def page(place: Place) -> Page:
        error, entries, at, more = await read(place)
        if error is not None:
            raise from_wire(error.model_dump())
        return Page(entries, at, more)

    place = Place(after) if after is not None else Place(age_s=since if since is not None else 0.0)
    return follow(bus, subject, page, place, live=live, gather_s=gather_s)
