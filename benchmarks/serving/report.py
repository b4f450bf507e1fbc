"""From rounds to the table and the plot of docs/benchmarks.md."""

from __future__ import annotations

import itertools
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
            notes = [row["notes"] for row in good if "cpu_ms" in row.get("notes", {})]
            if notes:
                hops = [note["overhead_p50_ms"] / note["hops"] for note in notes if "hops" in note]
                one["hop_ms"] = statistics.median(hops) if hops else None
                one["cpu_ms"] = {part: statistics.median(n["cpu_ms"].get(part, 0.0) for n in notes) for part in PARTS}
                one["added_ms"] = statistics.median(added_ms(note["cpu_ms"]) for note in notes)
            contestants[name] = one
    return table


PARTS = ("agents", "agents: event loops", "pipeline", "pipeline: event loop", "broker", "scheduler", "hams-ctl up")
"""Of a running system; see benchmarks.serving.hams."""


def added_ms(cpu_ms: dict[str, float]) -> float:
    """CPU time per frame of what HAMS adds: event loops of agents and pipeline, without video, and the broker."""
    return sum(cpu_ms.get(part, 0.0) for part in ("agents: event loops", "pipeline: event loop", "broker"))


def cpu_markdown(table: dict[str, dict[str, Row]]) -> str:
    """CPU time per frame by part, and latency per hop."""
    head = ["case", "contestant", *PARTS, "added by HAMS", "latency per hop, p50"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for case, contestants in table.items():
        for name, row in contestants.items():
            if "cpu_ms" in row:
                values = [*(row["cpu_ms"][part] for part in PARTS), row["added_ms"], row["hop_ms"]]
                cells = ["" if value is None else f"{value:.2f}" for value in values]
                lines.append(f"| {case} | {name} | {' | '.join(cells)} |")
    return "CPU time, ms per frame:\n\n" + "\n".join(lines) + "\n"


def bars(table: dict[str, dict[str, Row]]) -> str:
    """The targets with what was measured; cases and contestants that were not run are left out."""
    rows: list[tuple[str, float, bool]] = []

    def get(case: str, contestant: str, key: str = "fps") -> float:
        return float(table.get(case, {}).get(contestant, {}).get(key) or 0.0)

    def at_least(text: str, least: float, value: float, other: float) -> None:
        if value and other:
            rows.append((f"{text} ≥ {least:.2f}", value / other, value / other >= least))

    def at_most(text: str, most: float, value: float) -> None:
        if value:
            rows.append((f"{text} ≤ {most:.1f} ms", value, value <= most))

    default = "hams-default"
    case = "F vga"
    at_least(f"{case}: default ÷ its detector in the queue", 0.8, get(case, default), get(case, "detector-queue"))
    for case in table:
        least = 0.8 if case.startswith("light") else 0.95
        if case != "one frame at a time":
            at_least(f"{case}: default ÷ one process", least, get(case, default), get(case, "openvino-async"))
        least = 1.1 if case.startswith("light") else 1.0
        for peer, mine in itertools.product(("triton", "ray-serve", "litserve"), ("hams", default)):
            at_least(f"{case}: {mine} ÷ {peer}", least, get(case, mine), get(case, peer))
    case = "F replicated"
    at_least("replicated ÷ its bound", 0.85, get(case, "hams-replicated"), get(case, "bound-replicated"))
    at_least("replicated ÷ one process", 1.0, get(case, "hams-replicated"), get(case, "openvino-async"))
    case = "one frame at a time"
    at_most(f"{case}, default: p50", 4.5, get(case, default, "p50_ms"))
    for mine in ("hams", default):
        at_most(f"{case}, {mine}: p50 of latency per hop", 0.4, get(case, mine, "hop_ms"))
    at_most("added CPU time per frame, light, 2 nodes, default", 0.6, get("light, 2 nodes", default, "added_ms"))
    lines = ["| target | measured | |", "|---|---|---|"]
    lines += [f"| {text} | {value:.2f} | {'met' if met else 'not met'} |" for text, value, met in rows]
    return "\n".join([*lines, "", *(f"- {line}" for line in node_costs(table))]) + "\n"


def node_costs(table: dict[str, dict[str, Row]]) -> list[str]:
    """What one node more costs each frame of the light groups: equal figures mean that the cost is linear in nodes."""
    lines = []
    for contestant in ("hams", "hams-default"):
        nodes = {int(case.split()[1]): all_ for case, all_ in table.items() if case.startswith("light, ")}
        costs = sorted((n, 1e3 / row["fps"]) for n, c in nodes.items() if (row := c.get(contestant, {})).get("fps"))
        steps = [f"{(more - less) / (b - a):.2f} from {a} to {b}" for (a, less), (b, more) in itertools.pairwise(costs)]
        if steps:
            lines.append(f"light groups, {contestant}: ms per frame for a node more: {', '.join(steps)}")
    return lines


def markdown(table: dict[str, dict[str, Row]]) -> str:
    """The table."""
    lines = [
        "| case | contestant | FPS | ± | ÷ bound | HAMS ÷ it | default ÷ it | p50, ms | p95, ms | memory, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, contestants in table.items():
        ours = [contestants.get(name, {}).get("fps") for name in ("hams", "hams-default")]
        for name, row in contestants.items():
            if "error" in row:
                lines.append(f"| {case} | {name} | – {row['error'].replace('|', '/')} | | | | | | | |")
                continue
            bound = contestants.get("bound-replicated" if "replicated" in name else "bound", {})
            if name in ("hams-default", "detector-queue"):
                bound = {}  # one device of all cores: not what the bound has
            part = f"{row['fps'] / bound['fps']:.2f}" if bound.get("fps") else ""
            leads = " | ".join(f"{fps / row['fps']:.2f}" if fps and row["fps"] else "" for fps in ours)
            times = f"{row['p50_ms']:.1f} | {row['p95_ms']:.1f}" if row["p50_ms"] else "|"
            lines.append(
                f"| {case} | {name} | {row['fps']:.1f} | {row['spread'] / 2:.1f} | {part} | {leads} | {times} | "
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
    (out / "serving.md").write_text("\n".join([markdown(table), bars(table), cpu_markdown(table)]))
    plot(table, out / "serving.png")
