"""Deploys changes of a serving group, and times when they count: ``python -m benchmarks live [--changes 20]``.

A whole `hams-ctl up` plays a video through examples/face.yaml, or another group with one stream. Each change is timed
from before the record is written until the first result that was computed by it has arrived; frames that were dropped
or failed meanwhile are counted, and those of as long a time without changes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving.cases import ROOT
from hams_client.client import Hams
from hams_shared.bus.control import Control
from hams_shared.bus.nats.client import NatsBus
from hams_shared.group.spec import GroupSpec, load_group
from hams_shared.wire.messages.group import GroupRecord

START_S, DEPLOY_S, CHANGE_S = 120.0, 300.0, 60.0
"""Deadlines of `hams-ctl up`, of the first deploy, and of a change, s."""
Counts = dict[str, int]


@contextmanager
def up(home: Path, devices: list[str]) -> Iterator[dict[str, str]]:
    """Run `hams-ctl up`; yield the environment in which it is found."""
    env = {**os.environ, "HAMS_HOME": str(home)}
    env.pop("HAMS_NATS_URL", None)
    options = [option for device in devices for option in ("--device", device)]
    argv = [sys.executable, "-m", "hams_services.ctl", "up", "--no-web", "--port", "0", *options]
    output = home / "up.out"
    with output.open("w") as out, subprocess.Popen(argv, env=env, stdout=out, stderr=out) as process:
        try:
            end = time.monotonic() + START_S
            while "next: " not in output.read_text():
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"hams-ctl up did not start: {output.read_text()}")
                time.sleep(0.1)
            yield env
        finally:
            process.terminate()
            process.wait(START_S)


@asynccontextmanager
async def connected(env: dict[str, str]) -> AsyncIterator[NatsBus]:
    """A connection to its broker."""
    url = json.loads((Path(env["HAMS_HOME"]) / "up.json").read_text())["url"]
    async with NatsBus(url) as bus:
        yield bus


class Site:
    """The group as it serves, and its results as they arrive."""

    def __init__(self, bus: NatsBus, group: str) -> None:
        self.control, self.group = Control(bus), group
        self._hams = Hams(bus)
        self.arrived: dict[int, float] = {}
        """By version of the group: when its first result came, monotonic s."""
        self.frames: list[int] = []

    async def listen(self) -> None:
        """Take results until cancelled."""
        async with self._hams.results(self.group, limit=100_000) as results:
            async for result in results:
                self.arrived.setdefault(int(result.data.get("group_version", 0)), time.monotonic())
                self.frames.append(result.frame)

    async def counts(self) -> Counts:
        """Frames so far."""
        [view] = [one for one in (await self.control.streams()).streams if one.group == self.group]
        return {"submitted": view.submitted, "lost": sum(view.dropped.values()) + sum(view.failed.values())}

    async def deploy(self, change: Any) -> float:
        """Deploy a change of the spec as it runs; return when it counted, s after it was asked for."""
        runs = await self.control.running(self.group)
        assert runs.record is not None
        data = runs.record.spec.model_dump(mode="json", exclude_unset=True)
        change(data)
        record = GroupRecord(spec=GroupSpec.model_validate(data), models=runs.record.models, deployed_at=time.time())
        began = time.monotonic()
        written = await self.control.deploy(record, runs)
        async with asyncio.timeout(CHANGE_S):
            while written.version not in self.arrived:  # noqa: ASYNC110 (a result is waited for)
                await asyncio.sleep(0.005)
        return self.arrived[written.version] - began


def threshold(data: dict[str, Any], number: int) -> None:
    """Another threshold of the detector."""
    root = next(node for node in data["nodes"].values() if node.get("parent") is None)
    root["task"]["threshold"] = 0.5 + 0.01 * (number % 2 + 1)


def zone(data: dict[str, Any], number: int) -> None:
    """Another zone of a stream."""
    right = 0.5 + 0.1 * (number % 2)
    next(iter(data["streams"].values()))["zones"] = {"left": [[0, 0], [right, 0], [right, 1], [0, 1]]}


def priority(data: dict[str, Any], number: int) -> None:
    """Another priority: the scheduler plans anew."""
    data["priority"] = number % 2 + 1


CHANGES = {"threshold": threshold, "zone": zone, "priority": priority}


async def measure(env: dict[str, str], group: str, count: int, pause_s: float) -> list[dict[str, Any]]:
    """Return a row for each kind of change, and one without changes."""
    rows: list[dict[str, Any]] = []
    async with connected(env) as bus:
        site = Site(bus, group)
        listening = asyncio.create_task(site.listen())
        await asyncio.sleep(5.0)
        for name, change in CHANGES.items():
            before, took = await site.counts(), []
            for number in range(count):
                took.append(await site.deploy(lambda data, n=number, do=change: do(data, n)))
                await asyncio.sleep(pause_s)
            rows.append({"change": name, **spread(took), **_since(before, await site.counts())})
        before = await site.counts()
        await asyncio.sleep(count * (pause_s + 0.2))
        rows.append({"change": "none", **_since(before, await site.counts())})
        listening.cancel()
        assert site.frames == sorted(set(site.frames)), "a frame came twice, or out of order"
    return rows


def spread(took: list[float]) -> dict[str, float]:
    """Of times in s."""
    return {"median_s": round(statistics.median(took), 3), "max_s": round(max(took), 3)}


def _since(before: Counts, after: Counts) -> Counts:
    return {key: after[key] - before[key] for key in after}


def logged(home: Path) -> dict[str, int]:
    """How often agents loaded networks, measured them, and built tasks anew for those that were loaded."""
    text = "".join(path.read_text() for path in (home / "logs").glob("agent*.log"))
    found = {"loads": r"loaded \S+ for epoch", "benchmarks": "benchmark of", "rebuilds": r"rebuilt \S+ for epoch"}
    return {name: len(re.findall(pattern, text)) for name, pattern in found.items()}


def main(options: list[str]) -> None:
    """Measure, and print the rows as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks live")
    parser.add_argument("--changes", type=int, default=20, help="of each kind")
    parser.add_argument("--pause", type=float, default=1.0, help="between two changes, s")
    parser.add_argument("--group", type=Path, default=ROOT / "examples" / "face.yaml", help="with one stream")
    parser.add_argument("--fps", type=float, help="of the video [its own]")
    parser.add_argument("--device", action="append", default=[])
    given = parser.parse_args(options)
    with tempfile.TemporaryDirectory(prefix="hams-live-") as folder:
        home = Path(folder)
        file = home / "group.json"
        spec = load_group(given.group).model_dump(mode="json", exclude_unset=True)
        if given.fps:
            next(iter(spec["streams"].values()))["fps"] = given.fps
        file.write_text(json.dumps(spec))
        with up(home, given.device or ["openvino:CPU"]) as env:
            argv = [sys.executable, "-m", "hams_services.ctl", "deploy", str(file)]
            subprocess.run(argv, env=env, check=True, timeout=DEPLOY_S)
            began = logged(home)
            rows = asyncio.run(measure(env, spec["name"], given.changes, given.pause))
            ended = logged(home)
        for row in rows:
            print(json.dumps(row))
        print(json.dumps({name: ended[name] - began[name] for name in ended}))
