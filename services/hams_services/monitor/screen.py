"""What `hams-ctl top` shows."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hams_services.monitor.core import DeviceRates, NodeRates, SystemSnapshot, device_rates, node_rates
from hams_services.monitor.table_layout import FittingTable
from hams_shared.wire.messages.pipeline import StreamView


def screen(before: SystemSnapshot, after: SystemSnapshot) -> RenderableType:
    """Return three tables: streams, nodes, devices."""
    parts: list[RenderableType] = [Text(text, style="bold red") for text in after.troubles]
    if after.blind:
        return Group(*parts)
    parts += [
        _streams(after.streams),
        Text(),
        _nodes(node_rates(before, after)),
        Text(),
        _devices(device_rates(before, after)),
    ]
    return Group(*parts)


def _table(*columns: str) -> Table:
    table = FittingTable()
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 or name in ("state", "device") else "right")
    return table


def _streams(streams: tuple[StreamView, ...]) -> RenderableType:
    if not streams:
        return Text("no streams", style="dim")
    gates = any(one.gated for one in streams)
    ends = (*(["gated"] if gates else []), "dropped", "failed")
    table = _table("STREAM", "state", "FPS", "p50", "p99", "in flight", *ends, "resent")
    for one in streams:
        dropped, failed = sum(one.dropped.values()), sum(one.failed.values())
        table.add_row(
            f"{one.group}/{one.stream}",
            one.state,
            Text(f"{one.fps:.1f}", style="bold"),
            f"{one.p50_ms:.0f} ms",
            f"{one.p99_ms:.0f} ms",
            str(one.in_flight),
            *([str(one.gated)] if gates else []),
            Text(str(dropped), style="yellow" if dropped else ""),
            Text(str(failed), style="bold red" if failed else ""),
            str(one.resent),
        )
    return table


def _nodes(nodes: list[NodeRates]) -> RenderableType:
    if not nodes:
        return Text("no node is at work", style="dim")
    table = _table("NODE", "device", "frames/s", "inferences/s", "device time")
    for one in nodes:
        name = Text(f"{one.group}/{one.node}")
        if one.variant:
            name.append(f" {one.variant}", style="dim")
        if one.not_finite:
            name.append(f" {one.not_finite} not finite", style="bold red")
        table.add_row(
            name, one.device, f"{one.frames_per_s:.1f}", f"{one.inferences_per_s:.1f}", f"{100 * one.share:.0f} %"
        )
    return table


def _devices(devices: list[DeviceRates]) -> RenderableType:
    if not devices:
        return Text("no devices", style="dim")
    table = _table("DEVICE", "state", "busy", "queue", "memory")
    for one in devices:
        state = Text(one.state, style="green" if one.state == "alive" else "bold red")
        if one.emulated:
            state.append(" (emulated)", style="yellow")
        busy = "–" if one.busy is None else f"{100 * one.busy:.0f} %"
        table.add_row(one.device, state, Text(busy, style="bold"), str(one.queue), f"{one.memory_mib:.0f} MiB")
    return table
