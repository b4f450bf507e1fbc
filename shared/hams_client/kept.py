"""Results read from what the broker has stored, so that none is missed while an application is away."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace

from hams_client.result import Result
from hams_client.stored import Asked, request, stored
from hams_shared.bus.chunks import MAX_AGE_S, Assembler
from hams_shared.bus.protocol import Bus, JournalEntry, Place
from hams_shared.errors import BadInputError, HamsError, MessageError, NotKeptError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.results import ResultsAnswer, ResultsRequest

log = logging.getLogger("hams.client")

GATHER_S = 0.02
"""Results that come within so long are read together, s."""
PARTS_WITHIN = 1000
"""The parts of a result are stored among so many messages of the group; one whose parts are not was left half stored.
Their age says nothing: when they are read depends on the application and the broker."""


class _Reader:
    """Asks for pages of results; with a `name`, the pipeline keeps the place up to which they were dealt with."""

    def __init__(self, bus: Bus, group: str, stream: str, name: str) -> None:
        self._bus, self._group, self._stream, self._name = bus, group, stream, name
        self._resume = bool(name)
        self._journal = ""
        self.dealt = -1
        """All results up to this sequence were dealt with, and none of them waits for its further parts."""

    async def read(self, place: Place) -> Asked:
        """Return a page. Raises NotKeptError."""
        answer = await self._ask(place)
        if answer.error is None:
            self._resume = False
            if not answer.kept:
                text = f"group {self._group} keeps no results"
                raise NotKeptError(text, "set `results: {keep: 1h}` in its group file, or read them as they come")
            self._journal = answer.journal
            if self.dealt < 0:
                self.dealt = answer.results[0].sequence - 1 if answer.results else answer.after
        entries = tuple(JournalEntry(one.sequence, "", one.result) for one in answer.results)
        return answer.error, entries, Place(answer.after, answer.journal), answer.more

    async def end(self) -> None:
        """Report what was dealt with."""
        if self._name and not self._resume and self.dealt >= 0:
            with suppress(HamsError):
                await self._ask(Place(self.dealt, self._journal), end=True)

    async def _ask(self, place: Place, *, end: bool = False) -> ResultsAnswer:
        wanted = ResultsRequest(
            stream=self._stream,
            after=place.sequence,
            journal=place.journal,
            since_s=place.age_s,
            reader=self._name,
            dealt=max(self.dealt, 0),
            resume=self._resume,
            end=end,
        )
        data = await request(self._bus, subjects.results_after(self._group), codec.encode(wanted), "pipeline")
        return codec.decode(ResultsAnswer, data)


async def kept(
    bus: Bus,
    group: str,
    stream: str | None,
    since: float | None,
    after: int | None,
    durable: str,
    live: bool,
    otherwise: Callable[[], AsyncGenerator[Result, None]],
) -> AsyncGenerator[Result, bool | None]:
    """See :meth:`hams_client.Hams.kept_results`; `otherwise` gives results as they come."""
    if durable:
        check_reader(durable)
    reader, assembler, count = _Reader(bus, group, stream or "*", durable), Assembler(), itertools.count()
    subject = subjects.result(group, stream or "*")
    try:
        async with aclosing(stored(bus, subject, reader.read, since, after, live, GATHER_S)) as entries:
            async for entry in entries:
                try:
                    data = assembler.take(entry.data, next(count) * MAX_AGE_S / PARTS_WITHIN)
                    result = None if data is None else Result.from_bytes(data)
                except MessageError as error:
                    log.warning("stored result %d of %s ignored: %s", entry.sequence, group, error)
                    result = None
                at = reader.dealt if assembler.waits else entry.sequence
                over = result is not None and (yield replace(result, sequence=at))
                reader.dealt = at
                if over:
                    return
                await asyncio.sleep(0)  # a reader that never waits must not starve others while it catches up
    except NotKeptError as error:
        if not live or durable or since or after is not None:
            raise
        log.info("%s: reading them as they come", error.text)
        async with aclosing(otherwise()) as results:
            async for result in results:
                if (yield result):
                    return
    finally:
        await reader.end()


def check_reader(name: str) -> None:
    """Raise BadInputError unless a reader may be called so."""
    if len(name) > 64 or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise BadInputError(f"{name!r} is no name of a reader", "letters, digits, - and _, 64 at most")
