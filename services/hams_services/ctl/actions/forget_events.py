"""What `hams-ctl forget-events` does: takes events out of the broker's store, with their crops."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import aclosing

import typer

from hams_services.ctl.console import err, out, print_json, with_bus
from hams_shared.bus.audit import Audit
from hams_shared.bus.journal import entries, events_journal
from hams_shared.bus.protocol import Bus, Journal, Place
from hams_shared.errors import MessageError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.events import Event

MARGIN_S = 60.0
"""Around the sightings of a person: a track's events come before and after those of its vector, s."""


def forget_events(
    group: str,
    stream: str | None,
    last_s: float | None,
    older_than_s: float | None,
    yes: bool,
    json: bool,
    nats: str | None,
    debug: bool,
) -> None:
    """Erase stored events of a group: of the last `last_s`, older than `older_than_s`, or all; after a question."""
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask: add --yes")
    if not yes:
        err.print(f"events of group {group} would be deleted with their crops. It cannot be undone.")
        typer.confirm("Delete them?", abort=True, err=True)

    async def job(bus: Bus) -> None:
        now = time.time()
        since = now - last_s if last_s is not None else 0.0
        until = now - older_than_s if older_than_s is not None else float("inf")
        count = await erase(bus, group, since, until, stream or "*")
        if json:
            print_json({"group": group, "events": count})
        else:
            out.print(f"{events(count)} of group {group} deleted")

    with_bus(job, nats, debug)


async def erase(bus: Bus, group: str, since: float, until: float, stream: str = "*") -> int:
    """Take out the events of a group captured between two Unix times; return how many.

    An event that cannot be read is taken out, too, unless it is known to be of another time. What is published
    meanwhile stays. Raises BrokerError, DeadlineError.
    """
    journal = await events_journal(bus)
    count = await _each(journal, subjects.event(group, stream), lambda data: _within(data, since, until))
    await Audit(bus).tell("events", group, f"{events(count)} deleted")
    return count


async def _each(journal: Journal, subject: str, wanted: Callable[[bytes], bool]) -> int:
    count = 0
    async with aclosing(entries(journal, subject, Place())) as found:
        async for entry in found:
            if wanted(entry.data):
                await journal.erase(entry.sequence)
                count += 1
    return count


def _within(data: bytes, since: float, until: float) -> bool:
    try:
        event = codec.decode(Event, data)
    except MessageError:
        return since <= 0.0
    return since <= event.captured <= until


async def erase_about(bus: Bus, group: str, sightings: tuple[float, float]) -> int:
    """Erase a group's events between two sightings, Unix times, with MARGIN_S around them; return how many."""
    first, last = sightings
    return await erase(bus, group, first - MARGIN_S, last + MARGIN_S)


def events(count: int) -> str:
    """Return a number of events, for people."""
    return f"{count} {'event' if count == 1 else 'events'}"
