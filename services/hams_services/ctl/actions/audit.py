"""What `hams-ctl audit` does."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

from hams_services.ctl.console import err, out, print_json, with_bus
from hams_services.ctl.options import duration_s
from hams_services.ctl.system.audit_file import deliver
from hams_services.ctl.tables import plain_table
from hams_shared.bus.audit import Audited, stored
from hams_shared.bus.protocol import Bus


def audit(since: str, what: str | None, target: str | None, json: bool, nats: str | None, debug: bool) -> None:
    """Print the changes of the last `since`, oldest first."""
    seconds = duration_s(since)

    async def job(bus: Bus) -> None:
        await deliver(bus)
        found = [one async for one in stored(bus, seconds, what or "*") if target is None or one.entry.target == target]
        if json:
            for one in found:
                print_json({"what": one.what, "user": one.user, **one.entry.model_dump(mode="json")})
        elif not found:
            err.print(f"nothing of that kind was changed in the last {since}; for older changes: --since 30d")
        else:
            table = plain_table("Changes")
            for column in ("time", "user", "stated by", "what", "of", "text"):
                table.add_column(column, overflow="fold")
            for one in found:
                table.add_row(*(Text(cell) for cell in cells(one)))
            out.print(table)

    with_bus(job, nats, debug)


def cells(one: Audited) -> tuple[str, ...]:
    """Return the cells of a change; its time is that of this host's time zone."""
    told = one.entry
    when = f"{datetime.fromtimestamp(told.at).astimezone():%m-%d %H:%M:%S}"
    return when, one.user, told.actor, one.what, told.target, told.text
