"""`hams-ctl deploy`, `undeploy` and `plan`."""

from __future__ import annotations

import asyncio
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from hams_services.ctl.console import out, print_json, steps, with_bus, without_bus
from hams_services.ctl.control import Control, Progress, prepare_group
from hams_services.ctl.offline import plan_offline, print_offline, print_reasons
from hams_services.ctl.options import Debug, Json, Nats, Strategy
from hams_services.ctl.tables import matrix_table, placement, plans_table, reasons, short_names
from hams_services.zoo.groups import load_groups
from hams_shared.bus import Bus
from hams_shared.errors import DeadlineError, InfeasibleError
from hams_shared.group_spec import GroupSpec
from hams_shared.messages import GroupRecord, GroupView, PlanAnswer, StrategyAnswer
from hams_shared.process import cache_folder

GroupFile = Annotated[Path, typer.Argument(help="The group file (YAML); see docs/group-yaml.md.")]


async def bring_in(control: Control, spec: GroupSpec, progress: Progress) -> GroupRecord:
    """Fetch the group's networks and put them where agents find them."""
    record, files = await asyncio.to_thread(prepare_group, spec, cache_folder(), progress)
    await control.upload(files, progress)
    return record


async def until_served(control: Control, record: GroupRecord, progress: Progress, timeout: float) -> GroupView:
    """Wait until the group serves, showing what it waits for."""
    view: GroupView | None = None
    try:
        async with asyncio.timeout(timeout):
            async for view in control.follow(record):
                if view.total:
                    progress(
                        {"profiling": "measure models", "loading": "load models"}.get(view.state, view.state),
                        view.done,
                        view.total,
                    )
    except TimeoutError:
        state = f"{view.state}: {view.text}" if view else "the scheduler has not seen it"
        raise DeadlineError(
            f"group {record.spec.name} does not serve after {timeout:g} s ({state})",
            "it stays deployed: see `hams-ctl status`",
        ) from None
    assert view is not None
    return view


