"""What `hams-ctl versions` and `rollback` do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.table import Table

from hams_services.ctl.actions.deploy import After, Done, Wanted, check_scheduler, finish, until_served
from hams_services.ctl.actions.diff import plain_changes
from hams_services.ctl.console import out, print_json, with_bus
from hams_services.ctl.progress import steps
from hams_services.ctl.tables import plain_table
from hams_shared.bus.control import Control
from hams_shared.bus.deployments import Version
from hams_shared.bus.protocol import Bus
from hams_shared.group.difference import difference
from hams_shared.group.difference_text import summary


def versions(group: str, json: bool, nats: str | None, debug: bool) -> None:
    """Print the versions of a group, the newest first."""

    async def job(bus: Bus) -> None:
        found = await Control(bus).deployments.versions(group)
        if json:
            print_json([_plain(one, before) for one, before in _with_before(found)])
        else:
            out.print(versions_table(group, found))

    with_bus(job, nats, debug)


def rollback(group: str, version: int | None, after: After, nats: str | None, debug: bool) -> None:
    """Deploy an earlier version again, and wait until it serves if that is wanted."""

    async def job(bus: Bus) -> None:
        control = Control(bus)
        with steps() as progress:
            await check_scheduler(control, progress)
            base = await control.running(group)
            written = await control.rollback(base, version)
            done = Done(Wanted(written, base), written)
            if after.wait:
                done = Done(done.wanted, written, await until_served(control, written, progress, after.timeout))
        await finish(control, [done], after)

    with_bus(job, nats, debug)


def versions_table(group: str, found: list[Version]) -> Table:
    """Return the versions as a table."""
    table = plain_table(f"versions of {group}")
    for name in ("version", "when", "who", "what changed"):
        table.add_column(name, justify="right" if name == "version" else "left")
    for place, (one, before) in enumerate(_with_before(found)):
        at = datetime.fromtimestamp(one.record.deployed_at).astimezone()
        runs = " (runs)" if one.ended_at is None else ""
        table.add_row(
            f"{one.number}{runs}", f"{at:%Y-%m-%d %H:%M}", one.record.by or "?", _what(one, before, found[place + 2 :])
        )
    return table


def _with_before(found: list[Version]) -> list[tuple[Version, Version | None]]:
    return list(zip(found, [*found[1:], None], strict=True))


def _what(one: Version, before: Version | None, older: list[Version]) -> str:
    if before is None:
        return "the first" if one.number <= 1 else "the oldest that is kept"
    same = next((old.number for old in older if not difference(old.record, one.record)), None)
    if same is not None:
        return f"as version {same} again"
    return summary(difference(before.record, one.record))


def _plain(one: Version, before: Version | None) -> dict[str, Any]:
    changes = None if before is None else plain_changes(difference(before.record, one.record))
    return {
        "version": one.number,
        "deployed_at": one.record.deployed_at,
        "by": one.record.by,
        "runs": one.ended_at is None,
        "ended_at": one.ended_at,
        "changes": changes,
    }
