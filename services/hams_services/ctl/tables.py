"""Tables that hams-ctl prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from hams_services.monitor.table_layout import FittingTable

if TYPE_CHECKING:  # commands that print other tables save this import
    from hams_shared.wire.messages.agents import DeviceRecord
    from hams_shared.wire.messages.pipeline import PipelineView, StreamView
    from hams_shared.wire.messages.plan import VariantChoice
    from hams_shared.wire.messages.scheduler import (
        DeviceView,
        GroupView,
        LeaderRecord,
        MatrixView,
        StrategyAnswer,
        VariantRow,
    )

Variants = Mapping[str, "Mapping[str, VariantChoice]"]
"""By node, then device: the variant that is loaded there."""


def short_names(devices: tuple[str, ...] | list[str]) -> dict[str, str]:
    """Return device ids without the host, when all are of one host."""
    hosts = {d.split(".", 1)[0] for d in devices}
    return {d: d.split(".", 1)[1] if len(hosts) == 1 and "." in d else d for d in devices}


def plain_table(title: str) -> Table:
    """Return an empty table in the style of all tables."""
    return FittingTable(title)


def matrix_table(matrix: MatrixView) -> Table:
    """Return the FPS matrix: rows are models, columns devices, and ``*`` marks the best cell of each row."""
    table = plain_table("FPS matrix, frames/s (* fastest)")
    names = short_names(matrix.devices)
    table.add_column("model")
    for device in matrix.devices:
        label = names[device] + (" (emulated)" if device in matrix.emulated else "")
        table.add_column(label, justify="right")
    for model, row in zip(matrix.models, matrix.fps, strict=True):
        best = max((v for v in row if v is not None), default=None)
        cells: list[Text | str] = []
        for device, value in zip(matrix.devices, row, strict=True):
            mark = "~" if f"{model} @ {device}" in matrix.doubts else ""
            if value is None:
                reason = matrix.reasons.get(f"{model} @ {device}", "")
                cells.append(Text("?" if reason == "not measured yet" else "–", style="dim"))
            elif value == best:
                cells.append(Text(f"{mark}{value:,.1f} *", style="bold green"))
            else:
                cells.append(f"{mark}{value:,.1f}  ")
        table.add_row(model, *cells)
    return table


OLD_S = 30 * 86_400.0
"""Older measurements are called old, s: drivers, governors and other programs change."""


def doubts(matrix: MatrixView, now: float) -> list[str]:
    """Return why numbers may be wrong, one line each; `now` is Unix time."""
    lines = [f"  ~ {pair}: {why}" for pair, why in matrix.doubts.items()]
    for model, cells in matrix.cells.items():
        for device, cell in cells.items():
            days = (now - cell.measured_at) / 86_400
            if cell.measured_at and now - cell.measured_at > OLD_S:
                lines.append(f"  {model} @ {device}: measured {days:.0f} days ago")
    return [*lines, *(["  measure again: hams-ctl matrix --measure [MODEL] [DEVICE]"] if lines else [])]


def variants_table(matrix: MatrixView) -> Table:
    """Return all networks for each node, excluded ones too; ``*``: the fastest on the device, ``→``: it serves."""
    table = plain_table("Variants, frames/s (* fastest that may serve, → serves)")
    names = short_names(matrix.devices)
    for column in ("node", "network", "agreement", "floor", *(names[d] for d in matrix.devices)):
        table.add_column(column, justify="left" if column in ("node", "network") else "right")
    last = ""
    for row in matrix.variants:
        first, last = row.node != last, row.node
        table.add_row(
            row.node if first else "",
            Text(row.label, style="dim" if row.excluded else ""),
            "–" if row.agreement is None else Text(f"{row.agreement:.4f}", style="red" if row.excluded else ""),
            f"{row.floor:g}" if first else "",
            *(_variant_cell(matrix, row, i) for i in range(len(matrix.devices))),
        )
    return table


def _variant_cell(matrix: MatrixView, row: VariantRow, column: int) -> Text:
    value, device = row.fps[column], matrix.devices[column]
    if value is None:
        return Text("?  " if row.reasons.get(device) == "not measured yet" else "–  ", style="dim")
    rivals = [r.fps[column] or 0.0 for r in matrix.variants if r.node == row.node and not r.excluded]
    best = not row.excluded and value == max(rivals)
    text = f"{'→ ' if device in row.serves else ''}{value:,.1f} {'*' if best else ' '}"
    return Text(text, style="dim" if row.excluded else "bold green" if best else "")


def variant_remarks(matrix: MatrixView) -> list[str]:
    """Return why networks are excluded, or have no number, one line each."""
    lines = []
    for row in matrix.variants:
        if row.excluded:
            lines.append(f"  {row.node}: {row.excluded}")
        lines += [
            f"  {row.node} {row.label} @ {d}: {why}"
            for d, why in row.reasons.items()
            if why != "not measured yet" and not _of_another_runtime(row.label, d)
        ]
    return lines


def _of_another_runtime(label: str, device: str) -> bool:
    """Whether a variant is in a format that the device's runtime does not read; a plug-in may read ONNX."""
    from hams_shared.wire.variants import READ

    return label.partition(" ")[0] not in READ.get(device.split(".")[1], ("onnx",))


