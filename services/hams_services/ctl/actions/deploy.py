"""What `hams-ctl deploy` and `undeploy` do."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from hams_services.ctl.console import err, out, print_json, with_bus
from hams_services.ctl.control import Control, Progress, prepare_group
from hams_services.ctl.progress import Creeping, steps
from hams_services.ctl.tables import placement
from hams_services.models.groups import load_groups
from hams_shared.bus.protocol import Bus
from hams_shared.errors import DeadlineError, NotFoundError, SourceError
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.process import cache_folder
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.scheduler import GroupView

_STATES = {"profiling": "measure models", "loading": "load models"}
"""The name of a group's state in progress bars."""
STREAMS_S = 10.0
"""How long the streams of a serving group may take to start, s."""


async def bring_in(control: Control, spec: GroupSpec, progress: Progress) -> GroupRecord:
    """Fetch the group's networks and upload them; return the group's record."""
    prepare = partial(prepare_group, elsewhere=await control.pipeline_is_elsewhere())
    record, files = await asyncio.to_thread(prepare, spec, cache_folder(), progress)
    await control.upload(files, progress)
    return record


async def check_scheduler(control: Control, progress: Progress) -> None:
    """Raise NotFoundError when no scheduler runs, before networks are fetched."""
    progress("ask the scheduler", 0, 0)
    await control.view(matrix=False)


async def until_served(control: Control, record: GroupRecord, progress: Progress, timeout: float) -> GroupView:
    """Wait until the group serves, and show the progress."""
    view: GroupView | None = None
    creeping, clock = Creeping(), asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(timeout):
            async for view in control.follow(record):
                if view.state != "serving":
                    what = _STATES.get(view.state, view.state)
                    progress(what, *creeping.parts(what, view.done, view.total, clock()))
    except TimeoutError:
        state = f"{view.state}: {view.text}" if view else "the scheduler has not seen it"
        raise DeadlineError(
            f"group {record.spec.name} does not serve after {timeout:g} s ({state})",
            "it stays deployed: see `hams-ctl status`",
        ) from None
    assert view is not None
    return view


def deploy(
    file: Path, strategy: str | None, wait: bool, timeout: float, json: bool, nats: str | None, debug: bool
) -> None:
    """Deploy the groups of `file`, and wait until they serve if `wait`, `timeout` s at most."""

    async def job(bus: Bus) -> None:
        specs = load_groups(file)
        if strategy:
            specs = [spec.model_copy(update={"strategy": strategy}) for spec in specs]
        control = Control(bus)
        views: list[GroupView | None] = []
        streams: list[StreamView] = []
        with steps() as progress:
            await check_scheduler(control, progress)
            records = [await bring_in(control, spec, progress) for spec in specs]
            for record in records:
                await control.deploy(record)
            for record in records:
                views.append(await until_served(control, record, progress, timeout) if wait else None)
            for record in records if wait else ():
                streams += await _begun(control, record, progress)
        if json:
            found = [view or {"name": spec.name, "state": "deployed"} for spec, view in zip(specs, views, strict=True)]
            print_json(found[0] if len(found) == 1 else [_plain(one) for one in found])
        else:
            for spec, view in zip(specs, views, strict=True):
                _report(spec, view)
        check_streams(streams)

    with_bus(job, nats, debug)


async def _begun(control: Control, record: GroupRecord, progress: Progress) -> tuple[StreamView, ...]:
    """Return the group's streams once they play or have failed; without a pipeline it warns and returns none."""
    if not record.spec.streams:
        return ()
    progress("start streams", 0, 0)
    try:
        return await control.until_streams_run(record, STREAMS_S)
    except (NotFoundError, DeadlineError) as error:
        err.print(f"streams of {record.spec.name} do not play: {error}", style="yellow", soft_wrap=True)
        return ()


def check_streams(streams: list[StreamView]) -> None:
    """Warn of streams that do not play yet.

    Raises:
        SourceError: some have failed.
    """
    for stream in streams:
        if stream.state in ("waiting", "reconnecting"):
            text = f"stream {stream.group}/{stream.stream} does not play yet: {stream.text or stream.state}"
            err.print(text, style="yellow", soft_wrap=True)
    failed = [f"stream {s.group}/{s.stream} failed: {s.text}" for s in streams if s.state == "failed"]
    if failed:
        raise SourceError("; ".join(failed), "the group serves without them: repair the source, and deploy again")


def _plain(view: GroupView | dict[str, str]) -> dict[str, Any]:
    return view.model_dump(mode="json") if isinstance(view, GroupView) else dict(view)


def _report(spec: GroupSpec, view: GroupView | None) -> None:
    if view is None or view.active is None:
        out.print(f"group [bold]{spec.name}[/bold] is deployed; see `hams-ctl status`", markup=True)
        return
    plan = view.active
    bound = f" (bound {plan.bound_fps:.2f})" if plan.bound_fps else ""  # 0: this group's own is not known
    out.print(
        f"group [bold]{spec.name}[/bold] serves: plan {plan.epoch} by {plan.strategy}, "
        f"predicted {plan.fps:.2f} FPS{bound}",
        markup=True,
    )
    out.print(f"  {placement(plan.shares, plan.variants)}")
    out.print(f"next: hams-ctl results {spec.name} --follow")


def undeploy(name: str, nats: str | None, debug: bool) -> None:
    """Remove a group."""

    async def job(bus: Bus) -> None:
        await Control(bus).undeploy(name)
        out.print(f"group {name} is undeployed")

    with_bus(job, nats, debug)
