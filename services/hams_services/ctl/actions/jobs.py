"""What `hams-ctl nco optimize`, `calibrate`, `train`, `jobs`, `report` and `cancel` do: work for the optimizer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hams_services.ctl.console import checked, err, out, print_json, with_bus
from hams_services.ctl.progress import Steps, steps
from hams_services.ctl.tables import plain_table
from hams_shared.bus.control import Control
from hams_shared.bus.jobs import cancel as cancel_job
from hams_shared.bus.jobs import jobs as all_jobs
from hams_shared.bus.jobs import new_id, submit
from hams_shared.bus.protocol import Bus
from hams_shared.bus.records import watched
from hams_shared.errors import BadInputError, NotFoundError, from_wire
from hams_shared.wire import subjects
from hams_shared.wire.messages.optimizer import JobRecord

TAKEN_S = 20.0
"""After so long without an optimizer that takes the job this is reported, s."""


def optimize(
    group: str,
    frames: int,
    samples: Path | None,
    budget: float,
    fresh: bool,
    wait: bool,
    json: bool,
    nats: str | None,
    debug: bool,
) -> None:
    """Submit a job that makes, compares and measures variants."""
    job = _record(
        kind="optimize",
        group=group,
        frames=frames,
        samples=str(samples.absolute()) if samples else "",
        budget_s=budget,
        fresh=fresh,
    )
    _begin(job, wait, json, nats, debug)


def calibrate(group: str, frames: int, wait: bool, json: bool, nats: str | None, debug: bool) -> None:
    """Submit a job that takes frames."""
    job = _record(kind="calibrate", group=group, frames=frames)
    _begin(job, wait, json, nats, debug)


def train(
    group: str,
    node: str,
    gflops: float,
    fps: float,
    device: str,
    labels: Path | None,
    samples: Path | None,
    frames: int,
    epochs: int,
    budget: float,
    wait: bool,
    json: bool,
    nats: str | None,
    debug: bool,
) -> None:
    """Submit a job that trains a student."""
    job = _record(
        kind="train",
        group=group,
        node=node,
        gflops=gflops,
        fps=fps,
        device=device,
        labels=str(labels.absolute()) if labels else "",
        samples=str(samples.absolute()) if samples else "",
        frames=frames,
        epochs=epochs,
        budget_s=budget,
    )
    _begin(job, wait, json, nats, debug)


def jobs(json: bool, nats: str | None, debug: bool) -> None:
    """Print the jobs, newest first."""

    async def job(bus: Bus) -> None:
        found = await all_jobs(bus)
        if json:
            print_json([one.model_dump(mode="json") for one in found])
            return
        if not found:
            out.print("no jobs yet: hams-ctl nco optimize GROUP")
            return
        table = plain_table("Jobs")
        for column in ("job", "what", "state", "host", "progress", "text"):
            table.add_column(column)
        for one in found:
            progress = f"{100 * one.done // one.total} %" if one.total and not one.over else ""
            table.add_row(
                one.id, f"{one.kind} {one.group} {one.node}".rstrip(), one.state, one.host, progress, one.text
            )
        out.print(table)

    with_bus(job, nats, debug)


def report(group: str, json: bool, nats: str | None, debug: bool) -> None:
    """Print a group's newest report."""

    async def job(bus: Bus) -> None:
        for one in await all_jobs(bus):
            if one.group == group and one.report:
                if json:
                    print_json({"job": one.id, "report": one.report})
                elif out.is_terminal:
                    from rich.markdown import Markdown

                    out.print(Markdown(one.report))
                else:
                    out.print(one.report, soft_wrap=True)
                return
        raise NotFoundError(f"group {group} was not optimized yet", f"hams-ctl nco optimize {group}")

    with_bus(job, nats, debug)


def cancel(job_id: str, nats: str | None, debug: bool) -> None:
    """Cancel a job."""

    async def job(bus: Bus) -> None:
        ended = await cancel_job(bus, job_id, time.time())
        out.print(f"job {ended.id} ({ended.kind} {ended.group}) is cancelled")

    with_bus(job, nats, debug)


def _record(**values: Any) -> JobRecord:
    """Return a new job; a value that no job may have ends the command."""

    def make() -> JobRecord:
        try:
            return JobRecord(id=new_id(), created_at=time.time(), **values)
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            option = str(found["loc"][0]).removesuffix("_s")
            raise BadInputError(f"--{option} {found['input']}: {found['msg'].lower()}") from None

    return checked(make)


def _begin(job: JobRecord, wait: bool, json: bool, nats: str | None, debug: bool) -> None:
    async def begin(bus: Bus) -> None:
        await Control(bus).deployed(job.group)
        await submit(bus, job)
        ended = job
        if wait:
            try:
                with steps() as progress:
                    ended = await _followed(bus, job.id, progress)
            except asyncio.CancelledError:  # Ctrl-C
                err.print(f"job {job.id} continues; cancel it with `hams-ctl nco cancel {job.id}`", soft_wrap=True)
                raise
        if json:
            print_json(ended)
        if ended.error is not None:
            raise from_wire(ended.error.model_dump())
        if not json:
            where = "" if wait else " is submitted; see `hams-ctl nco jobs`"
            out.print(f"job {ended.id}{where or f': {ended.state}, {ended.text}'}", soft_wrap=True)
            if wait and ended.kind == "optimize" and ended.state == "done":
                out.print(f"next: hams-ctl nco report {ended.group}, hams-ctl matrix --variants")

    with_bus(begin, nats, debug)


async def _followed(bus: Bus, job_id: str, progress: Steps) -> JobRecord:
    """Wait for a job to be over, showing its progress."""
    bucket = await bus.kv(subjects.bucket("jobs"))
    warning = asyncio.get_running_loop().call_later(
        TAKEN_S, err.print, "no optimizer has taken the job yet: start one with `hams-optimizer`"
    )
    warned = ""
    try:
        async for key, record in watched(bucket, JobRecord):
            if key != job_id:
                continue
            if record is None:
                raise NotFoundError(f"job {job_id} was removed")
            if record.state != "waiting":
                warning.cancel()
            if record.over:
                return record
            if record.warning and record.warning != warned:
                warned = record.warning
                err.print(f"warning: {warned}", style="yellow", soft_wrap=True)
            if record.text and record.kind == "optimize":  # its progress is the time that it may take
                progress(f"optimize {record.group}", record.done, record.total, record.text)
            elif record.text:
                what, _, detail = record.text.partition(": ")
                progress(what, record.done, record.total, detail)
    finally:
        warning.cancel()
    raise NotFoundError(f"job {job_id} cannot be followed: the broker is not reachable")
