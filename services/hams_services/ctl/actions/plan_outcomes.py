"""What a plan means for the groups: what each gets, who gives way by how much, and what a lost device leaves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from hams_services.ctl.console import out
from hams_services.ctl.tables import short_names
from hams_services.monitor.table_layout import FittingTable

Answer = Mapping[str, Any]
"""A strategy's answer as JSON has it."""


def print_outcomes(answers: Sequence[Answer]) -> None:
    """Print what several groups get, who gives way, and the table of losses, where there are any."""
    if any(len(answer["groups"]) > 1 for answer in answers):
        out.print("\nGroups, the one that counts first is first", style="bold")
        out.print(groups_table(answers))
    for answer in answers:
        for line in gives_way(answer):
            out.print(f"{answer['strategy']}: {line}", style="yellow")
    for answer in answers:
        if answer.get("losses"):
            what = "each node falls back to one device" if answer.get("survival") else f"by {answer['strategy']}"
            out.print(f"\nFPS when a device is lost, {what}", style="bold")
            out.print(losses_table(answer))
            for line in loss_remarks(answer):
                out.print(line)


def groups_table(answers: Sequence[Answer]) -> Table:
    """Return what each strategy gives each group; the group that counts first is first."""
    table = FittingTable()
    for column in ("strategy", "group", "priority", "FPS", "target", "short by", "bound"):
        table.add_column(column, justify="left" if column in ("strategy", "group") else "right")
    for answer in answers:
        for number, one in enumerate(answer["groups"]):
            short = one["short_fps"]
            table.add_row(
                answer["strategy"] if number == 0 else "",
                one["group"],
                str(one["priority"]),
                Text(f"{one['fps']:.2f}", style="yellow" if short else ""),
                "–" if one["target_fps"] is None else f"{one['target_fps']:g}",
                f"{short:.2f} ({short / one['target_fps']:.0%})" if short else "–",
                _bound(one),
            )
    return table


def _bound(group: Answer) -> str:
    if group["proven"]:
        return "proven"
    if group["bound_fps"] is None:
        return "–"
    return f"{group['bound_fps']:.2f}" + (f" (+{group['bound_fps'] / group['fps'] - 1:.0%})" if group["fps"] else "")


def gives_way(answer: Answer) -> Iterator[str]:
    """Yield a sentence on the targets that are missed: by whom, by how much, and whether that is proven."""
    missed = [one for one in answer["groups"] if one["short_fps"] > 0]
    if not missed:
        return
    sure = any(one["bound_fps"] is not None and one["bound_fps"] < one["target_fps"] * (1 - 1e-6) for one in missed)
    kept = [one["group"] for one in answer["groups"] if not one["short_fps"]]
    words = [
        f"{one['group']} (priority {one['priority']}) by {one['short_fps']:.2f} FPS: {one['fps']:.2f} of "
        f"{one['target_fps']:g}, {one['short_fps'] / one['target_fps']:.0%} short"
        for one in sorted(missed, key=lambda one: one["priority"])
    ]
    rest = f"; met: {', '.join(kept)}" if kept else ""
    what = "not all targets can be met; " if sure else "targets are missed; "
    yield f"{what}gives way: {'; '.join(words)}{rest}"


def losses_table(answer: Answer) -> Table:
    """Return what groups get without each device; percentages are of their targets, else of their FPS with all."""
    whole = {one["group"]: one for one in answer["groups"]}
    survival = answer.get("survival")
    table = FittingTable()
    table.add_column("lost")
    for name, one in whole.items():
        of = "of FPS with all" if one["target_fps"] is None else f"of {one['target_fps']:g}"
        table.add_column(f"{name} {of}", justify="right")
    table.add_column("bottleneck")
    if survival:
        table.add_column("falls back", min_width=24)
    devices = short_names([loss["device"] for loss in answer["losses"]])
    first = [
        f"{one['fps']:.2f} ({one['fps'] / one['target_fps']:.0%})" if one["target_fps"] else f"{one['fps']:.2f} (100%)"
        for one in whole.values()
    ]
    table.add_row("none", *first, devices.get(answer["bottleneck"], answer["bottleneck"]), *([""] if survival else []))
    for loss in answer["losses"]:
        cells = [_kept(loss, name, survival) for name in whole]
        limits = devices.get(loss["bottleneck"], loss["bottleneck"]) or "–"
        table.add_row(devices[loss["device"]], *cells, limits, *([_moved(loss, devices)] if survival else []))
    return table


def _kept(loss: Answer, name: str, survival: Answer | None) -> Text:
    part = loss["kept"][name]
    low = part < (survival["keep"] if survival else 1.0) * (1 - 1e-6)
    style = "bold red" if name in loss["reasons"] else "yellow" if low else ""
    return Text(f"{loss['group_fps'][name]:.2f} ({part:.0%})", style=style)


def _moved(loss: Answer, devices: Mapping[str, str]) -> str:
    to: dict[str, list[str]] = {}
    for node, device in loss["moved"].items():
        to.setdefault(devices[device], []).append(node)
    return " · ".join(f"{device}: {', '.join(nodes)}" for device, nodes in to.items()) or "–"


def loss_remarks(answer: Answer) -> Iterator[str]:
    """Yield why groups get nothing, and what a plan that survives keeps and costs."""
    for loss in answer["losses"]:
        for text in dict.fromkeys(loss["reasons"].values()):
            groups = ", ".join(name for name, why in loss["reasons"].items() if why == text)
            yield f"without {loss['device']} {groups} cannot run: {text}"
    survival = answer.get("survival")
    if not survival:
        return
    memory = ", with memory reserved for all fallbacks" if survival["reserve_memory"] else ""
    most = "" if survival["bound_kept"] is None else f"; no placement keeps more than {survival['bound_kept']:.0%}"
    yield f"keeps {survival['kept']:.0%} after the worst loss, {survival['keep']:.0%} was asked{memory}{most}"
    costs = [
        f"{one['group']} {one['fps']:.2f} instead of {survival['ordinary_fps'][one['group']]:.2f} FPS"
        for one in answer["groups"]
        if one["fps"] < survival["ordinary_fps"][one["group"]] * (1 - 1e-6)
    ]
    yield f"it costs, without a loss: {', '.join(costs)}" if costs else "without a loss it costs nothing"
