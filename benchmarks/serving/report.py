"""From rounds to the table and the plot of docs/benchmarks.md."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def medians(rows: list[Row]) -> dict[str, dict[str, Row]]:
    """Case → contestant → median of each figure over the rounds that gave one, or the error."""
    table: dict[str, dict[str, Row]] = {}
    for row in rows:
        table.setdefault(row["case"], {}).setdefault(row["contestant"], {"rounds": []})["rounds"].append(row)
    for contestants in table.values():
        for name, entry in contestants.items():
            good = [row for row in entry["rounds"] if "error" not in row]
            if not good:
                contestants[name] = {"error": entry["rounds"][-1]["error"]}
                continue
            one: Row = {
                key: statistics.median(float(row[key]) for row in good)
                for key in ("fps", "p50_ms", "p95_ms", "memory_mib")
            }
            one["spread"] = max(row["fps"] for row in good) - min(row["fps"] for row in good)
            waits = [row["notes"]["overhead_p50_ms"] for row in good if "overhead_p50_ms" in row.get("notes", {})]
            if waits:
                one["overhead_p50_ms"] = statistics.median(waits)
            contestants[name] = one
    return table


def markdown(table: dict[str, dict[str, Row]]) -> str:
    """The table."""
    lines = [
        "| case | contestant | FPS | ± | ÷ bound | HAMS ÷ it | p50, ms | p95, ms | memory, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, contestants in table.items():
        hams = contestants.get("hams", {})
        for name, row in contestants.items():
            if "error" in row:
                lines.append(f"| {case} | {name} | – {row['error'].replace('|', '/')} | | | | | | |")
                continue
            bound = contestants.get("bound-replicated" if "replicated" in name else "bound", {})
            part = f"{row['fps'] / bound['fps']:.2f}" if bound.get("fps") else ""
            lead = f"{hams['fps'] / row['fps']:.2f}" if hams.get("fps") and row["fps"] and name != "hams" else ""
            times = f"{row['p50_ms']:.1f} | {row['p95_ms']:.1f}" if row["p50_ms"] else "|"
            lines.append(
                f"| {case} | {name} | {row['fps']:.1f} | {row['spread'] / 2:.1f} | {part} | {lead} | {times} | "
                f"{row['memory_mib']:.0f} |"
            )
    return "\n".join(lines) + "\n"


def plot(table: dict[str, dict[str, Row]], path: Path) -> None:
    """Bars of FPS per case, each case on a scale of its own."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    columns = 4
    height = -(-len(table) // columns)
    figure, axes = plt.subplots(height, columns, figsize=(16, 2.6 * height), squeeze=False)
    for axis in axes.flat[len(table) :]:
        axis.axis("off")
    for axis, (case, contestants) in zip(axes.flat, table.items(), strict=False):
        good = {name: row for name, row in contestants.items() if "error" not in row}
        colours = [
            "#1668b4" if n.startswith("hams") else "#9aa4ae" if n.startswith("bound") else "#e08a2c" for n in good
        ]
        bars = axis.barh(list(good), [row["fps"] for row in good.values()], color=colours)
        axis.bar_label(bars, fmt=" %.0f", fontsize=8)
        axis.invert_yaxis()
        axis.set_title(case, fontsize=10, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(0, 1.15 * max((row["fps"] for row in good.values()), default=1))
    figure.supxlabel("frames per second; blue HAMS, grey what the devices can give, orange others", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(rows: list[Row], out: Path) -> None:
    """Write table and plot into `out`."""
    table = medians(rows)
    (out / "serving.md").write_text(markdown(table))
    plot(table, out / "serving.png")
