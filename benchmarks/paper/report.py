"""Tables and plots of docs/paper.md."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.paper.cases import PAPER, STRATEGIES
from benchmarks.prediction.rules import BAR_MEDIAN, BAR_WORST

Row = dict[str, Any]
REAL = " on real devices"
"""The end of the name of services that were not served on emulated devices."""
COLOURS = {
    "default": "#9aa4ae",
    "round-robin": "#6b7a3a",
    "fastest": "#8a4fb0",
    "mfs": "#e08a2c",
    "hfs": "#3a9a5b",
    "optimal": "#1668b4",
    "replicated": "#c23b4a",
    PAPER: "#333333",
}


def emulated(rows: list[Row]) -> list[Row]:
    """Return the rows whose devices have stated speeds."""
    return [row for row in rows if not row["services"].endswith(REAL)]


def errors(rows: list[Row]) -> dict[str, float]:
    """Return predicted ÷ measured - 1 of each figure that was measured, one per placement and group."""
    good = [row for row in emulated(rows) if "measured" in row and not row["void"] and not row["again"]]
    return {
        f"{row['services']}, {row['vpus']} VPU, {row['strategy']}: {row['group']}": row["predicted"] / row["measured"]
        - 1
        for row in good
    }


def verdict(rows: list[Row]) -> str:
    """Return the errors on emulated devices beside the bar, and every row that misses it."""
    rows = emulated(rows)
    found = errors(rows)
    if not found:
        return "Nothing was measured.\n"
    sizes = {name: abs(error) for name, error in found.items()}
    middle, worst = statistics.median(sizes.values()), max(sizes, key=sizes.__getitem__)
    marks = ["met" if met else "missed" for met in (middle <= BAR_MEDIAN, sizes[worst] <= BAR_WORST)]
    missing = [row for row in rows if row["void"] and not row["again"]]
    lines = [
        f"- {len(found)} figures of {len({_key(row) for row in rows if not row['again']})} placements; median error "
        f"{middle:.1%} (bar {BAR_MEDIAN:.0%}: {marks[0]}), worst {sizes[worst]:.1%} in {worst} (bar {BAR_WORST:.0%}: "
        f"{marks[1]}).",
        *(f"- Above {BAR_WORST:.0%}: {name}, {found[name]:+.1%}." for name in sizes if sizes[name] > BAR_WORST),
        *(f"- Not counted: {row['services']}, {row['vpus']} VPU, {row['strategy']}: {row['void']}." for row in missing),
    ]
    return "\n".join(lines) + "\n"


def _order(services: str) -> tuple[bool, bool, int, str]:
    """The slides first, one service before all, real devices last."""
    return services.endswith(REAL), services != "slides", len(services), services


def _key(row: Row) -> tuple[Any, ...]:
    return row["services"], row["vpus"], row["strategy"]


def cell(rows: list[Row]) -> str:
    """Return predicted and measured FPS of one strategy: those of the group that has least."""
    if not rows:
        return "–"
    predicted = min(row["predicted"] for row in rows)
    measured = [row["measured"] for row in rows if "measured" in row and not row["void"]]
    return f"{predicted:.2f} / {min(measured):.2f}" if len(measured) == len(rows) else f"{predicted:.2f} / –"


def markdown(rows: list[Row]) -> str:
    """Return a table for each set of services (predicted / measured FPS by VPUs and strategy) and the verdict."""
    parts = []
    for services in sorted({row["services"] for row in rows}, key=_order):
        mine = [row for row in rows if row["services"] == services]
        names = [one for one in COLOURS if any(row["strategy"] == one for row in mine)]
        parts += [f"**{services}**, frames/s predicted / measured", ""]
        parts += [f"| VPUs | {' | '.join(names)} |", "|" + "---|" * (1 + len(names))]
        for vpus in sorted({row["vpus"] for row in mine}):
            cells = [cell([r for r in mine if (r["vpus"], r["strategy"]) == (vpus, name)]) for name in names]
            parts.append(f"| {vpus} | {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts) + "\n" + verdict(rows)


def plot(rows: list[Row], path: Path) -> None:
    """Draw FPS over the number of VPUs: lines are predicted, circles measured; a panel for each set of services."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    kept = [row for row in emulated(rows) if row["services"] != "slides"]
    panels = sorted({row["services"] for row in kept}, key=_order)
    if not panels:
        return
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.8), squeeze=False)
    for axis, services in zip(axes[0], panels, strict=True):
        for name in (*STRATEGIES, PAPER):
            mine = [row for row in kept if (row["services"], row["strategy"]) == (services, name)]
            _line(axis, mine, COLOURS[name], name)
        axis.set(title=services, xlabel="VPUs beside CPU and GPU", ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("frames/s of the group that has least")
    axes[0][-1].legend(frameon=False, fontsize=8, title="line: predicted\ncircle: measured", title_fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _line(axis: Any, rows: list[Row], colour: str, name: str) -> None:
    """Draw one strategy."""
    predicted, measured = {}, {}
    for vpus in sorted({row["vpus"] for row in rows}):
        one = [row for row in rows if row["vpus"] == vpus]
        predicted[vpus] = min(row["predicted"] for row in one)
        if all("measured" in row and not row["void"] for row in one):
            measured[vpus] = min(row["measured"] for row in one)
    axis.plot(list(predicted), list(predicted.values()), color=colour, linewidth=1.2, label=name)
    axis.scatter(list(measured), list(measured.values()), s=22, facecolors="none", edgecolors=colour, zorder=3)


def write(rows: list[Row], out: Path) -> None:
    """Write table and picture into `out`."""
    (out / "paper.md").write_text(markdown(rows))
    plot(rows, out / "paper.png")
