"""HAMS itself, as a person starts it: ``hams-ctl up``, ``hams-ctl deploy``, and a subscriber to the results.

The system's state lies in ``$HAMS_HOME``; ``prepare`` measures the networks on the devices and leaves, so that it need
not be done in every round.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.serving.case import Case, Meter, Score, descendants, pss_mib
from hams_client import connect
from hams_shared.group.spec import GroupSpec

START_S = 120.0
DEPLOY_S = 300.0
SILENCE_S = 30.0


class System:
    """A running ``hams-ctl up``."""

    def __init__(self, devices: list[str]) -> None:
        self._home = Path(os.environ["HAMS_HOME"])
        self._home.mkdir(parents=True, exist_ok=True)
        self._log = self._home / "bench-up.log"
        argv = [sys.executable, "-m", "hams_services.ctl", "up", "--port", "0"]
        for device in devices:
            argv += ["--device", device]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    def __enter__(self) -> System:
        deadline = time.monotonic() + START_S
        while "HAMS is up" not in self._log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"hams-ctl up did not start:\n{self._log.read_text()}")
            time.sleep(0.1)
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()

    @property
    def url(self) -> str:
        """The broker's address."""
        return str(json.loads((self._home / "up.json").read_text())["url"])

    def ctl(self, *args: str, timeout: float = DEPLOY_S) -> str:
        """Run ``hams-ctl``."""
        argv = [sys.executable, "-m", "hams_services.ctl", *args]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise SystemExit(f"hams-ctl {' '.join(args)}:\n{done.stdout}{done.stderr}")
        return done.stdout


def group_file(case: Case, folder: Path, strategy: str) -> Path:
    """The case's group with streams that play its video without end, as fast as it goes."""
    spec = yaml.safe_load(Path(case.group).read_text())
    stream = {"source": case.video, "mode": "lossless", "pace": "max", "loop": True}
    spec |= {"strategy": strategy, "in_flight": case.window, "streams": {f"s{i}": stream for i in range(case.streams)}}
    for node in spec["nodes"].values():
        if ":" not in node["model"]:
            node["model"] = str((Path(case.group).parent / node["model"]).resolve())
    path = folder / "group.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


async def measure(case: Case, spec: GroupSpec, url: str) -> tuple[Meter, dict[str, Any], list[float]]:
    """Subscribe until the measured time is over; return the meter, the last result, and what each frame waited."""
    async with connect(url) as hams:
        meter: Meter | None = None
        hops: list[float] = []
        last: dict[str, Any] = {}
        results = hams.results(spec.name, limit=4096)
        while meter is None or not meter.over:
            async with asyncio.timeout(SILENCE_S):
                result = await anext(results)
            meter = meter or Meter(case)
            captured = result.captured - time.time() + time.perf_counter()
            meter.done(int(result.stream[1:]), captured, len(result.objects))
            last = result.data
            if time.perf_counter() > meter.begin:
                hops.append(overhead_ms(spec, result.latency_ms, result.nodes))
        return meter, last, hops


def overhead_ms(spec: GroupSpec, latency_ms: float, nodes: dict[str, dict[str, Any]]) -> float:
    """End-to-end latency less the work on its longest path: steps before, in and after the networks."""
    spent = {
        name: sum(float(v) for k, v in node.items() if k not in ("queue", "device")) for name, node in nodes.items()
    }

    def longest(name: str) -> float:
        return spent.get(name, 0.0) + max((longest(child) for child in spec.children(name)), default=0.0)

    return latency_ms - longest(spec.root)


def run(case: Case, strategy: str) -> Score:
    """Measure it."""
    spec = case.spec()
    with tempfile.TemporaryDirectory() as folder, System(list(case.devices.values())) as system:
        system.ctl("deploy", str(group_file(case, Path(folder), strategy)))
        meter, last, waits = asyncio.run(measure(case, spec, system.url))
        status = json.loads(system.ctl("status", "--json"))
        score = meter.score(descendants(system.process.pid))
        score.memory_mib = round(score.memory_mib - pss_mib(os.getpid()), 1)  # the subscriber is no part of the system
        active = next(group for group in status["groups"] if group["name"] == spec.name)["active"]
        score.notes = {
            "shares": active["shares"],
            "predicted_fps": round(active["fps"], 2),
            "overhead_p50_ms": round(float(np.median(waits or [0.0])), 3),
            "last_nodes": last.get("nodes"),
        }
        return score


def prepare(case: Case) -> None:
    """Measure the networks on the devices."""
    with tempfile.TemporaryDirectory() as folder, System(list(case.devices.values())) as system:
        print(system.ctl("plan", str(group_file(case, Path(folder), "hfs"))))


if __name__ == "__main__":
    if sys.argv[2:] == ["prepare"]:
        prepare(Case.load(sys.argv[1]))
        raise SystemExit
    run(Case.load(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "hfs").print()
