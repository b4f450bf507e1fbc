"""What a run showed, as JSON and as a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.chaos.checks import quantile
from benchmarks.chaos.faults import KINDS, Fault
from benchmarks.chaos.run import Outcome


def as_json(outcome: Outcome, faults: Sequence[Fault], seed: int | None, left_out: dict[str, str]) -> dict[str, Any]:
    """Return everything that the table and a second look need."""
    kinds = {}
    for name, tally in sorted(outcome.tallies.items()):
        times = tally.recoveries
        kinds[name] = {
            "count": len(times),
            "p50_s": round(quantile(times, 0.5), 3),
            "p90_s": round(quantile(times, 0.9), 3),
            "p99_s": round(quantile(times, 0.99), 3),
            "max_s": round(max(times, default=0.0), 3),
            "allowed_s": round(max(tally.allowed, default=0.0), 2),
            "in_time": tally.in_time,
            "violations": dict(tally.violations),
        }
    first, last = ({name: asdict(of[at]) for name, of in outcome.parts.items() if of} for at in (0, -1))
    return {
        "seed": seed,
        "faults": outcome.done,
        "results": outcome.results,
        "load_average": [round(one, 2) for one in os.getloadavg()],
        "start_s": {name: round(took, 2) for name, took in outcome.load_s.items()},
        "left_out": left_out,
        "kinds": kinds,
        "violations": [
            {"fault": number, "after": str(faults[number]), "what": one.what, "text": one.text}
            for number, one in outcome.violations
        ],
        "parts_first": first,
        "parts_last": last,
    }


def table(found: dict[str, Any]) -> str:
    """Return the table of kinds in Markdown."""
    lines = [
        "| fault | | times | p50 | p90 | p99 | worst | allowed | in time | violations |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found["kinds"].items():
        wrong = ", ".join(f"{count} {what}" for what, count in one["violations"].items()) or "0"
        text = KINDS[name].text if name in KINDS else ""
        times = " | ".join(f"{one[key]:.2f} s" for key in ("p50_s", "p90_s", "p99_s", "max_s"))
        lines.append(
            f"| {name} | {text} | {one['count']} | {times} | {one['allowed_s']:.1f} s "
            f"| {one['in_time']}/{one['count']} | {wrong} |"
        )
    count = sum(one["count"] for one in found["kinds"].values())
    in_time = sum(one["in_time"] for one in found["kinds"].values())
    lines += [
        "",
        f"{found['faults']} faults, {found['results']} results, {in_time} of {count} recovered in time "
        f"({100 * in_time / max(1, count):.1f} %), {len(found['violations'])} violations; load average "
        f"{found['load_average'][0]:g}.",
    ]
    lines += [f"- left out: {name}: {why}" for name, why in found["left_out"].items()]
    return "\n".join(lines) + "\n"
