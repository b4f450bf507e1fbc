"""What `hams-ctl deploy` and `undeploy` do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hams_services.ctl.actions.candidate import as_candidate, percent, until_seen
from hams_services.ctl.actions.diff import print_difference
from hams_services.ctl.console import err, out, print_json, with_bus
from hams_services.ctl.progress import Creeping, steps
from hams_services.ctl.tables import placement
from hams_services.models.groups import load_groups_with
from hams_services.models.prepare import bring_in
from hams_shared.bus.candidates import Trial
from hams_shared.bus.control import Control, Progress
from hams_shared.bus.deployments import Running
from hams_shared.bus.protocol import Bus
from hams_shared.errors import DeadlineError, HamsError, NotFoundError, SourceError
from hams_shared.group.difference import Difference, difference
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.audit import AuditWhat
from hams_shared.wire.messages.candidate import Candidate
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.scheduler import GroupView

_STATES = {"profiling": "measure models", "loading": "load models"}
"""The name of a group's state in progress bars."""
_REPAIR = "the group serves without them: repair the source, then `hams-ctl stream pause` and `resume` it"
STREAMS_S = 10.0
"""How long the streams of a serving group may take to start, s."""


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


@dataclass(frozen=True)
class After:
    """What a command does after it has changed a group: options of the command line."""

    wait: bool
    timeout: float
    """s."""
    json: bool


@dataclass(frozen=True)
class Wanted:
    """A group as it is to run, made from what runs."""

    record: GroupRecord
    base: Running

    @property
    def difference(self) -> Difference:
        """What differs."""
        return difference(self.base.record, self.record)


@dataclass(frozen=True)
class Done:
    """What became of it."""

    wanted: Wanted
    runs: GroupRecord
    """What was written; where nothing differs, what ran before."""
    view: GroupView | None = None

    @property
    def same(self) -> bool:
        """Whether nothing was done."""
        return self.runs == self.wanted.base.record


def deploy(
    file: Path, strategy: str | None, after: After, nats: str | None, debug: bool, trial: Trial | None = None
) -> None:
    """Deploy the groups of `file`, and wait until they serve if that is wanted.

    With a `trial` they become candidates for the groups of their names.
    """

    async def job(bus: Bus) -> None:
        if trial is not None:
            trial.check()
        specs = load_groups_with(file, strategy)
        control = Control(bus)
        with steps() as progress:
            await check_scheduler(control, progress)
            wanted = [await _wanted(control, spec, progress, trial) for spec in specs]
            done = await carry_out(control, wanted, after, progress)
        await finish(control, done, after)

    with_bus(job, nats, debug)


async def _wanted(control: Control, spec: GroupSpec, progress: Progress, trial: Trial | None) -> Wanted:
    base = await control.running(spec.name)  # before its networks are fetched, which may take minutes
    record = await bring_in(control, spec, progress)
    if trial is None:
        return Wanted(record, base)
    record = await as_candidate(control, record, trial)
    return Wanted(record, await control.running(record.spec.name))


async def carry_out(
    control: Control, wanted: list[Wanted], after: After, progress: Progress, what: AuditWhat = "deploy"
) -> list[Done]:
    """Write the groups that differ from what runs, and wait until they serve if that is wanted.

    Raises:
        ConflictError: someone else has changed one of them meanwhile; the text names those before it in the list, which
            are written.
    """
    done: list[Done] = []
    for one in wanted:
        try:
            done.append(Done(one, await control.deploy_changes(one.record, one.base, what)))
        except HamsError as error:
            changed = ", ".join(one.runs.spec.name for one in done if not one.same)
            if not changed:
                raise
            raise type(error)(f"{error.text}; changed before it: {changed}", error.hint) from error
    if not after.wait:
        return done
    return [replace(one, view=await until_served(control, one.runs, progress, after.timeout)) for one in done]


async def finish(control: Control, done: list[Done], after: After) -> None:
    """Wait for the streams if that is wanted, print what was done, and warn of streams that do not play."""
    streams: list[StreamView] = []
    with steps() as progress:
        for one in done if after.wait else ():
            streams += await _begun(control, one.runs, progress)
    if after.json:
        found = [one.view or {"name": one.runs.spec.name, "state": "deployed"} for one in done]
        print_json(found[0] if len(found) == 1 else [_plain(one) for one in found])
    else:
        for one in done:
            _report(one)
    _tell_ended(streams, {one.runs.spec.name for one in done if one.same})
    check_streams(streams)


def _tell_ended(streams: list[StreamView], same: set[str]) -> None:
    """Say how files play again whose group was deployed as it is."""
    for stream in streams:
        if stream.group in same and stream.state == "ended":
            name = f"{stream.group}/{stream.stream}"
            text = f"stream {name} has ended: it plays again after `hams-ctl undeploy` and `deploy`"
            err.print(text, style="yellow", soft_wrap=True)


async def _begun(control: Control, record: GroupRecord, progress: Progress) -> tuple[StreamView, ...]:
    """Return the group's streams once they play or have failed; without a pipeline it warns and returns none."""
    if record.candidate is not None:
        await until_seen(control, record)
        return ()
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
        raise SourceError("; ".join(failed), _REPAIR)


def _plain(view: GroupView | dict[str, str]) -> dict[str, Any]:
    return view.model_dump(mode="json") if isinstance(view, GroupView) else dict(view)


def _report(done: Done) -> None:
    spec, view, base = done.runs.spec, done.view, done.wanted.base
    if done.runs.candidate is not None:
        _report_candidate(done.runs.candidate, view)
        return
    if done.same:
        out.print(f"group [bold]{spec.name}[/bold]: nothing changed, version {done.runs.version} runs on", markup=True)
    elif base.record is not None:
        out.print(f"group [bold]{spec.name}[/bold]: version {done.runs.version}", markup=True)
        print_difference(done.wanted.difference, base.record.spec, spec, short=True)
    if view is None or view.active is None:
        if not done.same:
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
    if base.record is None:
        out.print(f"next: hams-ctl results {spec.name} --follow")


def _report_candidate(candidate: Candidate, view: GroupView | None) -> None:
    what = f"{candidate.mode} of {percent(candidate.share)} of the frames"
    if view is None or view.active is None:
        out.print(f"a candidate for group [bold]{candidate.of}[/bold] is deployed: {what}", markup=True)
    else:
        plan = view.active
        out.print(f"a candidate for group [bold]{candidate.of}[/bold] runs: {what}, plan {plan.epoch}", markup=True)
        out.print(f"  {placement(plan.shares, plan.variants)}")
    out.print(f"next: hams-ctl candidate status {candidate.of}")


def undeploy(name: str, nats: str | None, debug: bool) -> None:
    """Remove a group."""

    async def job(bus: Bus) -> None:
        await Control(bus).undeploy(name)
        out.print(f"group {name} is undeployed")

    with_bus(job, nats, debug)
