"""`hams-ctl plan --instance`: asks the scheduler's offline planner, in a child process, and prints its answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hams_services.ctl.console import out
from hams_services.ctl.tables import PLACEMENT, placement
from hams_services.monitor.table_layout import FittingTable
from hams_shared.runtime.child_process import run_in_child

Answer = Mapping[str, Any]
SEARCHES, SPARE_S = 16, 600.0
"""The deadline: so many searches of `time_limit` s each, and the time that exact strategies may take, s."""


async def plan_offline(
    instance: Path,
    strategy: str,
    time_limit: float,
    what_if: list[str],
    max_streams: float | None,
    objective: str | None,
) -> list[Answer]:
    """Plan the instance in the file with each strategy. Raises the scheduler's errors about it."""
    arguments = {
        "instance": str(instance),
        "strategies": strategy.split(","),
        "what_if": what_if,
        "time_limit_s": time_limit,
        "stream_fps": max_streams,
        "objective": objective,
    }
    timeout = SEARCHES * time_limit + SPARE_S
    return list(await run_in_child("hams_scheduler.offline:plan", arguments, what="planning", timeout=timeout))


def shares(answer: Answer) -> dict[str, dict[str, float]]:
    """Return the assignment as shares by node and device."""
    return {n: {d: 1.0} if isinstance(d, str) else d for n, d in answer["assignment"].items()}


def print_offline(answers: list[Answer], explain: bool) -> None:
    """Print the answers of the strategies as a table."""
    table = FittingTable()
    streams = any("max_streams" in a for a in answers)
    for column in ("strategy", "FPS", "bound", "gap", "time", *(["streams"] if streams else [])):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    table.add_column("bottleneck", no_wrap=True)
    for column in ("busy", "placement"):
        table.add_column(column, min_width=PLACEMENT)
    best = max((a["fps"] for a in answers), default=0.0)
    for answer in answers:
        mark = "*" if answer["fps"] >= best * (1 - 1e-9) else " "
        table.add_row(
            answer["strategy"],
            f"{answer['fps']:.3f} {mark}",
            f"{answer['bound_fps']:.3f}",
            "proven" if answer["gap"] <= 1e-9 else f"{answer['gap']:.1%}",
            f"{answer['seconds'] * 1e3:.1f} ms",
            *([str(answer["max_streams"])] if streams else []),
            answer["bottleneck"],
            _busy(answer["busy"] | {f"{host}'s cores": part for host, part in answer["cores"].items()}),
            _brief(placement(shares(answer))),
        )
    out.print(table)
    for answer in answers:
        for note in answer.get("notes", ()):
            out.print(note, style="dim")
        if answer.get("unmet"):
            out.print(f"{answer['strategy']}: targets missed: {', '.join(answer['unmet'])}", style="yellow")
        if explain:
            out.print(f"\n{answer['strategy']}", style="bold")
            print_reasons(answer["explanation"])


def print_reasons(explanation: Mapping[str, str]) -> None:
    """Print the reason for each node's placement."""
    for node, text in explanation.items():
        out.print(f"  {node}: {text}")


def _busy(busy: Mapping[str, float], most: int = 6) -> str:
    words = [f"{device} {part:.0%}" for device, part in list(busy.items())[:most]]
    return " ".join(words) + (" …" if len(busy) > most else "")


def _brief(text: str, most: int = 400) -> str:
    return text if len(text) <= most else text[:most] + " … (--json shows all)"
