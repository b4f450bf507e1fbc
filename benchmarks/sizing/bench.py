"""Measures what each part takes, at rest and with Service F: ``python -m benchmarks sizing``.

Real processes: nats-server, two schedulers, a pipeline, an optimizer, and an agent for each of two one-core CPU devices
(OpenVINO, ONNX Runtime). Streams are lossless and play a VGA video without end as fast as it goes, so that every frame
that was read is also delivered, and CPU time and bytes can be divided by frames. CPU times come from /proc and depend
little on what else the machine does; frames/s would, and are not given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import yaml

from benchmarks.reliability.rig import Rig
from benchmarks.reliability.watcher import Watcher, serving, states
from benchmarks.serving.cases import FACE, ROOT, SIZES, devices, video
from benchmarks.sizing.proc import Usage, traffic, usage
from benchmarks.sizing.report import markdown
from hams_client import connect
from hams_services.ctl.system.broker import check_port
from hams_shared.bus.ask import pipeline_view
from hams_shared.bus.protocol import Message
from hams_shared.wire import subjects

STREAMS = (1, 2, 4)
SIZE = SIZES["vga"]
REST_S = 15.0
SETTLE_S = 5.0
FRAMES = 200
"""Frames over which CPU time and bytes are taken."""
MOST_S = 240.0
RESULTS = 50
PRIVATE = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "sh")
"""An agent with shared memory of its own gets frames inline, as one on another box."""


def group_file(folder: Path, streams: int) -> Path:
    """Service F with so many streams."""
    spec = yaml.safe_load(FACE.read_text())
    stream = {"source": str(video(SIZE, folder)), "mode": "lossless", "pace": "max", "loop": True}
    spec["streams"] = {f"s{i}": stream for i in range(streams)}
    spec["deadline_s"] = 120.0  # on a slow machine many streams wait long; what is sent again would count twice
    path = folder / f"face-{streams}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def part_of(name: str, leader: int | None, pid: int) -> str:
    """Its name in the tables."""
    if name.startswith("scheduler"):
        return "scheduler" if pid == leader else "scheduler, standing by"
    return name


class Site:
    """A system that is measured."""

    def __init__(self, rig: Rig, watcher: Watcher, monitor: int) -> None:
        self._rig, self._watcher, self._monitor = rig, watcher, monitor

    async def parts(self) -> dict[str, Usage]:
        """Every part now."""
        view = await self._watcher.view()
        leader = view.leader.pid if view is not None and view.leader is not None else None
        return {part_of(name, leader, p.pid): usage(p.pid) for name, p in self._rig.parts.items()}

    async def rest(self) -> dict[str, Any]:
        """Without any group."""
        before, bytes_before, began = await self.parts(), traffic(self._monitor), time.monotonic()
        await asyncio.sleep(REST_S)
        after, bytes_after, span = await self.parts(), traffic(self._monitor), time.monotonic() - began
        return {
            "parts": {
                name: {
                    "memory_mib": round(after[name].memory_mib, 1),
                    "cpu_ms_per_s": round((after[name].cpu_s - before[name].cpu_s) / span * 1e3, 2),
                }
                for name in after
            },
            "broker_in_bytes_per_s": round((bytes_after[0] - bytes_before[0]) / span),
            "broker_out_bytes_per_s": round((bytes_after[1] - bytes_before[1]) / span),
        }

    async def delivered(self) -> int:
        """Results so far, of all streams."""
        return sum(s.delivered for s in (await pipeline_view(self._watcher.hams.bus, timeout=30)).streams)

    async def deploy(self, path: Path, streams: int) -> dict[str, Any]:
        """Deploy and measure a group whose results nobody reads yet."""
        await asyncio.to_thread(self._rig.ctl, "deploy", str(path))
        view = await self._watcher.view()
        assert view is not None
        [group] = view.groups
        assert group.active is not None
        await self._until(await self.delivered() + 10 * streams)
        await asyncio.sleep(SETTLE_S)
        before, bytes_before, frames_before = await self.parts(), traffic(self._monitor), await self.delivered()
        began = time.monotonic()
        await self._until(frames_before + FRAMES)
        after, bytes_after, frames = await self.parts(), traffic(self._monitor), await self.delivered() - frames_before
        return {
            "streams": streams,
            "frames": frames,
            "seconds": round(time.monotonic() - began, 1),
            "resent": sum(s.resent for s in (await pipeline_view(self._watcher.hams.bus, timeout=30)).streams),
            "placement": {node: sorted(shares) for node, shares in group.active.shares.items()},
            "parts": {
                name: {
                    "memory_mib": round(after[name].memory_mib, 1),
                    "frames_mib": round(after[name].frames_mib, 1),
                    "cpu_ms_per_frame": round((after[name].cpu_s - before[name].cpu_s) / frames * 1e3, 2),
                }
                for name in after
                if name in before
            },
            "broker_in_bytes_per_frame": round((bytes_after[0] - bytes_before[0]) / frames),
            "broker_out_bytes_per_frame": round((bytes_after[1] - bytes_before[1]) / frames),
            "result_bytes_per_frame": await self._result_bytes(),
        }

    async def _until(self, count: int) -> None:
        end = time.monotonic() + MOST_S
        while await self.delivered() < count:
            if time.monotonic() > end:
                raise SystemExit(f"not {count} frames within {MOST_S:g} s")
            await asyncio.sleep(1.0)  # asking costs a little, too

    async def _result_bytes(self) -> int:
        """Mean size of a result."""
        sizes: list[int] = []

        async def take(message: Message) -> None:
            sizes.append(len(message.data))

        subscription = await self._watcher.hams.bus.subscribe(subjects.result("face"), take)
        await self._watcher.until(lambda: len(sizes) >= RESULTS, "results")
        await subscription.unsubscribe()
        return round(sum(sizes) / len(sizes))


def may_unshare() -> bool:
    """Whether this user can give an agent shared memory of its own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*PRIVATE, "true"], capture_output=True).returncode == 0


