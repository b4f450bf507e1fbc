"""What `hams-ctl backup` and `restore` do."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hams_services.ctl.console import out, with_bus
from hams_services.ctl.progress import steps
from hams_services.ctl.system.backup import back_up, read
from hams_services.ctl.system.backup import restore as write_back
from hams_shared.bus.audit import Audit
from hams_shared.bus.protocol import Bus


def backup(file: Path, replace: bool, nats: str | None, debug: bool) -> None:
    """Write groups, variants and networks to `file`."""

    async def job(bus: Bus) -> None:
        with steps() as progress:
            made = await back_up(bus, file, replace, progress)
        size = (await asyncio.to_thread(file.stat)).st_size
        out.print(f"{file}: {made}, {size / 2**20:.1f} MiB", markup=False, soft_wrap=True)

    with_bus(job, nats, debug)


def restore(file: Path, keep: bool, replace: bool, nats: str | None, debug: bool) -> None:
    """Restore the contents of `file`."""

    async def job(bus: Bus) -> None:
        found = await asyncio.to_thread(read, file)
        with steps() as progress:
            kept = await write_back(bus, found, keep, replace, progress)
        await Audit(bus).tell("restore", file.name, f"the backup of {found.made_at} restored: {found}")
        out.print(f"restored the backup of {found.made_at}: {found}", markup=False, soft_wrap=True)
        for one in kept:
            out.print(f"  kept as it is: {one}", markup=False, soft_wrap=True)
        out.print("the scheduler places its groups now: hams-ctl status")

    with_bus(job, nats, debug)
