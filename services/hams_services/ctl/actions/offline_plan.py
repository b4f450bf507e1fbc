"""Planning a matrix from a file: asks the scheduler's offline program, in its own process, and shows its answer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hams_services.ctl.console import out
from hams_services.ctl.tables import PLACEMENT, placement
from hams_services.monitor.table_layout import FittingTable
from hams_shared.errors import InternalError, from_wire

Answer = Mapping[str, Any]


async def plan_offline(
    instance: Path,
    strategy: str,
    time_limit: float,
    what_if: list[str],
    max_streams: float | None,
    objective: str | None,
) -> list[Answer]:
    """Plan the instance in the file with each strategy. Raises what the scheduler found wrong with it."""
    argv = [sys.executable, "-m", "hams_scheduler.offline", "--instance", str(instance), "--strategy", strategy]
    argv += ["--time-limit", str(time_limit)]
    for change in what_if:
        argv += ["--what-if", change]
    if max_streams is not None:
        argv += ["--max-streams", str(max_streams)]
    if objective is not None:
        argv += ["--objective", objective]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)
    try:
        stdout, stderr = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    try:
        answers = json.loads(stdout)
    except ValueError:
        last = stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise InternalError(f"planning failed: {' '.join(last) or process.returncode}") from None
    if isinstance(answers, dict):
        raise from_wire(answers["error"])
    return list(answers)


def shares(answer: Answer) -> dict[str, dict[str, float]]:
    """The assignment with every node's devices and shares."""
    return {n: {d: 1.0} if isinstance(d, str) else d for n, d in answer["assignment"].items()}


def print_offline(answers: list[Answer], explain: bool) -> None:
    """Print the strategies' answers."""
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
            _busy(answer["busy"]),
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
    """Print per node why it is where it is."""
    for node, text in explanation.items():
        out.print(f"  {node}: {text}")


def _busy(busy: Mapping[str, float], most: int = 6) -> str:
    words = [f"{device} {part:.0%}" for device, part in list(busy.items())[:most]]
    return " ".join(words) + (" …" if len(busy) > most else "")


def _brief(text: str, most: int = 400) -> str:
    return text if len(text) <= most else text[:most] + " … (--json shows all)"