def reasons(matrix: MatrixView) -> list[str]:
    """Return why cells are empty, and which networks are computed on fewer lanes than the device has, a line each."""
    lines = [f"  {pair}: {why}" for pair, why in matrix.reasons.items() if why != "not measured yet"]
    for model, cells in matrix.cells.items():
        for device, cell in cells.items():
            every = cell.curve[0] if cell.curve else None  # that with all lanes
            if every is not None and cell.lanes < every.lanes:
                slower = f"{every.fps:,.1f} frames/s with all {every.lanes} lanes"
                lines.append(f"  {model} @ {device}: at most {cell.lanes} at a time, which is faster: {slower}")
    return lines


def devices_table(devices: tuple[DeviceView, ...]) -> Table:
    """Return all devices with their load."""
    table = plain_table("Devices")
    for column in ("device", "state", "hardware", "cores", "runtime", "memory", "busy", "queue"):
        justify: JustifyMethod = "right" if column in ("memory", "busy", "queue") else "left"
        table.add_column(column, justify=justify, no_wrap=column == "device", overflow="fold")
    for view in devices:
        record, beat = view.record, view.heartbeat
        state = Text(view.state, style="green" if view.state == "alive" else "bold red")
        if record.emulated:
            state.append(" (emulated)", style="yellow")
        busy = f"{100 * beat.busy_s / beat.uptime_s:.0f} %" if beat and beat.uptime_s > 0 else "–"
        table.add_row(
            record.device,
            state,
            record.name,
            _cores(record),
            record.runtime,
            f"{beat.memory_mib:.0f} MiB" if beat else "–",
            busy,
            str(beat.queue) if beat else "–",
        )
    return table


def discovered_table(found: list[dict[str, Any]]) -> Table:
    """Return the devices of a host as its agents' code finds them."""
    table = plain_table("Devices of this host")
    notes = any(one["note"] for one in found)
    for column in ("option", "hardware", "runtime", *(("note",) if notes else ())):
        table.add_column(column, no_wrap=column == "option", overflow="fold")
    for one in found:
        table.add_row(f"--device {one['device']}", one["name"], one["runtime"], *((one["note"],) if notes else ()))
    return table


def _cores(record: DeviceRecord) -> str:
    cores = ",".join(map(str, record.cores)) or record.limit.partition(" cores")[0] or "any"
    return f"{cores}, {record.lanes} lanes" if record.lanes > 1 else cores


_STATE_STYLE = {"serving": "green", "failed": "bold red", "waiting": "yellow"}


PLACEMENT = 30
"""Least width of the placement column, characters."""
NARROW = 110
"""Narrower consoles get tables with fewer columns, characters."""


