"""The rules of the benchmark, fixed before it ran: what is void, how drift is corrected, what an error is. Pure.

- A measurement is void when its calibrations before and after differ by more than 10 %; when an emulated device
  computed more than 1 % of its images instead of replaying them; or when a frame was sent again or failed; or when it
  failed.
- A void measurement is repeated at most once in its round, and not after 50 minutes. Rows of void measurements are
  kept and never averaged.
- Drift-corrected FPS = measured FPS × calibration while the networks were profiled ÷ mean calibration of the bracket.
  Groups that emulated devices limit by the plan are not corrected: their pace is stated.
- Each round measures the networks anew, and predicts from that. The error of a group is the median of predicted ÷
  figure - 1 over the rounds that are not void; its figures are medians, too.
- A group without a round that is not void has no error, and is counted as not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

MOST_DRIFT = 0.10
MOST_MISSES = 0.01
BAR_MEDIAN = 0.05
BAR_WORST = 0.10

Row = dict[str, Any]


def void(before: float, after: float, replayed: int, misses: int, resent: int) -> str:
    """Return why a measurement does not count; empty: it counts.

    Args:
        before: calibration before it, products/s; `after`: after it.
        replayed: images that emulated devices replayed during the measurement; `misses`: that they computed.
        resent: frames that were sent again, failed or dropped.
    """
    drift = abs(after / before - 1.0)
    if drift > MOST_DRIFT:
        return f"calibration drifted by {drift:.1%}"
    if misses > MOST_MISSES * (replayed + misses):
        return f"{misses} of {replayed + misses} emulated images were computed"
    return f"{resent} frames were sent again or lost" if resent else ""


def corrected(fps: float, profiled: float, before: float, after: float) -> float:
    """Return `fps` as it would be on a machine as fast as when the networks were profiled."""
    return fps * profiled / ((before + after) / 2.0)


def summary(rows: Iterable[Row]) -> list[Row]:
    """Return one row per case and group, in the order of `rows`: medians of its rounds that count, and errors."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["case"], row["group"]), []).append(row)
    return [_one(mine) for mine in found.values()]


def _one(mine: list[Row]) -> Row:
    good = [row for row in mine if not row["void"]]
    one: Row = {key: mine[0][key] for key in ("case", "group", "devices", "placement")}
    one |= {"rounds": len(good), "void": len(mine) - len(good)}
    one["predicted"] = statistics.median(row["predicted"] for row in good or mine)
    for key in ("measured", "corrected", "expected"):
        one[key] = statistics.median(row[key] for row in good) if good else None
    for key in ("measured", "corrected"):
        one[f"{key}_error"] = statistics.median(row["predicted"] / row[key] - 1.0 for row in good) if good else None
    return one


def verdict(rows: list[Row], key: str) -> str:
    """Return one sentence: median and worst of the errors `key` of a summary, beside the bar."""
    errors = {f"{row['case']}: {row['group']}": abs(row[key]) for row in rows if row[key] is not None}
    missing = len(rows) - len(errors)
    if not errors:
        return "nothing was measured"
    middle, worst = statistics.median(errors.values()), max(errors, key=errors.__getitem__)
    marks = ["met" if met else "missed" for met in (middle <= BAR_MEDIAN, errors[worst] <= BAR_WORST)]
    return (
        f"median error {middle:.1%} (bar {BAR_MEDIAN:.0%}: {marks[0]}), worst {errors[worst]:.1%} in {worst} "
        f"(bar {BAR_WORST:.0%}: {marks[1]}), {len(errors)} figures" + (f", {missing} not measured" if missing else "")
    )
