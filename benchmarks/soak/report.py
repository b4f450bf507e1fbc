"""What a soak showed: a trend of each figure, latency at the start and at the end, a picture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.chaos.checks import quantile
from benchmarks.soak.slopes import ALLOWED, WARM, allowed, trend

Samples = Sequence[tuple[float, dict[str, float]]]
PART = 0.1
"""Of the run, behind its warm part and at its end: whose latencies are compared."""


def judged(
    samples: Samples, latencies: Iterable[tuple[float, float]], deploys: Sequence[str], counts: dict[str, float]
) -> dict[str, Any]:
    """Return figures with their trends, and whether each grows."""
    figures = {}
    for name in sorted(samples[-1][1]) if samples else ():
        rows = [(at, found[name]) for at, found in samples if name in found]
        try:
            one = trend([at for at, _ in rows], [value for _, value in rows])
        except ValueError:
            continue
        more = allowed(name.split("/")[0], one.first)
        figures[name] = {key: round(value, 3) for key, value in asdict(one).items()} | {
            "allowed": round(more, 3),
            "grows": one.grows(more),
        }
    end = samples[-1][0] if samples else 0.0
    listed = list(latencies)
    spans = {"start": (WARM * end, (WARM + PART) * end), "end": ((1 - PART) * end, end)}
    times = {name: [ms for at, ms in listed if a <= at <= b] for name, (a, b) in spans.items()}
    return {
        **{key: round(value, 3) for key, value in counts.items()},
        "load_average": [round(one, 2) for one in os.getloadavg()],
        "refused_deploys": sum(":" in one for one in deploys),
        "latency_ms": {
            name: {"p50": round(quantile(of, 0.5), 2), "p99": round(quantile(of, 0.99), 2), "results": len(of)}
            for name, of in times.items()
        },
        "figures": figures,
        "samples": [[round(at, 1), found] for at, found in samples],
    }


def table(found: dict[str, Any]) -> str:
    """Return the table of figures in Markdown."""
    lines = ["| figure | of | start | end | per hour | may end higher by | grows |", "|---|---|---|---|---|---|---|"]
    for name, one in found["figures"].items():
        figure, what = name.split("/")
        lines.append(
            f"| {figure} | {what} | {one['first']:g} | {one['last']:g} | {one['per_hour']:+.2f} | {one['allowed']:.1f} "
            f"| {'**yes**' if one['grows'] else 'no'} |"
        )
    start, end = (found["latency_ms"][when] for when in ("start", "end"))
    lines += [
        "",
        f"{found['hours']:.2f} h, {found['results']:g} results, {found['deploys']:g} deploys "
        f"({found['refused_deploys']} refused), {found['ended']:g} parts ended by themselves; latency p99 "
        f"{start['p99']:g} ms at the start, {end['p99']:g} ms at the end; load average {found['load_average'][0]:g}.",
    ]
    return "\n".join(lines) + "\n"


def plot(samples: Samples, path: Path) -> None:
    """Draw each figure over time, where matplotlib is installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no picture: matplotlib is not installed (pip install --group bench)")
        return
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    kinds = [kind for kind in ALLOWED if any(name.startswith(f"{kind}/") for _, found in samples for name in found)]
    figure, axes = plt.subplots(len(kinds), 1, figsize=(9, 1.9 * max(1, len(kinds))), sharex=True, squeeze=False)
    for axis, kind in zip(axes[:, 0], kinds, strict=True):
        for name in sorted({name for _, found in samples for name in found if name.startswith(f"{kind}/")}):
            rows = [(at / 3600, found[name]) for at, found in samples if name in found]
            axis.plot([at for at, _ in rows], [value for _, value in rows], label=name.split("/")[1], linewidth=1)
        axis.set_ylabel(kind)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes[-1, 0].set_xlabel("hours")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
