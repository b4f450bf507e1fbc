"""``make bench``: all benchmarks, or one with its own options: ``python -m benchmarks serving --case F``."""

from __future__ import annotations

import sys

from benchmarks import live_changes, web
from benchmarks.chaos import bench as chaos
from benchmarks.decoding import bench as decoding
from benchmarks.messages import bench as messages
from benchmarks.nco import fuzz, groups
from benchmarks.paper import bench as paper
from benchmarks.prediction import bench as prediction
from benchmarks.reliability import bench as reliability
from benchmarks.reliability import journal
from benchmarks.scheduling import bench as scheduling
from benchmarks.serving import bench as serving
from benchmarks.sizing import bench as sizing
from benchmarks.soak import bench as soak
from benchmarks.tracking import bench as tracking

PARTS = {
    "scheduling": scheduling.main,
    "serving": serving.main,
    "prediction": prediction.main,
    "paper": paper.main,
    "reliability": reliability.main,
    "journal": journal.main,
    "sizing": sizing.main,
    "nco": groups.main,
    "fuzz": fuzz.main,
    "messages": messages.main,
    "decoding": decoding.main,
    "tracking": tracking.main,
    "web": web.main,
    "live": live_changes.main,
}
BY_NAME = {"chaos": chaos.main, "soak": soak.main}
"""Those that take hours: not among all."""


def main() -> None:
    """Run them."""
    name, *options = sys.argv[1:] or ["all"]
    if name == "all":
        for part in PARTS.values():
            part([])
    elif part := (PARTS | BY_NAME).get(name):
        part(options)
    else:
        raise SystemExit(f"no benchmark {name!r}; there are {', '.join(PARTS | BY_NAME)}")


if __name__ == "__main__":
    main()
