"""What `hams-ctl diff` does, and how differences are printed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from hams_services.ctl.console import out, print_json, with_bus
from hams_services.ctl.progress import steps
from hams_services.models.groups import load_groups_with
from hams_services.models.prepare import prepared
from hams_shared.bus.control import Control
from hams_shared.bus.deployments import Running
from hams_shared.bus.protocol import Bus
from hams_shared.group.difference import Change, Difference, difference
from hams_shared.group.difference_text import stays, touched, values, without_secrets
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.group import GroupRecord

FEW = 8
"""Keys that are printed where a difference is shown in short."""
PATH = 40
"""Widest column of keys, characters."""


def diff(file: Path, strategy: str | None, json: bool, nats: str | None, debug: bool) -> None:
    """Print what deploying `file` would change; leave with 1 if anything."""
    differs = False

    async def job(bus: Bus) -> None:
        nonlocal differs
        specs = load_groups_with(file, strategy)
        control = Control(bus)
        shown = []
        for spec in specs:
            base = await control.running(spec.name)
            with steps() as progress:
                record, _ = await prepared(control, spec, progress)
            found = difference(base.record, record)
            differs = differs or bool(found)
            if json:
                shown.append(_plain(found, base, record))
            else:
                _print(found, base, record)
        if json:
            print_json(shown[0] if len(shown) == 1 else shown)

    with_bus(job, nats, debug)
    if differs:
        raise typer.Exit(1)


def _print(found: Difference, base: Running, record: GroupRecord) -> None:
    name, runs = record.spec.name, base.record
    if runs is None:
        out.print(f"group [bold]{name}[/bold] does not run: all of it is new", markup=True)
    elif not found:
        out.print(f"group [bold]{name}[/bold]: nothing differs from version {runs.version}, which runs", markup=True)
        return
    else:
        keys = f"{len(found.changes)} key{'s' * (len(found.changes) != 1)}"
        text = f"group [bold]{name}[/bold] differs in {keys} from version {runs.version}, which runs"
        out.print(text, markup=True)
    print_difference(found, None if runs is None else runs.spec, record.spec)
    if new := _networks(base, record):
        out.print("networks that are new: " + ", ".join(f"{node} ({digest[:12]})" for node, digest in new.items()))


def print_difference(found: Difference, old: GroupSpec | None, new: GroupSpec, *, short: bool = False) -> None:
    """Print what changes and what it touches; if `short`, a few keys only."""
    for line in lines(found, old, new, out.width, FEW if short else None):
        out.print(line, soft_wrap=True)


def lines(found: Difference, old: GroupSpec | None, new: GroupSpec, width: int, most: int | None = None) -> list[str]:
    """Return a difference as lines of `width` characters: what is touched, below it the keys with old and new value."""
    printed: list[str] = []
    left = len(found.changes) if most is None else most
    for part in touched(found):
        printed += textwrap.wrap(part.sentence, width - 2, initial_indent="  ", subsequent_indent="  ")
        shown = part.changes[:left]
        column = min(max((len(one.path) for one in shown), default=0), PATH)
        for change in shown:
            printed += _of_change(change, column, width)
        left -= len(shown)
        if more := len(part.changes) - len(shown):
            printed.append(f"    and {more} key{'s' * (more != 1)} more")
    if text := stays(found, old, new):
        printed += textwrap.wrap(text, width - 2, initial_indent="  ", subsequent_indent="  ")
    return printed


def _of_change(change: Change, column: int, width: int) -> Iterator[str]:
    head, text = f"    {change.path.ljust(column)}  ", values(change)
    if len(head) + len(text) <= width:
        yield head + text
        return
    yield head.rstrip()
    indent = " " * 8
    yield from textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _networks(base: Running, record: GroupRecord) -> dict[str, str]:
    """The networks by node that what runs has not, with their digests."""
    there = {ref.digest for ref in base.record.models.values()} if base.record else set()
    return {node: ref.digest for node, ref in sorted(record.models.items()) if ref.digest not in there}


def _plain(found: Difference, base: Running, record: GroupRecord) -> dict[str, Any]:
    return {
        "group": record.spec.name,
        "version": None if base.record is None else base.record.version,
        "differs": bool(found),
        "changes": plain_changes(found),
        "new_networks": _networks(base, record),
    }


def plain_changes(found: Difference) -> list[dict[str, Any]]:
    """Return the changes for programs, without secrets."""
    touches = {change.keys: part.sentence for part in touched(found) for change in part.changes}
    return [
        {
            "path": change.path,
            "old": without_secrets(change.keys, change.old),
            "new": without_secrets(change.keys, change.new),
            "effect": change.effect.value,
            "touches": touches[change.keys],
        }
        for change in found.changes
    ]
