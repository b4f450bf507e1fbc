"""What the commands do that change single keys of a running group: `set`, `stream`, and `export`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hams_services.ctl.actions.deploy import After, Wanted, carry_out, check_scheduler, finish
from hams_services.ctl.console import err, with_bus
from hams_services.ctl.progress import steps
from hams_services.models.group_text import group_text, hidden_in
from hams_services.models.groups import with_zoo
from hams_services.models.manifest import zoo
from hams_services.models.prepare import bring_in_changes
from hams_shared.bus.control import Control
from hams_shared.bus.protocol import Bus
from hams_shared.errors import GroupSpecError
from hams_shared.group.edit import NOTHING, added, assignment, edited, paused, removed
from hams_shared.group.spec import GroupSpec, parse_group, with_paths_in

__all__ = ["After"]

Data = dict[str, Any]
LEFT_OUT = "Secrets in addresses are left out: --secrets writes them."


def set_values(
    group: str, assignments: Sequence[str], unset: Sequence[str], after: After, nats: str | None, debug: bool
) -> None:
    """Set keys, and take others away."""
    _change(group, lambda data: _assigned(data, assignments, unset), after, nats, debug)


def add_stream(
    group: str, name: str, keys: Mapping[str, Any], more: Sequence[str], after: After, nats: str | None, debug: bool
) -> None:
    """Add a stream with `keys`, and `more` as KEY=VALUE."""

    def edit(data: Data) -> Data:
        return _assigned(added(data, name, dict(keys)), [f"streams.{name}.{one}" for one in more], ())

    _change(group, edit, after, nats, debug)


def remove_stream(group: str, name: str, after: After, nats: str | None, debug: bool) -> None:
    """Take a stream away."""
    _change(group, lambda data: removed(data, name), after, nats, debug)


def pause_stream(group: str, name: str, value: bool, after: After, nats: str | None, debug: bool) -> None:
    """Pause a stream, or have it go on."""
    _change(group, lambda data: paused(data, name, value), after, nats, debug)


def _assigned(data: Data, assignments: Sequence[str], unset: Sequence[str]) -> Data:
    for key in unset:
        data = edited(data, key, NOTHING)
    for text in assignments:
        data = edited(data, *assignment(text))
    return data


def _change(group: str, edit: Callable[[Data], Data], after: After, nats: str | None, debug: bool) -> None:
    """Deploy the group as it runs with its data changed by `edit`."""

    async def job(bus: Bus) -> None:
        control = Control(bus)
        record, base = await control.known_running(group)
        spec = changed(record.spec, edit, Path.cwd())
        with steps() as progress:
            await check_scheduler(control, progress)
            wanted = Wanted(await bring_in_changes(control, spec, record, progress), base)
            done = await carry_out(control, [wanted], after, progress, "set")
        await finish(control, done, after)
        if not done[0].same:
            text = f"your group file is as it was: `hams-ctl export {group}` prints what runs"
            err.print(text, style="dim", soft_wrap=True)

    with_bus(job, nats, debug)


def changed(spec: GroupSpec, edit: Callable[[Data], Data], folder: Path) -> GroupSpec:
    """Return `spec` with its data changed by `edit`, checked as a group file in `folder` is. Raises GroupSpecError."""
    data = edit(spec.model_dump(mode="json"))
    if data.get("name") != spec.name:
        raise GroupSpecError("name: a running group keeps its name", "export it, and deploy it under another one")
    return with_paths_in(parse_group(with_zoo(data, zoo()), f"group {spec.name}"), folder)


def export(group: str, secrets: bool, nats: str | None, debug: bool) -> None:
    """Print the group as a group file."""

    async def job(bus: Bus) -> None:
        record, _ = await Control(bus).known_running(group)
        sys.stdout.write(group_text(record.spec, secrets=secrets, note=LEFT_OUT))
        hidden = hidden_in(record.spec)
        if hidden and not secrets:
            text = f"the secrets of {', '.join(hidden)} are left out, so that they do not work: --secrets writes them"
            err.print(text, style="yellow", soft_wrap=True)

    with_bus(job, nats, debug)
