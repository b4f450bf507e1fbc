"""HAMS itself, as a person starts it: ``hams-ctl up``, ``hams-ctl deploy``, and a subscriber to the results.

The system's state lies in ``$HAMS_HOME``; ``prepare`` measures the networks on the devices and leaves, so that it need
not be done in every round.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.check.turn import TICKS, processes
from benchmarks.serving.case import Case, Meter, Score, cores, descendants, pss_mib
from hams_client import connect
from hams_shared.group.spec import GroupSpec

START_S = 120.0
DEPLOY_S = 300.0
SILENCE_S = 30.0


def end_with_parent() -> None:
    """For ``Popen(preexec_fn=…)``: the new process is told to end when ours does, also when ours is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


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
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, preexec_fn=end_with_parent)

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


@dataclass
class Seen:
    """What a subscriber sees until the measured time is over."""

    meter: Meter
    last: dict[str, Any]
    """The last result."""
    waits: list[float]
    """What each frame waited: latency less the work on its longest path, ms."""
    cpu_ms: dict[str, float]
    """CPU time per frame by :func:`cpu_by_part`."""


async def measure(case: Case, spec: GroupSpec, url: str, top: int) -> Seen:
    """Subscribe until the measured time is over; `top` is the process of ``hams-ctl up``."""
    async with connect(url) as hams:
        meter: Meter | None = None
        waits: list[float] = []
        last: dict[str, Any] = {}
        before: dict[str, float] | None = None
        results = hams.results(spec.name, limit=4096)
        while meter is None or not meter.over:
            async with asyncio.timeout(SILENCE_S):
                result = await anext(results)
            meter = meter or Meter(case)
            captured = result.captured - time.time() + time.perf_counter()
            meter.done(int(result.stream[1:]), captured, len(result.objects))
            last = result.data
            if time.perf_counter() > meter.begin:
                before = before or cpu_by_part(top)
                waits.append(overhead_ms(spec, result.latency_ms, result.nodes))
        after, before = cpu_by_part(top), before or {}
        spent = {part: round((s - before.get(part, s)) / max(1, len(waits)) * 1e3, 3) for part, s in after.items()}
        return Seen(meter, last, waits, spent)


LOOPS = {"agents": "agents: event loops", "pipeline": "pipeline: event loop"}


def cpu_by_part(top: int) -> dict[str, float]:
    """CPU seconds so far of each part of the system below process `top`.

    Event loops are the main threads of agents and pipeline, and a part of their process's time. They do what HAMS adds
    to a frame; networks, steps before and after them, and video have threads of their own.
    """
    found: dict[str, float] = {}
    for pid, (part, seconds) in processes(top).items():
        found[part] = found.get(part, 0.0) + seconds
        if part in LOOPS:
            fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
            found[LOOPS[part]] = found.get(LOOPS[part], 0.0) + (int(fields[11]) + int(fields[12])) / TICKS
    return found


def hops(spec: GroupSpec, shares: dict[str, dict[str, float]]) -> int:
    """Messages on the longest path of a frame: to the root's device, from device to device, back to the pipeline."""
    device = {node: max(mine, key=mine.__getitem__) for node, mine in shares.items()}

    def below(name: str) -> int:
        return max((below(one) + (device[one] != device[name]) for one in spec.children(name)), default=0)

    return 2 + below(spec.root)


def overhead_ms(spec: GroupSpec, latency_ms: float, nodes: dict[str, dict[str, Any]]) -> float:
    """End-to-end latency less the work on its longest path: steps before, in and after the networks."""
    spent = {
        name: sum(float(v) for k, v in node.items() if k not in ("queue", "device")) for name, node in nodes.items()
    }

    def longest(name: str) -> float:
        return spent.get(name, 0.0) + max((longest(child) for child in spec.children(name)), default=0.0)

    return latency_ms - longest(spec.root)


def start(case: Case, default: bool) -> System:
    """A system on the case's devices, or on those that HAMS finds by itself when it may use the cores of the case."""
    if default:
        os.sched_setaffinity(0, cores(case))
    return System([] if default else list(case.devices.values()))


def run(case: Case, strategy: str, default: bool) -> Score:
    """Measure it."""
    spec = case.spec()
    with tempfile.TemporaryDirectory() as folder, start(case, default) as system:
        system.ctl("deploy", str(group_file(case, Path(folder), strategy)))
        seen = asyncio.run(measure(case, spec, system.url, system.process.pid))
        status = json.loads(system.ctl("status", "--json"))
        score = seen.meter.score(descendants(system.process.pid))
        score.memory_mib = round(score.memory_mib - pss_mib(os.getpid()), 1)  # the subscriber is no part of the system
        active = next(group for group in status["groups"] if group["name"] == spec.name)["active"]
        score.notes = {
            "shares": active["shares"],
            "predicted_fps": round(active["fps"], 2),
            "overhead_p50_ms": round(float(np.median(seen.waits or [0.0])), 3),
            "cpu_ms": seen.cpu_ms,
            "last_nodes": seen.last.get("nodes"),
        }
        if case.window == 1:  # else frames also wait for each other
            score.notes["hops"] = hops(spec, active["shares"])
        return score


def prepare(case: Case, default: bool) -> None:
    """Measure the networks on the devices."""
    with tempfile.TemporaryDirectory() as folder, start(case, default) as system:
        print(system.ctl("plan", str(group_file(case, Path(folder), "hfs"))))


if __name__ == "__main__":
    words = [word for word in sys.argv[2:] if word != "--default"]
    if words == ["prepare"]:
        prepare(Case.load(sys.argv[1]), "--default" in sys.argv)
        raise SystemExit
    run(Case.load(sys.argv[1]), words[0] if words else "hfs", "--default" in sys.argv).print()
