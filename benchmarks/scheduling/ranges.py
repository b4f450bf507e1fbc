"""The strategies over ranges of instances, on the seeds that they were tuned with and on held-out ones.

`python -m benchmarks scheduling --ranges tuning` (or `held-out`) adds its figures to
docs/benchmarks/scheduling-ranges.json and prints them. Models 5–2,000, devices 3–100, memory none or 1.2–1.8 × the
need, affinity 0.2–0.8, 0–30 % of the pairs unsupported, all drawn anew from each seed. Time is CPU time of the process,
so that other work on the machine changes it little; HiGHS's own limits are wall time.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scheduling.generate import generate
from benchmarks.scheduling.losses import replanning
from hams_scheduler.solver.instance import Instance, NoPlacementError
from hams_scheduler.solver.placement import Placement
from hams_scheduler.solver.strategies.registry import solve

OUT = Path(__file__).parents[2] / "docs" / "benchmarks" / "scheduling-ranges.json"
SEEDS = {"tuning": 2000, "held-out": 810_000}
SMALL = ((5, 3), (7, 4), (9, 5), (11, 3), (11, 6))


def drawn(seed: int, size: tuple[int, int] | None = None) -> Instance:
    """Return an instance of that size (or any) with the rest drawn from its range."""
    rng = np.random.default_rng([seed, 22])
    models = int(np.exp(rng.uniform(np.log(5), np.log(2000))))
    devices = min(models, int(np.exp(rng.uniform(np.log(3), np.log(100)))))
    memory: str | float = "none" if rng.random() < 0.25 else float(rng.uniform(1.2, 1.8))
    affinity, unsupported = float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.0, 0.3))
    models, devices = size or (models, devices)
    return generate(models, devices, seed, memory=memory, affinity=affinity, unsupported=unsupported)


def timed(instance: Instance, name: str, limit: float) -> Placement:
    return solve(instance, name, time_limit_s=limit, clock=time.process_time)


def small(first: int) -> dict[str, Any]:
    """MFS and HFS up to 11 models, over the optimum: mean, worst, and the mean of the worst of each 30."""
    ratios: dict[str, list[float]] = {"mfs": [], "hfs": []}
    for seed in range(first, first + 300):
        instance = drawn(seed, SMALL[seed % len(SMALL)])
        best = timed(instance, "optimal", 10.0).fps
        for name, found in ratios.items():
            found.append(timed(instance, name, 10.0).fps / best)
    return {
        name: {
            "mean": float(np.mean(found)),
            "worst": min(found),
            "worst_of_30": float(np.mean([min(found[at : at + 30]) for at in range(0, len(found), 30)])),
        }
        for name, found in ratios.items()
    }


def proven(instances: Iterator[Instance], limit: float) -> dict[str, Any]:
    """How many of the instances `optimal` proves, its gaps, its CPU time."""
    found = [timed(instance, "optimal", limit) for instance in instances]
    return {
        "proven": sum(one.optimal for one in found),
        "of": len(found),
        "gap_median": float(np.median([one.gap for one in found])),
        "gap_worst": max(one.gap for one in found),
        "seconds_median": float(np.median([one.seconds for one in found])),
        "seconds_worst": max(one.seconds for one in found),
    }


def heuristic_seconds(first: int) -> dict[str, float]:
    """The longest CPU time of MFS and HFS at 1,000×50, s."""
    instances = [drawn(seed, (1000, 50)) for seed in range(first, first + 4)]
    return {name: max(timed(one, name, 1.0).seconds for one in instances) for name in ("mfs", "hfs")}


def sharing(first: int) -> float:
    """The least FPS of `replicated` over that of `optimal` with the same limit of 1 s."""
    sizes = [(11, 3), (30, 8), (100, 20), (300, 30), (1000, 50)]
    instances = [drawn(first + at, size) for at, size in enumerate(sizes * 2)]
    return min(timed(one, "replicated", 1.0).fps / timed(one, "optimal", 1.0).fps for one in instances)


def any_size(first: int, count: int) -> Iterator[Instance]:
    for seed in range(first, first + count):
        try:
            instance = drawn(seed)
            solve(instance, "mfs")
        except NoPlacementError:
            continue
        yield instance


def parts(first: int) -> dict[str, Callable[[], Any]]:
    seeds = range(first, first + 20)
    return {
        "up to 11 models: mfs, hfs ÷ optimum, 300 instances": lambda: small(first),
        "1000×50: mfs, hfs, CPU s": lambda: heuristic_seconds(first),
        "30×8, loose memory, 2 s": lambda: proven((generate(30, 8, s) for s in range(first, first + 40)), 2.0),
        "30×8, ranges, 2 s": lambda: proven((drawn(s, (30, 8)) for s in range(first, first + 40)), 2.0),
        "any size, 2 s": lambda: proven(any_size(first, 20), 2.0),
        "2000×100, loose memory, 2 s": lambda: proven((generate(2000, 100, s) for s in range(first, first + 3)), 2.0),
        "2000×100, ranges, 2 s": lambda: proven((drawn(s, (2000, 100)) for s in range(first, first + 8)), 2.0),
        "5000×200, loose memory, 10 s": lambda: proven((generate(5000, 200, s) for s in range(first, first + 2)), 10.0),
        "5000×200, ranges, 10 s": lambda: proven((drawn(s, (5000, 200)) for s in range(first, first + 2)), 10.0),
        "replicated ÷ optimal, worst of 10, 1 s": lambda: sharing(first),
        "30×8, a device lost, no memory": lambda: replanning(generate(30, 8, s, memory="none") for s in seeds),
        "30×8, a device lost, ranges": lambda: replanning(drawn(s, (30, 8)) for s in seeds),
    }


def main(options: list[str]) -> None:
    if not options or options[0] not in SEEDS:
        raise SystemExit(f"--ranges needs one of {', '.join(SEEDS)}")
    name = options[0]
    figures: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    figures["host"] = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    for title, part in parts(SEEDS[name]).items():
        if options[1:] and not any(word in title for word in options[1:]):
            continue
        figures.setdefault(name, {})[title] = result = part()
        print(f"{name}: {title}: {result}", flush=True)
        OUT.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
