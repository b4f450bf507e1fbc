"""What `hams-ctl status`, `devices` and `matrix` do."""

from __future__ import annotations

import asyncio
import csv
import sys
import time
from collections.abc import Mapping
from typing import Any

from hams_services.ctl.actions.candidate import in_a_line
from hams_services.ctl.console import out, print_json, to_stdout, with_bus, without_bus
from hams_services.ctl.progress import steps
from hams_services.ctl.tables import (
    NARROW,
    devices_table,
    discovered_table,
    doubts,
    groups_table,
    leader_line,
    matrix_table,
    placement,
    predicted_otherwise,
    reasons,
    streams_table,
    variant_remarks,
    variants_table,
)
from hams_shared.bus.control import Control
from hams_shared.bus.protocol import Bus
from hams_shared.errors import DeadlineError, HamsError, NotFoundError
from hams_shared.wire.messages.agents import HANGS, DeviceHealth, NetworkFault
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.pipeline import PipelineView, StreamView
from hams_shared.wire.messages.scheduler import DeviceView, GroupView, MatrixView, SchedulerView
from hams_shared.wire.protocol import misfit

MEASURE_S = 1800.0
"""How long `matrix --measure` waits, s."""


def status(json: bool, nats: str | None, debug: bool) -> None:
    """Print groups, streams with their frame ledgers, and devices."""

    async def job(bus: Bus) -> None:
        control = Control(bus)
        view = await control.view()
        pipeline: PipelineView | HamsError
        try:
            pipeline = await control.streams()
        except (NotFoundError, DeadlineError) as error:
            pipeline = error
        if json:
            print_json(status_json(view, pipeline))
        else:
            print_status(view, pipeline)

    with_bus(job, nats, debug)


def status_json(view: SchedulerView, pipeline: PipelineView | HamsError) -> dict[str, object]:
    """Return the status for programs; `pipeline` is its view, or why there is none."""
    streams = pipeline if isinstance(pipeline, PipelineView) else PipelineView(streams=())
    return {
        "groups": [g.model_dump(mode="json") for g in view.groups],
        "streams": streams.model_dump(mode="json")["streams"],
        "candidates": [one.model_dump(mode="json") for one in streams.candidates or ()],
        "devices": [d.model_dump(mode="json") for d in view.devices],
        "leader": view.leader.model_dump(mode="json") if view.leader else None,
        "troubles": [] if pipeline is streams else [str(pipeline)],
    }


def print_status(view: SchedulerView, pipeline: PipelineView | HamsError) -> None:
    """Print the status; `pipeline` is its view, or why there is none."""
    compact = out.width < NARROW
    if view.groups:
        out.print(groups_table(view.groups, compact=compact))
        for group in view.groups:
            _print_remarks(group, compact)
    else:
        out.print("no group is deployed: hams-ctl deploy FILE")
    _print_unread("scheduler", view.unread)
    if isinstance(pipeline, PipelineView):
        _print_unread("pipeline", pipeline.unread)
        _print_streams(pipeline, compact)
    else:
        out.print()
        out.print(f"streams are not known: {pipeline}", style="red", soft_wrap=True)
    out.print()
    _print_devices(view.devices, False)
    if view.leader is not None:
        out.print()
        out.print(leader_line(view.leader, view.led_s, time.time()), style="dim")
        _print_versions(view, pipeline if isinstance(pipeline, PipelineView) else None)
        if view.losses:
            of = f"{view.losses_ready} of {view.losses} devices that serve"
            out.print(f"plans are ready for the loss of {of}", style="dim")


def _print_unread(part: str, unread: Mapping[str, WireError]) -> None:
    for name, error in unread.items():
        out.print(f"  the {part} cannot read group {name}: {error.text}", style="red", soft_wrap=True)
        out.print(f"  {error.hint}", style="dim", soft_wrap=True)


