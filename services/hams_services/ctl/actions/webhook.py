"""What `hams-ctl sink webhook` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hams_services.ctl.actions.events import wanted
from hams_services.ctl.console import checked, err, with_bus
from hams_services.ctl.options import kinds_of
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BadInputError

if TYPE_CHECKING:
    from hams_services.sinks.courier import Receiver


@dataclass(frozen=True)
class To:
    """Where events go: a web address, or a notification."""

    url: str | None = None
    secret_file: Path | None = None
    notify: str | None = None
    title: str | None = None
    body: str | None = None


def webhook(
    group: str,
    to: To,
    rules: list[str],
    kind: str | None,
    stream: str | None,
    queue: Path | None,
    nats: str | None,
    debug: bool,
) -> None:
    """Send events `to` a receiver; of `rules` if given, else of the kinds in `kind`."""
    from hams_services.sinks.courier import Courier
    from hams_services.sinks.event_queue import EventQueue

    kinds = ("rule",) if rules and kind is None else kinds_of(kind)
    receiver = checked(lambda: receiver_of(to))
    waiting = checked(lambda: EventQueue(queue))
    courier = Courier(waiting, receiver)

    async def job(bus: Bus) -> None:
        try:
            await courier.run(bus, group, stream, lambda event: wanted(event, kinds, rules))
        finally:
            if len(waiting) or waiting.refused:
                kept = "wait in the queue" if queue is not None else "are lost: give --queue to keep them"
                err.print(f"sent: {courier.sent}; {len(waiting)} {kept}; refused: {waiting.refused}")
            waiting.close()

    with_bus(job, nats, debug, stopped_is_fine=True)


def receiver_of(to: To) -> Receiver:
    """Return what takes the events. Raises BadInputError, CredentialsError, SourceError."""
    from hams_services.sinks.notify import BODY, TITLE, Notifier
    from hams_services.sinks.webhook import Webhook, secrets_of

    if (to.url is None) == (to.notify is None):
        raise BadInputError("give a web address or --notify", "for example https://example.org/hook")
    if to.notify is not None:
        if to.secret_file is not None:
            raise BadInputError("--secret-file is for a web address", "apprise signs nothing")
        return Notifier(to.notify, TITLE if to.title is None else to.title, BODY if to.body is None else to.body)
    if to.title is not None or to.body is not None:
        raise BadInputError("--title and --body are for --notify", "a web address gets the event as JSON")
    assert to.url is not None
    return Webhook(to.url, secrets_of(to.secret_file))
