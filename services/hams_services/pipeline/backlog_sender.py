"""Sends what waits for the broker, in order, each item until it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hams_services.pipeline.event_backlog import Backlog, Waiting
from hams_shared.errors import BadInputError, HamsError
from hams_shared.runtime.backoff import Backoff


async def send(
    backlog: Backlog,
    news: asyncio.Event,
    store: Callable[[Waiting], Awaitable[None]],
    again: Backoff,
    *,
    idle: Callable[[], None],
    settled: Callable[[Waiting, BadInputError | None], None],
    waits: Callable[[HamsError, bool], None],
) -> None:
    """Send items by `store` until cancelled; after errors of the broker `again` gives the pauses.

    `news` is set when an item is put. `idle` is called when none waits; `settled` for each that waits no more, with the
    error for which the broker does not take it at all; `waits` for each error of the broker, and whether it is to be
    logged: the first, second, fourth, eighth … in a row.
    """
    failures = 0
    while True:
        news.clear()
        item = backlog.first()
        if item is None:
            idle()
            await news.wait()
            continue
        lost: BadInputError | None = None
        try:
            await store(item)
            failures = 0
        except BadInputError as error:
            lost = error
        except HamsError as error:
            failures += 1
            waits(error, failures & (failures - 1) == 0)
            await asyncio.sleep(again.pause(failures))
            continue
        backlog.settle(item.number)
        settled(item, lost)