def _print_streams(pipeline: PipelineView, compact: bool) -> None:
    if pipeline.streams:
        out.print()
        out.print(streams_table(pipeline, compact=compact))
        for stream in pipeline.streams:
            _print_source(stream)
    for one in pipeline.candidates or ():
        out.print(f"  candidate for {in_a_line(one)}", soft_wrap=True)


def _print_versions(view: SchedulerView, pipeline: PipelineView | None) -> None:
    for part, said in (("scheduler", view), ("pipeline", pipeline)):
        if said is not None and (strange := misfit(part, said.version, said.protocol)):
            out.print(strange, style="red", soft_wrap=True)
    if mixed := _versions(view, pipeline):
        out.print(f"of several versions: {mixed}", style="yellow", soft_wrap=True)


def _versions(view: SchedulerView, pipeline: PipelineView | None) -> str:
    """Which part is of which version, where they differ."""
    named = [("scheduler", view.version)]
    named += [("pipeline", pipeline.version)] if pipeline is not None else []
    named += [(device.record.device, device.record.version) for device in view.devices if device.state == "alive"]
    known = {version or "an earlier one" for _, version in named}
    return ", ".join(f"{name} {version or 'an earlier one'}" for name, version in named) if len(known) > 1 else ""


def _print_source(stream: StreamView) -> None:
    name = f"{stream.group}/{stream.stream}"
    if stream.text:
        style = "red" if stream.state in ("failed", "reconnecting") else "yellow"
        out.print(f"  {name}: {stream.text}", style=style)
    if stream.decoder:
        damaged = f"; packets or frames damaged: {stream.damaged}" if stream.damaged else ""
        out.print(f"  {name}: {stream.decoder}{damaged}", style="dim")


def _print_remarks(group: GroupView, compact: bool) -> None:
    plan = group.active or group.next
    if compact and plan is not None:
        out.print(f"  {group.name}: {placement(plan.shares, plan.variants)}")
    if group.text and group.state != "serving":
        out.print(f"  {group.name}: {group.text}", style="yellow")
    if group.state == "serving" and predicted_otherwise(group):
        out.print(f"  {group.name}: {group.text}", style="dim")
    if group.expected_why:
        out.print(f"  {group.name}: {group.expected_why}", style="dim")
    if group.active is not None and group.active.unmet:
        text = "the plan cannot meet its target; groups of lower priority yield first"
        out.print(f"  {group.name}: {text}", style="yellow")


def discovered(json: bool, debug: bool) -> None:
    """Print the devices of this host."""
    from hams_services.ctl.system.up import discover

    async def refresh(stop: object) -> None:
        with steps() as progress:
            progress("look for devices", 0, 0)
            here = await discover()
        if json:
            about = {"details": here.found, "spare": here.spare}
            print_json({"devices": here.names, "skipped": here.skipped, "cores": here.cores, **about})
            return
        out.print(discovered_table(here.found))
        out.print(f"CPU: {here.cores}", style="dim")
        for one in here.spare:
            out.print(f"the CPU once more: --device {one['device']} ({one['runtime']}{_note(one)})", style="dim")
        for text in here.skipped:
            out.print(f"not used: {text}", style="dim")

    without_bus(refresh, debug)


def _note(one: dict[str, Any]) -> str:
    return f"; {one['note']}" if one["note"] else ""


def devices(json: bool, nats: str | None, debug: bool) -> None:
    """Print the devices of the system."""

    async def job(bus: Bus) -> None:
        _print_devices((await Control(bus).view(matrix=False)).devices, json)

    with_bus(job, nats, debug)


def resume(device: str, nats: str | None, debug: bool) -> None:
    """End a device's quarantine."""

    async def job(bus: Bus) -> None:
        reason = await Control(bus).resume(device)
        out.print(f"{device} gets work again ({reason})")

    with_bus(job, nats, debug)