def deploy(
    file: GroupFile,
    strategy: Strategy = None,
    wait: Annotated[bool, typer.Option(help="Wait until the group serves.")] = True,
    timeout: Annotated[float, typer.Option(min=1, help="How long to wait, s.")] = 600.0,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Deploy a group, or all groups of a list: fetch their networks, measure them on all devices, place them, start."""

    async def job(bus: Bus) -> None:
        specs = load_groups(file)
        if strategy:
            specs = [spec.model_copy(update={"strategy": strategy}) for spec in specs]
        control = Control(bus)
        await control.view()  # say at once when no scheduler runs
        views: list[GroupView | None] = []
        with steps() as progress:
            records = [await bring_in(control, spec, progress) for spec in specs]
            for record in records:
                await control.deploy(record)
            for record in records:
                views.append(await until_served(control, record, progress, timeout) if wait else None)
        said = [view or {"name": spec.name, "state": "deployed"} for spec, view in zip(specs, views, strict=True)]
        if json:
            print_json(said[0] if len(said) == 1 else [_plain(one) for one in said])
            return
        for spec, view in zip(specs, views, strict=True):
            _report(spec, view)

    with_bus(job, nats, debug)


def _plain(view: GroupView | dict[str, str]) -> dict[str, Any]:
    return view.model_dump(mode="json") if isinstance(view, GroupView) else dict(view)


def _report(spec: GroupSpec, view: GroupView | None) -> None:
    if view is None or view.active is None:
        out.print(f"group [bold]{spec.name}[/bold] is deployed; see `hams-ctl status`")
        return
    plan = view.active
    # The bound is that of the worst-off group; of one that is better off it says nothing.
    bound = f" (bound {plan.bound_fps:.2f})" if plan.fps <= plan.bound_fps * (1 + 1e-6) else ""
    out.print(
        f"group [bold]{spec.name}[/bold] serves: plan {plan.epoch} by {plan.strategy}, "
        f"predicted {plan.fps:.2f} FPS{bound}"
    )
    out.print(f"  {placement(plan.shares, plan.variants)}")
    out.print(f"next: hams-ctl results {spec.name} --follow")


def undeploy(
    name: Annotated[str, typer.Argument(help="The group's name.")],
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Stop a group: its streams end, its networks are unloaded."""

    async def job(bus: Bus) -> None:
        await Control(bus).undeploy(name)
        out.print(f"group [bold]{name}[/bold] is undeployed")

    with_bus(job, nats, debug)


def plan(
    file: Annotated[Path | None, typer.Argument(help="The group file (YAML); see docs/group-yaml.md.")] = None,
    instance: Annotated[
        Path | None, typer.Option(help="Plan a matrix from a JSON file instead, without a running system.")
    ] = None,
    strategy: Annotated[str, typer.Option("--strategy", "-s", help="A strategy, several by commas, or all.")] = "all",
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.01, max=600, help="For each strategy that searches, s.")
    ] = 1.0,
    explain: Annotated[bool, typer.Option("--explain", help="Say of each node why it is where it is.")] = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option(help="With --instance: first add:DEVICE, add:PROFILE.yaml, remove:DEVICE or scale:DEVICE=1.5."),
    ] = None,
    max_streams: Annotated[
        float | None, typer.Option(help="With --instance: say how many streams of this FPS can be carried.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="With --instance: hams (default), or paper: one model per device.")
    ] = None,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show what each strategy would do, and why; nothing is deployed.

    With a group file: on the devices that are up; groups of a list are placed together. With --instance: on a
    matrix from a file, such as a saved `hams-ctl matrix --json`, changed as --what-if says.
    """

    async def offline(stop: asyncio.Event) -> None:
        assert instance is not None
        answers = await plan_offline(instance, strategy, time_limit, what_if or [], max_streams, objective)
        if json:
            print_json(answers)
        else:
            print_offline(answers, explain)

    async def job(bus: Bus) -> None:
        assert file is not None
        control = Control(bus)
        await control.view()
        with steps() as progress:
            records = [await bring_in(control, spec, progress) for spec in load_groups(file)]
            answer = await ask_plan(control, records, tuple(strategy.split(",")), time_limit, progress)
        if json:
            print_json([a.model_dump(mode="json") for a in answer.answers])
        else:
            print_plan(answer, explain)
        if answer.answers and all(a.error for a in answer.answers):
            raise InfeasibleError(answer.answers[0].error.text if answer.answers[0].error else "no plan")

    if (file is None) == (instance is None):
        raise typer.BadParameter("give a group file, or --instance FILE")
    if file is not None and (what_if or max_streams or objective):
        raise typer.BadParameter("--what-if, --max-streams and --objective go with --instance")
    if instance is not None:
        without_bus(offline, debug)
    else:
        with_bus(job, nats, debug)


async def ask_plan(
    control: Control, records: list[GroupRecord], strategies: tuple[str, ...], time_limit: float, progress: Progress
) -> PlanAnswer:
    """Ask the scheduler, showing the benchmarks it still needs."""

    async def watch() -> None:
        most = 0
        while True:
            waiting = (await control.view()).waiting_profiles
            most = max(most, waiting)
            if most:
                progress("measure models", most - waiting, most)
            await asyncio.sleep(0.3)

    async with asyncio.TaskGroup() as owner:
        watcher = owner.create_task(watch())
        answer = await control.plan(records, strategies, time_limit)
        watcher.cancel()
    return answer


def print_plan(answer: PlanAnswer, explain: bool = False) -> None:
    """Print the matrix and the strategies' answers."""
    if answer.matrix is not None:
        out.print(matrix_table(answer.matrix))
        for line in reasons(answer.matrix):
            out.print(line, style="dim")
        out.print()
    out.print(plans_table(answer.answers))
    for one in answer.answers:
        if one.source_fps is not None:
            out.print(f"{one.strategy}: {bought(one)}")
    if explain:
        for one in answer.answers:
            out.print(f"\n[bold]{one.strategy}[/bold]")
            print_reasons(one.explanation)


def bought(answer: StrategyAnswer) -> str:
    """What the variants of a strategy's answer give, in all and each on its device."""
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


def schema() -> None:
    """Print the JSON Schema of group.yaml, by which editors complete and check it.

    Put it beside the group file and begin that with: # yaml-language-server: $schema=group.schema.json
    """
    sys.stdout.write(files("hams_services.ctl").joinpath("group.schema.json").read_text(encoding="utf-8"))
