"""`hams-ctl plan --instance`: asks the scheduler's offline planner, in a child process, and prints its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hams_services.ctl.actions.plan_outcomes import print_outcomes
from hams_services.ctl.console import out
from hams_services.ctl.options import EACH
from hams_services.ctl.tables import PLACEMENT, placement, plan_score
from hams_services.monitor.table_layout import FittingTable
from hams_shared.runtime.child_process import run_in_child

Answer = Mapping[str, Any]
SEARCHES, LOSSES, SPARE_S = 16, 1000, 600.0
"""The deadline: so many searches of `time_limit` s each, and the time that exact strategies may take, s."""


@dataclass(frozen=True)
class PlanOptions:
    """What is asked; `time_limit` is s for each search, `max_streams` the FPS of one stream."""

    strategy: str = "all"
    time_limit: float = 1.0
    explain: bool = False
    what_if: tuple[str, ...] = ()
    max_streams: float | None = None
    objective: str | None = None
    survive: bool = False
    keep: float = 0.5
    reserve: bool = False

    @property
    def each_loss(self) -> bool:
        """Whether the loss of each device is asked about."""
        return EACH in self.what_if

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies to ask; for losses `optimal` alone, unless another is named."""
        return ("optimal",) if self.each_loss and self.strategy == "all" else tuple(self.strategy.split(","))


async def plan_offline(instance: Path, options: PlanOptions) -> list[Answer]:
    """Plan the instance in the file with each strategy. Raises the scheduler's errors about it."""
    arguments = {
        "instance": str(instance),
        "strategies": options.strategies,
        "what_if": options.what_if,
        "time_limit_s": options.time_limit,
        "stream_fps": options.max_streams,
        "objective": options.objective,
        "keep": options.keep if options.survive else None,
        "reserve": options.reserve,
    }
    searches = LOSSES if options.each_loss else SEARCHES
    timeout = searches * options.time_limit + SPARE_S
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
    scores = [plan_score(answer["groups"]) for answer in answers]
    for answer, score in zip(answers, scores, strict=True):
        mark = "*" if score == max(scores) else " "
        table.add_row(
            answer["strategy"],
            f"{answer['fps']:.3f} {mark}",
            "–" if answer["bound_fps"] is None else f"{answer['bound_fps']:.3f}",
            _gap(answer["gap"]),
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
        if explain:
            out.print(f"\n{answer['strategy']}", style="bold")
            print_reasons(answer["explanation"])
    print_outcomes(answers)


def _gap(gap: float | None) -> str:
    """The gap as text; None: it is not known."""
    if gap is None:
        return "–"
    return "proven" if gap <= 1e-9 else f"{gap:.1%}"


def print_reasons(explanation: Mapping[str, str]) -> None:
    """Print the reason for each node's placement."""
    for node, text in explanation.items():
        out.print(f"  {node}: {text}")


def _busy(busy: Mapping[str, float], most: int = 6) -> str:
    words = [f"{device} {part:.0%}" for device, part in list(busy.items())[:most]]
    return " ".join(words) + (" …" if len(busy) > most else "")


def _brief(text: str, most: int = 400) -> str:
    return text if len(text) <= most else text[:most] + " … (--json shows all)"
