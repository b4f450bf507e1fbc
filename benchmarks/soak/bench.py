"""``python -m benchmarks soak --hours 4``: four streams, a deploy each minute; what grows, whether it gets slower."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.chaos import inside

SAMPLE_S = 10.0
DEPLOY_S = 60.0


def main(arguments: list[str] | None = None) -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="benchmarks soak")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--deploy", type=float, default=DEPLOY_S, help="seconds between two deploys")
    parser.add_argument("--keep", default="1h", help="how long the broker keeps results; then its store is level")
    parser.add_argument("--sample", type=float, default=SAMPLE_S, help="seconds between two samples")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/soak.json"), help="beside it: a PNG, logs")
    chosen = parser.parse_args(arguments)
    inside.enter("soak", arguments if arguments is not None else sys.argv[2:])
    asyncio.run(_run(chosen))


async def _run(chosen: argparse.Namespace) -> None:
    from benchmarks.soak.report import judged, plot, table
    from benchmarks.soak.system import Soak

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=inside.scratch(), ignore_cleanup_errors=True) as scratch:
        soak = Soak(Path(scratch), chosen.deploy, chosen.sample, chosen.keep, chosen.out.parent / "soak-logs")
        try:
            await soak.run(stop, 3600 * chosen.hours)
        finally:
            found = judged(soak.samples, soak.latencies, soak.deploys, soak.counts())
            chosen.out.write_text(json.dumps(found, indent=1) + "\n")
            print(table(found))
            plot(soak.samples, chosen.out.with_suffix(".png"))
