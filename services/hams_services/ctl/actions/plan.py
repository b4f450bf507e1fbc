"""What `hams-ctl plan` does, with group files on a running system and with a matrix from a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hams_services.ctl.actions.deploy import check_scheduler
from hams_services.ctl.actions.offline_plan import PlanOptions, plan_offline, print_offline, print_reasons
from hams_services.ctl.actions.plan_outcomes import print_outcomes
from hams_services.ctl.console import out, print_json, with_bus, without_bus
from hams_services.ctl.progress import steps
from hams_services.ctl.tables import matrix_table, max_streams, plans_table, reasons, short_names
from hams_services.models.groups import load_all_groups
from hams_services.models.prepare import bring_in
from hams_shared.bus.control import Control, Progress
from hams_shared.bus.protocol import Bus
from hams_shared.errors import DeadlineError, NotFoundError, from_wire
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.scheduler import PlanAnswer, StrategyAnswer, SurviveRequest


def plan_instance(instance: Path, options: PlanOptions, json: bool, debug: bool) -> None:
    """Plan a matrix from a file, without a running system."""

    async def offline(stop: asyncio.Event) -> None:
        answers = await plan_offline(instance, options)
        if json:
            print_json(answers)
        else:
            print_offline(answers, options.explain)

    without_bus(offline, debug)


def plan_groups(files: list[Path], options: PlanOptions, json: bool, nats: str | None, debug: bool) -> None:
    """Plan the groups of `files` together on the devices that are up."""

    async def job(bus: Bus) -> None:
        specs = load_all_groups(files)
        control = Control(bus)
        with steps() as progress:
            await check_scheduler(control, progress)
            records = [await bring_in(control, spec, progress) for spec in specs]
            answer = await ask_plan(control, records, options, progress)
        if json:
            print_json([_as_json(a, options.max_streams) for a in answer.answers])
        elif not (options.survive and answer.answers[0].error):
            print_plan(answer, options.explain, options.max_streams)
        if answer.answers and answer.answers[0].error and all(a.error for a in answer.answers):
            raise from_wire(answer.answers[0].error.model_dump())

    with_bus(job, nats, debug)


async def ask_plan(
    control: Control, records: list[GroupRecord], options: PlanOptions, progress: Progress
) -> PlanAnswer:
    """Ask the scheduler, and show the benchmarks that it still needs."""

    async def watch() -> None:
        most = 0
        while True:
            await asyncio.sleep(0.3)  # the scheduler gets the request first
            try:
                waiting = (await control.view(matrix=False)).waiting_profiles
            except (NotFoundError, DeadlineError):  # the request itself reports that nobody answers
                continue
            most = max(most, waiting)
            if waiting:
                progress("measure models", most - waiting, most)
            else:
                progress("plan", 0, 0)

    async with asyncio.TaskGroup() as owner:
        watcher = owner.create_task(watch())
        answer = await control.plan(
            records,
            options.strategies,
            options.time_limit,
            each_loss=options.each_loss,
            survive=SurviveRequest(keep=options.keep, reserve_memory=options.reserve) if options.survive else None,
        )
        watcher.cancel()
    return answer


def _as_json(answer: StrategyAnswer, stream_fps: float | None) -> dict[str, Any]:
    streams = {} if stream_fps is None else {"max_streams": max_streams(answer, stream_fps)}
    return answer.model_dump(mode="json") | streams


def print_plan(answer: PlanAnswer, explain: bool = False, stream_fps: float | None = None) -> None:
    """Print the matrix and the strategies' answers, with how many streams of `stream_fps` each group carries."""
    if answer.matrix is not None:
        out.print(matrix_table(answer.matrix))
        for line in reasons(answer.matrix):
            out.print(line, style="dim")
        out.print()
    out.print(plans_table(answer.answers, stream_fps))
    for one in answer.answers:
        if one.source_fps is not None:
            out.print(f"{one.strategy}: {gain(one)}")
    print_outcomes([one.model_dump(mode="json") for one in answer.answers if one.error is None])
    if explain:
        for one in answer.answers:
            out.print(f"\n{one.strategy}", style="bold")
            print_reasons(one.explanation)


def gain(answer: StrategyAnswer) -> str:
    """Return what the variants of a plan gain, in all and each on its device."""
    without = f"{answer.source_fps:.2f} FPS without" if answer.source_fps else "no plan without"
    factor = f", ×{answer.fps / answer.source_fps:.2f}" if answer.source_fps else ""
    names = short_names([d for places in answer.variants.values() for d in places])
    each = [
        f"{node} on {names[device]} {choice.label} (agreement {choice.agreement:.3f}): {choice.fps:.1f} "
        + (f"instead of {choice.source_fps:.1f} FPS" if choice.source_fps else "FPS; its source does not run there")
        for node, places in answer.variants.items()
        for device, choice in places.items()
    ]
    return f"{answer.fps:.2f} FPS with variants, {without}{factor}; {'; '.join(each)}"
