"""The trace of a frame as a Gantt chart of text: what ran when, and for how long. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.text import Text

from hams_shared.wire.messages.trace import FrameTrace, TraceSpan

LEAST_MS = 0.02
"""Steps of a node that are shorter have no row, ms."""
LEAST_BAR = 16
"""Columns that the bars have at least; the devices' column gives way."""
WAITS = frozenset({"queue", "wait", "hold", "choose"})
GAP = 2
FIGURES = 8
"""Width of the column of ms."""


@dataclass(frozen=True)
class Glyphs:
    """What bars are drawn with."""

    critical: str
    other: str
    waits: str
    whole: str
    times: str


BLOCKS = Glyphs("█", "▒", "░", "─", "×")
ASCII = Glyphs("#", "=", ".", "-", "x")


@dataclass(frozen=True)
class Row:
    """One span as it is drawn."""

    label: str
    device: str
    span: TraceSpan
    critical: bool
    whole: bool = False
    """A node, whose steps follow."""


def chart(trace: FrameTrace, width: int, glyphs: Glyphs = BLOCKS) -> Iterator[Text]:
    """Yield the lines of the chart, `width` columns at most."""
    yield from _title(trace)
    rows = list(_rows(trace, glyphs.times))
    labels = max((len(row.label) for row in rows), default=0)
    devices = max((len(row.device) for row in rows), default=0)
    bars = width - 2 - labels - GAP - devices - GAP - FIGURES
    if bars < LEAST_BAR:
        devices, bars = 0, max(LEAST_BAR, width - 2 - labels - GAP - FIGURES)
    total = max(trace.duration_ms, 1e-3)
    if rows:
        yield _scale(2 + labels + GAP + (devices + GAP if devices else 0), bars, total)
    for row in rows:
        yield _line(row, labels, devices, bars, total, glyphs)
        if row.span.error:
            yield Text(f"    ! {row.span.error}", style="bold red", overflow="ellipsis", no_wrap=True)
    yield from _path(trace)


def legend(glyphs: Glyphs = BLOCKS) -> Text:
    """Return what the signs mean."""
    return Text(
        f"* on the critical path: {glyphs.critical}   beside it: {glyphs.other}   waiting: {glyphs.waits}   "
        f"a node: {glyphs.whole}",
        style="dim",
    )


def _title(trace: FrameTrace) -> Iterator[Text]:
    title = Text(f"{trace.group}/{trace.stream} #{trace.frame}", style="bold")
    title.append(f"  {trace.outcome} ", style="green" if trace.outcome == "delivered" else "yellow")
    title.append(f"after {trace.duration_ms:.1f} ms")
    if trace.outcome == "delivered":
        found = f"{trace.objects} object{'s' * (trace.objects != 1)}" if trace.objects else "nothing found"
        title.append(f", {found}" + ", predicted" * trace.predicted)
    elif trace.reason:
        title.append(f": {trace.reason}")
    if trace.attempts > 1:
        title.append(f", {trace.attempts} attempts")
    yield title
    if trace.detail:
        yield Text(f"  {trace.detail}", style="red")


def _rows(trace: FrameTrace, times: str) -> Iterator[Row]:
    """Yield the rows in order of time, the steps of a node below it."""
    names = _short([span.device for span in trace.spans if span.device])
    critical = set(trace.critical_path())
    children: dict[int, list[int]] = {}
    for index, span in enumerate(trace.spans):
        if span.parent is not None:
            children.setdefault(span.parent, []).append(index)
    for index in sorted(children.get(0, ()), key=lambda index: trace.spans[index].start_ms):
        span = trace.spans[index]
        counted = span.images is not None and span.follows is not None and _is_child(trace, span)
        label = f"{span.name} {times}{span.images}" if counted else span.name
        steps = [trace.spans[one] for one in children.get(index, ()) if trace.spans[one].duration_ms >= LEAST_MS]
        folded = span.images == 0
        on_path = index in critical
        if span.name == "choose" and span.node:
            label = f"choose for {span.node}"
        yield Row(label, names.get(span.device, ""), span, on_path, whole=bool(steps) and not folded)
        for step in () if folded else steps:
            yield Row(f"  {step.name}", "", step, on_path)


def _is_child(trace: FrameTrace, span: TraceSpan) -> bool:
    """Whether a node works on what another one found."""
    before = trace.spans[span.follows] if span.follows is not None else None
    return before is not None and bool(before.node)


def _short(devices: list[str]) -> dict[str, str]:
    """Return devices without the host, when all are of one."""
    hosts = {device.split(".", 1)[0] for device in devices}
    return {d: d.split(".", 1)[1] if len(hosts) == 1 and "." in d else d for d in devices}


def _scale(indent: int, bars: int, total: float) -> Text:
    """Return the times at the beginning, the middle and the end of the bars."""
    digits = 0 if total >= 20 else 1 if total >= 2 else 2
    middle, end = f"{total / 2:.{digits}f}", f"{total:.{digits}f}"
    scale = "0" + middle.rjust(bars // 2 - 1 + len(middle)).ljust(bars - 1)
    scale = scale[: bars - len(end)] + end if bars >= 3 * len(end) + 2 else scale[:bars]
    return Text(" " * indent + scale + f"{'ms':>{FIGURES}}", style="dim", no_wrap=True, overflow="crop")


def _line(row: Row, labels: int, devices: int, bars: int, total: float, glyphs: Glyphs) -> Text:
    span = row.span
    colour = "red" if row.critical else "cyan"
    line = Text(no_wrap=True, overflow="crop")
    line.append("* " if row.critical else "  ", style="bold red")
    line.append(f"{row.label:<{labels}}", style="bold" if row.whole or not row.label.startswith(" ") else "")
    line.append(" " * GAP)
    if devices:
        line.append(f"{row.device:<{devices}}", style="dim")
        line.append(" " * GAP)
    first = min(int(span.start_ms / total * bars), bars - 1)
    last = min(max(round(span.end_ms / total * bars), first + 1), bars)
    if row.whole:
        sign = glyphs.whole
    elif span.name in WAITS:
        sign = glyphs.waits
    else:
        sign = glyphs.critical if row.critical else glyphs.other
    line.append(" " * first)
    line.append(sign * (last - first), style=colour if sign != glyphs.waits else "yellow")
    line.append(" " * (bars - last))
    line.append(f"{span.duration_ms:>{FIGURES}.2f}")
    return line


def _path(trace: FrameTrace) -> Iterator[Text]:
    path = [trace.spans[index] for index in trace.critical_path()]
    if len(path) < 2:
        return
    spent = sum(span.duration_ms for span in path)
    between = trace.duration_ms - spent
    parts = " + ".join(f"{span.name} {span.duration_ms:.1f}" for span in path)
    yield Text.assemble(("* ", "bold red"), f"{parts} = {spent:.1f} ms")
    yield Text(f"  {between:.1f} ms between them: messages on their way, threads that wait for a core", style="dim")