def groups_table(groups: tuple[GroupView, ...], *, compact: bool = False) -> Table:
    """Return all groups: FPS expected under the present load, FPS now, and the placement unless `compact`."""
    table = plain_table("Groups")
    columns = ("group", "state", "epoch", "strategy", "expected", "now", "placement")
    for column in columns[:-1] if compact else columns:
        least = PLACEMENT if column == "placement" else None
        table.add_column(column, justify="right" if column in ("epoch", "expected", "now") else "left", min_width=least)
    for view in groups:
        plan = view.active or view.next
        progress = f" {view.done}/{view.total}" if view.total else ""
        cells: list[Text | str] = [
            view.name,
            Text(view.state + progress, style=_STATE_STYLE.get(view.state, "cyan")),
            str(plan.epoch) if plan else "–",
            plan.strategy if plan else "–",
            _expected(view),
            _now(view),
            placement(plan.shares, plan.variants) if plan else "–",
        ]
        table.add_row(*(cells[:-1] if compact else cells))
    return table


def _now(view: GroupView) -> Text | str:
    """Return the group's FPS and its target; coloured when it misses the target."""
    if not view.measured_fps:
        return "–"
    if view.target_fps is None:
        return f"{view.measured_fps:.1f} FPS"
    short = view.measured_fps < 0.95 * view.target_fps
    return Text(f"{view.measured_fps:.1f} of {view.target_fps:g} FPS", style="yellow" if short else "green")


def _expected(view: GroupView) -> Text | str:
    """Return the FPS that the group can reach now; before it serves, the prediction of its plan."""
    plan = view.active or view.next
    if plan is None:
        return "–"
    text = f"{view.expected_fps or plan.fps:.1f} FPS"
    return (
        Text(f"{text}, target {view.target_fps:g} missed", style="yellow") if plan.unmet and view.target_fps else text
    )


def predicted_otherwise(group: GroupView) -> bool:
    """Return whether a host's cores limit the group, or the FPS predicted now differ from its plan's by 5 %."""
    if group.active is None or not group.predicted_fps:
        return False
    changed = abs(group.predicted_fps - group.active.fps) > 0.05 * group.active.fps
    return changed or group.bottleneck.startswith("host ")


def placement(shares: Mapping[str, Mapping[str, float]], variants: Variants | None = None) -> str:
    """Return ``device: node int8, node · device: node``; a share below one follows its node."""
    by_device: dict[str, list[str]] = {}
    for node, places in shares.items():
        for device, share in places.items():
            choice = (variants or {}).get(node, {}).get(device)
            words = [node, *([choice.label] if choice else []), *([] if share > 0.999 else [f"{share:.0%}"])]
            by_device.setdefault(device, []).append(" ".join(words))
    names = short_names(list(by_device))
    return " · ".join(f"{names[d]}: {', '.join(nodes)}" for d, nodes in sorted(by_device.items()))


def streams_table(pipeline: PipelineView, *, compact: bool = False) -> Table:
    """Return all streams with their ledgers; `compact`: the ledger as a sentence."""
    table = plain_table("Streams")
    for column in ("stream", "state"):
        table.add_column(column, no_wrap=True, overflow="fold")
    gates = any(view.gated for view in pipeline.streams)
    ends = ("submitted", "delivered", *(["gated"] if gates else []), "dropped", "failed", "in flight", "resent")
    ledger = () if compact else ends
    for column in ("FPS", "p50", "p99", *ledger):
        table.add_column(column, justify="right", no_wrap=compact)
    if compact:
        table.add_column("frames", min_width=18)
    for view in pipeline.streams:
        table.add_row(*_stream_row(view), *([_sentence(view)] if compact else _ledger(view, gates)))
    return table


def _stream_row(view: StreamView) -> list[Text | str]:
    style = {"playing": "green", "failed": "bold red"}.get(view.state, "cyan")
    return [
        f"{view.group}/{view.stream}",
        Text(view.state, style=style),
        f"{view.fps:.1f}",
        f"{view.p50_ms:.1f} ms",
        f"{view.p99_ms:.1f} ms",
    ]


def _ledger(view: StreamView, gates: bool) -> list[str]:
    done = [str(view.submitted), str(view.delivered), *([str(view.gated)] if gates else [])]
    return [*done, _counts(view.dropped), _counts(view.failed), str(view.in_flight), str(view.resent)]


