"""What `hams-ctl models prune` does."""

from __future__ import annotations

from hams_services.ctl.console import out, print_json, with_bus
from hams_services.ctl.tables import plain_table
from hams_services.models.files import mib
from hams_shared.bus.model_prune import prune, stored
from hams_shared.bus.protocol import Bus
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import ProfileRecord


def prune_models(dry_run: bool, nats: str | None, json: bool, debug: bool) -> None:
    """Delete, or show, the files of the store that no record needs."""

    async def job(bus: Bus) -> None:
        found = await stored(bus)
        unused = found.unused
        gone = list(unused) if dry_run else await prune(bus, unused)
        names = await _names(bus)
        if json:
            rows = [{"digest": one, "size": unused[one], "model": names.get(one)} for one in gone]
            print_json({"files": rows, "deleted": not dry_run, "stored_bytes": sum(found.sizes.values())})
            return
        if not gone:
            out.print(f"nothing to delete: all {len(found.sizes)} files are in use")
        else:
            table = plain_table("")
            for column in ("file", "size", "measured as"):
                table.add_column(column, justify="right" if column == "size" else "left")
            for one in gone:
                table.add_row(f"{one[:12]}…", mib(unused[one]), names.get(one, "–"))
            out.print(table)
            what = "without use" if dry_run else "deleted"
            total = mib(sum(unused[one] for one in gone))
            out.print(f"{len(gone)} of {len(found.sizes)} files {what}, {total} of {mib(sum(found.sizes.values()))}")
            if dry_run:
                out.print("the scheduler deletes them once nothing has needed them for an hour", style="dim")

    with_bus(job, nats, debug)


async def _names(bus: Bus) -> dict[str, str]:
    """Return names of networks by digest, as far as measurements tell them."""
    entries = await (await bus.kv(subjects.bucket("profiles"))).entries()
    records = (codec.decode(ProfileRecord, one.value) for one in entries.values() if one.value)
    return {record.digest: record.model_name for record in records}
