"""`hams-ctl nco optimize`, `calibrate`, `jobs` and `cancel`: work for the optimizer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown
from rich.markup import escape

from hams_services.ctl.commands_nco import nco
from hams_services.ctl.console import Steps, err, out, print_json, steps, with_bus
from hams_services.ctl.control import Control
from hams_services.ctl.options import Debug, Json, Nats
from hams_services.ctl.tables import plain_table
from hams_services.optimizer.jobs.service import cancel as take_back
from hams_services.optimizer.jobs.service import new_id, submit
from hams_shared import codec, subjects
from hams_shared.bus import Bus
from hams_shared.errors import NotFoundError, from_wire
from hams_shared.kv_records import watched
from hams_shared.messages import JobRecord

__all__ = ["nco"]

Group = Annotated[str, typer.Argument(help="Name of a deployed group.")]
Frames = Annotated[int, typer.Option(min=3, max=10_000, help="Frames to take from the group's streams.")]
Wait = Annotated[bool, typer.Option(help="Wait until it is done; Ctrl-C leaves it running.")]
TAKEN_S = 20.0
"""So long without an optimizer that takes the job: say so."""


@nco.command()
def optimize(
    group: Group,
    frames: Frames = 120,
    samples: Annotated[Path | None, typer.Option(help="A folder of frames instead, on the optimizer's host.")] = None,
    budget: Annotated[float, typer.Option(min=1, help="Nothing new is tried after so many seconds.")] = 900.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Take new frames, and measure anew what is known.")] = False,
    wait: Wait = True,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Make variants of a group's networks, compare and measure them all; the scheduler then uses the best.

    Takes frames from the group's own streams (or --samples), makes what each runtime can read in each precision,
    compares each with its source through the node's own post-processing, and has every device measure what reaches the
    floor.
    """
    job = JobRecord(
        id=new_id(),
        kind="optimize",
        group=group,
        frames=frames,
        samples=str(samples.absolute()) if samples else "",
        budget_s=budget,
        fresh=fresh,
        created_at=time.time(),
    )
    _begin(job, wait, json, nats, debug)


@nco.command()
def calibrate(
    group: Group,
    frames: Frames = 300,
    wait: Wait = True,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Take frames from a group's own streams, for `optimize` to calibrate and compare with."""
    job = JobRecord(id=new_id(), kind="calibrate", group=group, frames=frames, created_at=time.time())
    _begin(job, wait, json, nats, debug)


@nco.command()
def train(
    group: Group,
    node: Annotated[str, typer.Argument(help="The node whose network is too slow for a device.")],
    gflops: Annotated[float, typer.Option(min=0, help="The student's budget, 10⁹ operations an image.")] = 0.0,
    fps: Annotated[float, typer.Option(min=0, help="Or the images/s that it has to reach on --device.")] = 0.0,
    device: Annotated[str, typer.Option("--device", "-d", help="A device of the optimizer's host.")] = "openvino:CPU",
    labels: Annotated[
        Path | None, typer.Option(help="Learn from a folder with labels.json instead of from the network.")
    ] = None,
    samples: Annotated[Path | None, typer.Option(help="A folder of frames instead of the group's streams.")] = None,
    frames: Annotated[int, typer.Option(min=20, max=10_000, help="Frames to take from the streams.")] = 300,
    epochs: Annotated[int, typer.Option(min=1, help="Most passes over the samples; it stops early.")] = 200,
    budget: Annotated[float, typer.Option(min=1, help="No pass is begun after so many seconds.")] = 600.0,
    wait: Wait = True,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Fit a small network to say what a node's network says; it serves where it agrees as much as the floor asks.

    Checkpoints are kept after each pass: a run that was stopped, or killed, goes on when it is asked for again.
    """
    if not gflops and not fps:
        raise typer.BadParameter("give --gflops, or --fps with --device")
    job = JobRecord(
        id=new_id(),
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
        created_at=time.time(),
    )
    _begin(job, wait, json, nats, debug)


@nco.command()
def jobs(json: Json = False, nats: Nats = None, debug: Debug = False) -> None:
    """Show the optimizer's jobs, newest first."""

    async def job(bus: Bus) -> None:
        found = await _all(bus)
        if json:
            print_json([one.model_dump(mode="json") for one in found])
            return
        if not found:
            out.print("no jobs yet: hams-ctl nco optimize GROUP")
            return
        table = plain_table("Jobs")
        for column in ("job", "what", "state", "host", "steps", "text"):
            table.add_column(column)
        for one in found:
            progress = f"{one.done}/{one.total}" if one.total and not one.over else ""
            table.add_row(
                one.id, f"{one.kind} {one.group} {one.node}".rstrip(), one.state, one.host, progress, escape(one.text)
            )
        out.print(table)

    with_bus(job, nats, debug)


@nco.command()
def report(
    group: Group,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Print the report of a group's newest optimization."""

    async def job(bus: Bus) -> None:
        for one in await _all(bus):
            if one.group == group and one.report:
                if json:
                    print_json({"job": one.id, "report": one.report})
                elif out.is_terminal:
                    out.print(Markdown(one.report))
                else:
                    out.print(one.report, markup=False, soft_wrap=True)
                return
        raise NotFoundError(f"group {group} was not optimized yet", f"hams-ctl nco optimize {group}")

    with_bus(job, nats, debug)


@nco.command()
def cancel(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="As `hams-ctl nco jobs` shows it.")],
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Take a job back; what it made so far is kept."""

    async def job(bus: Bus) -> None:
        ended = await take_back(bus, job_id, time.time())
        out.print(f"job {ended.id} ({ended.kind} {ended.group}) is cancelled")

    with_bus(job, nats, debug)


def _begin(job: JobRecord, wait: bool, json: bool, nats: str | None, debug: bool) -> None:
    async def begin(bus: Bus) -> None:
        await Control(bus).deployed(job.group)
        await submit(bus, job)
        ended = job
        if wait:
            with steps() as progress:
                ended = await _followed(bus, job.id, progress)
        if json:
            print_json(ended)
        if ended.error is not None:
            raise from_wire(ended.error.model_dump())
        if not json:
            where = "" if wait else " is handed in; see `hams-ctl nco jobs`"
            out.print(f"job {ended.id}{where or f': {ended.state}, {escape(ended.text)}'}", soft_wrap=True)
            if wait and ended.kind == "optimize" and ended.state == "done":
                out.print(f"next: hams-ctl nco report {ended.group}, hams-ctl matrix --variants")

    with_bus(begin, nats, debug)


async def _followed(bus: Bus, job_id: str, progress: Steps) -> JobRecord:
    """Wait for a job to be over, showing what it does."""
    bucket = await bus.kv(subjects.bucket("jobs"))
    warning = asyncio.get_running_loop().call_later(
        TAKEN_S, err.print, "[yellow]no optimizer has taken the job yet[/yellow]: start one with `hams-optimizer`"
    )
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
            if record.text:
                what, _, detail = record.text.partition(": ")
                progress(what, record.done, record.total, detail)
    finally:
        warning.cancel()
    raise NotFoundError(f"job {job_id} cannot be followed: the broker is away")


async def _all(bus: Bus) -> list[JobRecord]:
    entries = await (await bus.kv(subjects.bucket("jobs"))).entries()
    found = [codec.decode(JobRecord, entry.value) for entry in entries.values() if entry.value is not None]
    return sorted(found, key=lambda one: -one.created_at)
