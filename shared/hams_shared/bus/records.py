"""Records in a key-value bucket, decoded as they come, and written back when the store lost them.

Each watcher holds the bucket's values. When the broker comes back with an empty or older store, each watcher writes
back the keys it held, only where nothing was written since (compare-and-set on "never was"): the first one wins,
the others are refused, and a key that was deleted meanwhile stays deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel

import hams_shared
from hams_shared.bus.protocol import Entry, KeyValue
from hams_shared.errors import BrokerError, CredentialsError, DeadlineError, HamsError, MessageError, RefusedError
from hams_shared.wire import codec
from hams_shared.wire.messages.base import Wire, WireError

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

START_S = 60.0
"""How long a part that starts waits for the store to answer, s."""
PAUSE_S = 0.2
"""Pause between two tries, s."""


async def opened(open_: Callable[[str], Awaitable[T]], name: str, stop: asyncio.Event | None = None) -> T:
    """Return the bucket or store `name` by `open_`: ``bus.kv`` or ``bus.objects``.

    For parts that start: brokers that start as well elect leaders first, and an overloaded disk answers late. Tries
    for START_S, or until `stop`; then the last error is raised.
    """
    loop = asyncio.get_running_loop()
    end, tries = loop.time() + START_S, 0
    while True:
        try:
            return await open_(name)
        except CredentialsError:
            raise
        except (BrokerError, DeadlineError) as error:
            if loop.time() >= end or (stop is not None and stop.is_set()):
                raise
            tries += 1
            log.log(logging.INFO if tries == 1 else logging.DEBUG, "%s; trying again for %g s", error, START_S)
        await asyncio.sleep(PAUSE_S)


async def restore(bucket: KeyValue, key: str, value: bytes) -> bool:
    """Write a lost key back unless there is, or was, a newer one; return whether this call did. Raises BrokerError."""
    try:
        await bucket.update(key, value, 0)
    except RefusedError:
        return False
    return True


async def changes(
    bucket: KeyValue, kind: type[M], complete: asyncio.Event | None = None, unread: dict[str, WireError] | None = None
) -> AsyncGenerator[tuple[Entry, M | None], None]:
    """Yield every entry and change of `bucket` with its record, None for one deleted or lost; a bad one is logged.

    `complete` is set when the reader has taken all entries that were present at the beginning. A lost entry
    (``Entry.lost``) has been written back before it is yielded, by this process or another. `unread` holds, by key, why
    a record that is there cannot be read: a newer version may have written it.
    """
    held: dict[str, bytes] = {}
    unread = {} if unread is None else unread
    async for entry in bucket.watch():
        if entry is None:
            if complete is not None:
                complete.set()
            continue
        unread.pop(entry.key, None)
        if entry.lost:
            value = held.get(entry.key)
            try:
                if value is not None and await restore(bucket, entry.key, value):
                    log.warning("the broker lost %s: written back", entry.key)
            except HamsError as error:
                log.error("the broker lost %s, and it cannot be written back: %s", entry.key, error)
            yield entry, None
            continue
        if entry.value is None:
            held.pop(entry.key, None)
            yield entry, None
            continue
        held[entry.key] = entry.value
        record = _decoded(kind, entry.key, entry.value, unread)
        if record is not None:
            yield entry, record


def _decoded(kind: type[M], key: str, value: bytes, unread: dict[str, WireError]) -> M | None:
    """Return a record; None for one that is bad, of something else or not whole: it is logged, and held in `unread`."""
    try:
        record = codec.decode(kind, value)
        if isinstance(record, Wire) and not record.belongs(key):
            raise MessageError("it is of something else, or not whole")
    except MessageError as error:
        log.error("record %s ignored: %s", key, error)
        hint = f"if a newer version wrote it, upgrade this part, which is of {hams_shared.__version__}"
        unread[key] = WireError(code=error.code, text=error.text, hint=hint)
        return None
    return record


async def watched(
    bucket: KeyValue, kind: type[M], complete: asyncio.Event | None = None, unread: dict[str, WireError] | None = None
) -> AsyncGenerator[tuple[str, M | None], None]:
    """Yield (key, record) for every entry and change of `bucket`, None for one deleted, nothing for one lost.

    `complete` and `unread` as of :func:`changes`.
    """
    async for entry, record in changes(bucket, kind, complete, unread):
        if not entry.lost:
            yield entry.key, record
