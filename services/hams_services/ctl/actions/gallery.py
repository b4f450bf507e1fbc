"""What `hams-ctl gallery list`, `name` and `forget` do.

The pipeline answers for the groups that it runs. The galleries of other groups are changed on the broker.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime

import typer
from rich.table import Table
from rich.text import Text

from hams_services.ctl.actions.forget_events import erase_about
from hams_services.ctl.actions.forget_events import events as of_events
from hams_services.ctl.console import err, out, print_json, with_bus
from hams_services.ctl.tables import plain_table
from hams_shared.bus.audit import Audit
from hams_shared.bus.control import ASK_S
from hams_shared.bus.nats.connection import NatsConnection
from hams_shared.bus.nats.erasing import erases
from hams_shared.bus.nats.erasing import rewrite as rewritten
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BadInputError, NotFoundError, from_wire
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.gallery import GalleryAnswer, GalleryRequest, GalleryView

MOST = 5000
"""Identities of each gallery that are looked at for their sightings, the newest ones."""
MANY = 10
"""More identities than these are forgotten only after a question."""


async def ask_gallery(bus: Bus, group: str, request: GalleryRequest) -> GalleryAnswer:
    """Have the pipeline carry out a request, or do so on the broker where no pipeline runs the group.

    Raises:
        NotFoundError: there is no such group, gallery, identity or name.
        BadInputError: the request is not complete.
        BrokerError, DeadlineError: the broker or the pipeline does not answer.
    """
    try:
        reply = await bus.request(subjects.gallery(group), codec.encode(request), timeout=ASK_S)
    except NotFoundError:
        from hams_services.pipeline.gallery_keeper import Shelves  # 0.2 s with NumPy, which the usual case saves
        from hams_services.pipeline.gallery_store import GalleryStore

        return await Shelves(await GalleryStore.open(bus, group)).answer(request, time.time())
    answer = codec.decode(GalleryAnswer, reply.data)
    if answer.error is not None:
        raise from_wire(answer.error.model_dump())
    return answer


def list_identities(group: str, node: str, limit: int, json: bool, nats: str | None, debug: bool) -> None:
    """Print the galleries of a group."""

    async def job(bus: Bus) -> None:
        answer = await ask_gallery(bus, group, GalleryRequest(verb="list", node=node, limit=limit))
        if json:
            print_json([view.model_dump(mode="json") for view in answer.galleries])
            return
        print_galleries(answer.galleries, time.time())

    with_bus(job, nats, debug)


def print_galleries(views: tuple[GalleryView, ...], now: float) -> None:
    """Print a table of each gallery, and what is to be known about it; `now` is Unix time."""
    for view in views:
        if view.identities:
            out.print(gallery_table(view, now))
        elif not view.count:
            out.print(f"{view.node}: no identities")
        if view.count > len(view.identities):
            out.print(f"  {len(view.identities)} of {view.count} shown; more: --limit", style="dim")
        if view.text:
            out.print(f"  {view.node}: {view.text}", style="yellow")


def gallery_table(view: GalleryView, now: float) -> Table:
    """Return the identities of one gallery, last seen first; `now` is Unix time."""
    where = f", set aside: of network {view.network[:12]}" if view.aside else ""
    table = plain_table(f"Identities of {view.node}{where}")
    for column in ("identity", "name", "seen", "last seen", "first seen"):
        table.add_column(column, justify="right" if column == "identity" else "left", no_wrap=column != "name")
    for one in view.identities:
        cells = (str(one.identity), one.name or "–", _ago(now - one.seen), _date(one.seen), _date(one.since))
        table.add_row(*(Text(cell, style="dim" if view.aside else "") for cell in cells))
    return table


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}"


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


def name_identity(group: str, identity: int, name: str, node: str, json: bool, nats: str | None, debug: bool) -> None:
    """Give an identity a name, or take it away."""

    async def job(bus: Bus) -> None:
        request = GalleryRequest(verb="name", node=node, identity=identity, name=name, limit=0)
        await ask_gallery(bus, group, request)
        await Audit(bus).tell("gallery", group, f"identity {identity} {'gets' if name else 'loses'} a name")
        if json:
            print_json({"group": group, "identity": identity, "name": name})
        elif name:
            out.print(f"identity {identity} of group {group} is {name}")
        else:
            out.print(f"identity {identity} of group {group} has no name")

    if len(name) > 64:
        raise typer.BadParameter("a name has 64 characters at most")
    with_bus(job, nats, debug)


def forget(
    group: str,
    who: str | None,
    older_than_s: float | None,
    everything: bool,
    node: str,
    events: bool,
    yes: bool,
    json: bool,
    nats: str | None,
    debug: bool,
) -> None:
    """Delete identities; many only after a question."""
    identity = int(who) if who is not None and who.isdecimal() else None
    name = who if identity is None else None
    if name is not None and not 1 <= len(name) <= 64:
        raise typer.BadParameter("a name has 1 to 64 characters")
    request = GalleryRequest(
        verb="forget",
        node=node,
        identity=identity,
        name=name,
        older_than_s=older_than_s,
        everything=everything,
        limit=0,
    )
    if not yes and identity is None:
        _ask_first(group, request, nats, debug)

    async def job(bus: Bus) -> None:
        await _forget(bus, group, request, events, json)

    with_bus(job, nats, debug)


async def _forget(bus: Bus, group: str, request: GalleryRequest, events: bool, json: bool) -> None:
    """Carry out and report a request to forget; with `events`, also those between the sightings."""
    seen = await sightings(bus, group, request, time.time()) if events else None
    answer = await ask_gallery(bus, group, request)
    await Audit(bus).tell("gallery", group, f"{_count(answer.changed)} forgotten")
    gone = await erase_about(bus, group, seen) if seen is not None else 0
    if json:
        print_json({"group": group, "forgotten": answer.changed, **({"events": gone} if events else {})})
        return
    also = f", and {of_events(gone)} deleted" if events else ""
    out.print(f"{_count(answer.changed)} of group {group} forgotten{also}")
    if isinstance(bus, NatsConnection) and not await erases(bus, subjects.bucket(subjects.GALLERIES)):
        err.print("an earlier version of HAMS made the store: `hams-ctl gallery rewrite` takes them off the disk, too")


async def sightings(bus: Bus, group: str, request: GalleryRequest, now: float) -> tuple[float, float] | None:
    """Return when those who are to be forgotten were first and last seen, Unix times; None: there is nobody."""
    listed = await ask_gallery(bus, group, GalleryRequest(verb="list", node=request.node, limit=MOST))
    found = [
        one
        for view in listed.galleries
        for one in view.identities
        if request.everything
        or (request.identity is not None and one.identity == request.identity)
        or (request.name is not None and one.name == request.name)
        or (request.older_than_s is not None and one.seen < now - request.older_than_s)
    ]
    return (min(one.since for one in found), max(one.seen for one in found)) if found else None


def rewrite(nats: str | None, debug: bool) -> None:
    """Delete the bucket of all galleries with its bytes, and write it again."""

    async def job(bus: Bus) -> None:
        assert isinstance(bus, NatsConnection)
        count = await rewritten(bus, subjects.bucket(subjects.GALLERIES))
        await Audit(bus).tell("gallery", "", f"the store of all galleries rewritten: {count} pages")
        out.print(f"the store of all galleries is rewritten: {count} pages")

    with_bus(job, nats, debug)


def _ask_first(group: str, request: GalleryRequest, nats: str | None, debug: bool) -> None:
    """Return when few identities are forgotten, or the user agrees. Raises typer.Exit, typer.Abort."""
    count = 0

    async def job(bus: Bus) -> None:
        nonlocal count
        count = (await ask_gallery(bus, group, request.model_copy(update={"count_only": True}))).changed
        if count > MANY and not sys.stdin.isatty():
            text = f"this would forget {count} identities of group {group}, and there is no terminal to ask"
            raise BadInputError(text, "add --yes")

    with_bus(job, nats, debug)
    if count > MANY:
        err.print(f"{count} identities of group {group} would be forgotten. It cannot be undone.")
        typer.confirm("Forget them?", abort=True, err=True)


def _count(number: int) -> str:
    return f"{number} {'identity' if number == 1 else 'identities'}"
