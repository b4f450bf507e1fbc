"""All strategies on generated instances: how far from the best known, how large the proven gap, how long.

Writes docs/benchmarks/scheduling.json (raw), scheduling.md (table) and scheduling.png (plot). With `--live` it
measures what the live scheduler spends per event instead (:mod:`live`); with `--ranges`, other instances
(:mod:`ranges`). Time is CPU time of the process, so that other work on the machine changes it little; HiGHS's own
limits are wall time.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scheduling import live, ranges
from benchmarks.scheduling.generate import SIZES, generate
from benchmarks.scheduling.losses import replanning, seconds
from hams_scheduler.solver.strategies.registry import names, solve

OUT = Path(__file__).parents[2] / "docs" / "benchmarks"
SEEDS = {(5, 3): 20, (11, 3): 20, (11, 6): 20, (30, 8): 10, (100, 20): 3, (1000, 50): 2, (5000, 200): 1}
LIMITS = (1.0, 10.0)
"""Seconds for the strategies that search; the longer one for `optimal` only, where the shorter leaves a gap."""


def run() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for models, devices in SIZES:
        for seed in range(SEEDS[models, devices]):
            instance = generate(models, devices, seed)
            for name in names():
                for limit in LIMITS if name == "optimal" else LIMITS[:1]:
                    begin = time.perf_counter()
                    placement = solve(instance, name, time_limit_s=limit, clock=time.process_time)
                    rows.append(
                        {
                            "size": f"{models}×{devices}",
                            "seed": seed,
                            "strategy": name if limit == LIMITS[0] else f"{name} {limit:g} s",
                            "fps": placement.fps,
                            "gap": placement.gap,
                            "proven": placement.optimal,
                            "seconds": placement.seconds,
                            "wall_s": time.perf_counter() - begin,
                            "extra_replicas": sum(len(s) - 1 for s in placement.shares.values()),
                        }
                    )
                    if placement.optimal:
                        break
            print(f"{models}×{devices} seed {seed}", flush=True)
    return rows


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per size and strategy: geometric mean of best whole-node FPS over FPS, gaps, times."""
    best: dict[tuple[str, int], float] = {}
    for row in rows:
        if not row["strategy"].startswith("replicated"):
            key = (row["size"], row["seed"])
            best[key] = max(best.get(key, 0.0), row["fps"])
    table = []
    for size in dict.fromkeys(row["size"] for row in rows):
        for name in dict.fromkeys(row["strategy"] for row in rows):
            mine = [r for r in rows if r["size"] == size and r["strategy"] == name]
            if not mine:
                continue
            ratio = [best[size, r["seed"]] / r["fps"] for r in mine]
            table.append(
                {
                    "size": size,
                    "strategy": name,
                    "instances": len(mine),
                    "cycle_over_best": float(np.exp(np.mean(np.log(ratio)))),
                    "gap_median": float(np.median([r["gap"] for r in mine])),
                    "gap_worst": max(r["gap"] for r in mine),
                    "proven": sum(r["proven"] for r in mine),
                    "seconds_median": float(np.median([r["seconds"] for r in mine])),
                    "seconds_worst": max(r["seconds"] for r in mine),
                }
            )
    return table


def markdown(table: list[dict[str, Any]], moved: dict[str, float]) -> str:
    lines = [
        "| size | strategy | cycle ÷ best known | gap, median | gap, worst | proven | time, median | time, worst |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table:
        lines.append(
            f"| {row['size']} | {row['strategy']} | {row['cycle_over_best']:.3f} | {row['gap_median']:.2%} | "
            f"{row['gap_worst']:.2%} | {row['proven']}/{row['instances']} | {row['seconds_median'] * 1e3:,.1f} ms | "
            f"{row['seconds_worst'] * 1e3:,.1f} ms |"
        )
    lines += [
        "",
        f"Re-planning, 30×8, one device lost: {moved['moves']:.1f} nodes moved on average, "
        f"{moved['from_scratch']:.1f} by a placement from scratch, {moved['fewest']:.1f} the proven fewest, "
        f"{moved['forced']:.1f} forced. "
        f"At 100×20 it takes {moved['seconds_100x20'] * 1e3:.0f} ms.",
    ]
    return "\n".join(lines) + "\n"


def plot(table: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = list(dict.fromkeys(row["size"] for row in table))
    shown = [n for n in dict.fromkeys(row["strategy"] for row in table) if n not in ("default", "round-robin")]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name in shown:
        mine = {row["size"]: row for row in table if row["strategy"] == name}
        at = [i for i, size in enumerate(sizes) if size in mine]
        left.plot(at, [mine[sizes[i]]["cycle_over_best"] for i in at], "o-", label=name)
        right.plot(at, [max(mine[sizes[i]]["seconds_median"], 1e-4) for i in at], "o-", label=name)
    left.set(title="cycle ÷ best known whole placement (lower is better)", ylim=(0.75, 1.6))
    right.set(title="time, s (median)", yscale="log")
    for axes in (left, right):
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set_xlabel("models × devices")
        axes.grid(alpha=0.3)
    left.axhline(1.0, color="black", linewidth=0.8)
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(options: list[str]) -> None:
    if options:
        others = {"--live": live.main, "--ranges": ranges.main}
        if options[0] not in others:
            raise SystemExit(f"unknown option {options[0]!r}; there are {', '.join(others)}")
        others[options[0]](options[1:])
        return
    OUT.mkdir(parents=True, exist_ok=True)
    rows = run()
    table = summarise(rows)
    moved = {**replanning(generate(30, 8, s, memory="none") for s in range(20)), "seconds_100x20": seconds()}
    host = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    (OUT / "scheduling.json").write_text(json.dumps({"host": host, "rows": rows, "replan": moved}, indent=1) + "\n")
    text = markdown(table, moved)
    (OUT / "scheduling.md").write_text(text)
    plot(table, OUT / "scheduling.png")
    print(text)