def _print_devices(views: tuple[DeviceView, ...], json: bool) -> None:
    if json:
        print_json([d.model_dump(mode="json") for d in views])
        return
    out.print(devices_table(views))
    for view in views:
        if view.record.limit:
            out.print(f"  {view.record.device}: {view.record.limit}", style="dim", soft_wrap=True)
        for remark in view.heartbeat.remarks if view.heartbeat is not None else ():
            out.print(f"  {view.record.device}: {remark}", style="yellow", soft_wrap=True)
        if view.misfit:
            out.print(f"  {view.misfit}", style="red", soft_wrap=True)
        if view.health is not None:
            _print_faults(view.record.device, view.health)


def _print_faults(name: str, health: DeviceHealth) -> None:
    times = len(health.hangs) + len(health.failures)
    if health.gone:
        out.print(f"  {name} is gone: {health.gone}", style="red", soft_wrap=True)
    if health.quarantined:
        out.print(f"  {name} is quarantined: {health.reason}", style="red", soft_wrap=True)
        out.print(f"  once it is repaired: hams-ctl devices resume {name}", style="dim", soft_wrap=True)
    elif times:
        out.print(
            f"  {name} has hung or failed {times} of {HANGS} times: {health.reason}", style="yellow", soft_wrap=True
        )
    for fault in health.networks:
        if fault.out:
            out.print(f"  {name} does not run {fault.model}: {fault.reason}", style="red", soft_wrap=True)
            out.print(f"  {_again(name, fault)}", style="dim", soft_wrap=True)


def _again(name: str, fault: NetworkFault) -> str:
    """When a network that is out is tried again."""
    by_hand = f"hams-ctl devices resume {name}"
    if not fault.until:
        return f"it is tried again with another version of the runtime or driver, or now: {by_hand}"
    return f"it is tried again at {time.strftime('%H:%M:%S', time.localtime(fault.until))}, or now: {by_hand}"


def matrix(
    again: tuple[str, str] | None, json: bool, variants: bool, as_csv: bool, nats: str | None, debug: bool
) -> None:
    """Print the FPS matrix, after cells were measured `again`: those of a model and a device, empty: all."""

    async def job(bus: Bus) -> None:
        if again is not None:
            await _measure(Control(bus), *again)
        view = (await Control(bus).view()).matrix
        if json:
            print_json(view.model_dump(mode="json", exclude=None if variants else {"variants"}))
        elif as_csv:
            _csv(view)
        elif not view.models:
            out.print("no models yet: hams-ctl deploy FILE")
        else:
            out.print(matrix_table(view))
            for line in doubts(view, time.time()):
                out.print(line, style="yellow")
            for line in reasons(view):
                out.print(line, style="dim")
            if variants:
                _variants(view)

    with_bus(job, nats, debug)


async def _measure(control: Control, model: str, device: str) -> None:
    """Have cells measured again, and wait for it. Raises NotFoundError: no cell matches."""
    total = await control.measure(model, device)
    if not total:
        names = (await control.view()).matrix
        known = f"models: {', '.join(names.models) or 'none'}; devices: {', '.join(names.devices) or 'none'}"
        raise NotFoundError(f"no cell of the matrix matches {model or '*'} {device or '*'}", known)
    try:
        with steps() as progress:
            async with asyncio.timeout(MEASURE_S):
                while left := (view := await control.view()).waiting_profiles:
                    busy = ", ".join(f"{name} on {on}" for on, name in view.profiling.items())
                    progress("measure", max(total - left, 0), total, busy)
                    await asyncio.sleep(0.5)
            progress.end("measure")
    except TimeoutError:
        raise DeadlineError(
            f"not all cells were measured within {MEASURE_S:g} s", "measuring continues: see `hams-ctl matrix`"
        ) from None


def _variants(view: MatrixView) -> None:
    out.print()
    if not view.variants:
        out.print("no variants are known of these networks")
        return
    out.print(variants_table(view))
    for line in variant_remarks(view):
        out.print(line, style="dim")


def _csv(view: MatrixView) -> None:
    writer = csv.writer(sys.stdout)
    with to_stdout():
        writer.writerow(["model", *view.devices])
        for model, row in zip(view.models, view.fps, strict=True):
            writer.writerow([model, *("" if value is None else value for value in row)])
