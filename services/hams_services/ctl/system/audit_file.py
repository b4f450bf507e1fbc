"""Tells the audit of what hams-ctl changed in files, with or without a broker: credentials and tokens.

Without one, entries wait in ``audit-waiting.jsonl`` beside the state, for the next command that finds a broker.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from hams_services.ctl.console import broker_url
from hams_shared.bus.audit import Audit, entry, login
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError
from hams_shared.locks import wait_for_lock
from hams_shared.runtime.process import state_folder
from hams_shared.runtime.runfile import running
from hams_shared.wire.messages.audit import AuditEntry, AuditWhat

log = logging.getLogger(__name__)

MOST = 10_000
"""Most entries that wait."""


def waiting_file() -> Path:
    """Where entries wait."""
    return state_folder() / "audit-waiting.jsonl"


def tell(what: AuditWhat, target: str, text: str) -> None:
    """Tell of a change of files; blocks for 3 s at most, and 10 s more where another process keeps the file.

    The change is made: an error is logged.
    """
    with suppress(OSError):
        _wait(what, entry(login(), target, text))
    if running() is not None:
        with suppress(HamsError, TimeoutError):
            asyncio.run(_delivered())


async def _delivered() -> None:
    from hams_shared.bus.nats.client import NatsBus

    async with asyncio.timeout(3.0), NatsBus(broker_url(None), name="hams-ctl", connect_timeout=1.0) as bus:
        await deliver(bus)


async def deliver(bus: Bus) -> int:
    """Store the entries that wait; return how many. Those that are not stored wait on."""
    path, done = waiting_file(), set[str]()
    try:
        lines = (await asyncio.to_thread(path.read_text, "utf-8")).splitlines()
    except OSError:
        return 0
    for line in lines:
        try:
            told = json.loads(line)
            what, one = told["what"], AuditEntry.model_validate(told["entry"])
        except (ValueError, KeyError, TypeError):  # damaged by hand
            log.warning("%s has a line that is no entry", path)
        else:
            if not await Audit(bus).store(what, one):
                break
        done.add(line)
    await asyncio.to_thread(_drop, path, done)
    return len(done)


def _wait(what: AuditWhat, told: AuditEntry) -> None:
    path = waiting_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        wait_for_lock(file)
        file.write(json.dumps({"what": what, "entry": told.model_dump(mode="json")}) + "\n")


def _drop(path: Path, done: Collection[str]) -> None:
    """Take these lines out of the file, and all but the newest MOST. Each has an id, so that it is there once."""
    with suppress(OSError), path.open("r+", encoding="utf-8") as file:
        wait_for_lock(file)
        left = [line for line in file.read().splitlines(keepends=True) if line.rstrip("\n") not in done][-MOST:]
        file.seek(0)
        file.writelines(left)
        file.truncate()