async def run(streams: tuple[int, ...], inline: bool) -> dict[str, Any]:
    """One system from rest to so many streams; with `inline`, agents that cannot map frames."""
    named = {device.split(":")[0]: device for device in devices(("openvino", "onnxruntime")).values()}
    monitor = check_port("127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with Rig(folder, devices=named, before=PRIVATE if inline else (), monitor=monitor) as rig:
            rig.add("optimizer", "hams_services.optimizer")
            async with AsyncExitStack() as stack:
                watcher = Watcher(await stack.enter_async_context(connect(rig.url)))
                await watcher.until_view(lambda v: list(states(v).values()).count("alive") == 2, "two devices")
                site = Site(rig, watcher, monitor)
                await asyncio.sleep(SETTLE_S)
                found: dict[str, Any] = {"rest": await site.rest(), "runs": []}
                for number in streams:
                    found["runs"].append(await site.deploy(group_file(folder, number), number))
                    print(json.dumps(found["runs"][-1]), flush=True)
                    await asyncio.to_thread(rig.ctl, "undeploy", "face")
                    await watcher.until_view(lambda v: not v.groups and serving(v), "nothing is deployed")
    return found


def main(arguments: list[str] | None = None) -> None:
    """``python -m benchmarks sizing``."""
    parser = argparse.ArgumentParser(prog="benchmarks sizing")
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS))
    chosen = parser.parse_args(arguments)
    found: dict[str, Any] = {"frame": [*SIZE, 3], "shared": asyncio.run(run(tuple(chosen.streams), inline=False))}
    if may_unshare():
        found["inline"] = asyncio.run(run((1,), inline=True))
    else:
        print("NOT MEASURED: frames inside messages need unshare(1) and root", file=sys.stderr)
    out = ROOT / "docs" / "benchmarks"
    (out / "sizing.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "sizing.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