def _sentence(view: StreamView) -> str:
    parts = [
        f"{view.delivered} of {view.submitted} delivered",
        f"{view.gated} gated",
        f"{_counts(view.dropped)} dropped",
        f"{_counts(view.failed)} failed",
        f"{view.in_flight} in flight",
        f"{view.resent} resent",
    ]
    return ", ".join(part for part in parts if not part.startswith("0 "))


def _counts(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return f"{total} ({', '.join(f'{k} {v}' for k, v in sorted(counts.items()))})" if total else "0"


def leader_line(leader: LeaderRecord, led_s: float, now: float) -> str:
    """Return who leads, and since when by the clock of the reader at `now`: the leader's clock may differ."""
    since = datetime.fromtimestamp(now - led_s).astimezone()
    lasting = timedelta(seconds=round(led_s))
    return (
        f"scheduler {leader.holder} on {leader.host} (pid {leader.pid}) leads since {since:%Y-%m-%d %H:%M:%S}"
        f" ({lasting}), term {leader.term}"
    )


def plan_score(groups: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    """Return what plans are compared by, the larger the better; `groups` are :class:`GroupOutcome` as JSON.

    By priority the parts of their targets that groups get, the smallest first; then all ratios, the smallest first.
    """
    ratio = [one["fps"] / (one["target_fps"] or 1.0) if len(groups) > 1 else one["fps"] for one in groups]
    parts: list[float] = []
    for level in sorted({one["priority"] for one in groups}, reverse=True) if len(groups) > 1 else ():
        pairs = zip(groups, ratio, strict=True)
        parts += sorted(min(1.0, value) for one, value in pairs if one["priority"] == level)
    return tuple(float(f"{value:.8g}") for value in [*parts, *sorted(ratio)])


def _streams(answer: StrategyAnswer, stream_fps: float) -> str:
    found = max_streams(answer, stream_fps)
    return ", ".join(str(count) if len(found) == 1 else f"{group} {count}" for group, count in found.items())


def max_streams(answer: StrategyAnswer, stream_fps: float) -> dict[str, int]:
    """Return how many streams of `stream_fps` frames/s each group of a plan carries."""
    return {one.group: int(one.fps / stream_fps * (1 + 1e-9)) for one in answer.groups}


def plans_table(answers: tuple[StrategyAnswer, ...], stream_fps: float | None = None) -> Table:
    """Return each strategy's plan; ``*`` marks the best predicted FPS. Of several groups it is the worst-off one's.

    With `stream_fps` a column has the number of such streams that fit, of several groups each one's.
    """
    groups = sorted({name for a in answers for name in a.group_fps})
    title = (
        "Plans, predicted FPS of the worst-off group (* best for all)"
        if groups
        else "Plans, predicted group FPS (* best)"
    )
    table = plain_table(title)
    table.add_column("strategy")
    for column in ("FPS", *groups, *([] if stream_fps is None else ["streams"]), "bound", "gap"):
        table.add_column(column, justify="right")
    table.add_column("bottleneck", no_wrap=True)
    table.add_column("placement", min_width=PLACEMENT)
    scores = {a.strategy: plan_score([one.model_dump() for one in a.groups]) for a in answers}
    best = max(scores.values(), default=())
    for answer in answers:
        if answer.error is not None:
            dashes = ["–"] * (len(groups) + 4 + (stream_fps is not None))
            table.add_row(answer.strategy, *dashes, Text(answer.error.text, style="red"))
            continue
        mark = "*" if scores[answer.strategy] == best else " "
        table.add_row(
            answer.strategy,
            Text(f"{answer.fps:.2f} {mark}", style="bold green" if mark == "*" else ""),
            *(f"{answer.group_fps[group]:.2f}" for group in groups),
            *([] if stream_fps is None else [_streams(answer, stream_fps)]),
            f"{answer.bound_fps:.2f}",
            f"{answer.gap:.1%}",
            answer.bottleneck.split(".", 1)[-1],
            placement(answer.shares, answer.variants),
        )
    return table
