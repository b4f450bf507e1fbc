"""Results that survive: ``python -m benchmarks journal [--kills 10]``.

A lossless stream, and subscribers of its results: of those that come, and of those that the broker keeps. Broker and
pipeline are killed again and again; then each frame that the ledger counts as delivered is looked for. What keeping
results costs is measured in paired turns, as CPU time of pipeline and broker per frame.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

from benchmarks.reliability.rig import Rig
from benchmarks.reliability.watcher import Watcher, states
from benchmarks.serving.cases import ROOT
from benchmarks.sizing.proc import usage
from hams_client import Hams, connect
from hams_shared.bus.ask import pipeline_view
from hams_shared.errors import HamsError
from hams_shared.runtime.lifecycle import ended

FPS = 100.0
"""Of an emulated device."""
PAUSE_S = 1.0
"""A killed part is started again after so long, as a supervisor would."""
BETWEEN_S = 1.5
"""Frames flow so long between two kills."""
SETTLE_S = 3.0
TURN_S = 6.0


class Readers:
    """Subscribers of a group: of results as they come, and of kept ones."""

    def __init__(self, hams: Hams, *, keep: bool) -> None:
        self.live = Watcher(hams)
        self.kept: list[int] = []
        self.lags: list[float] = []
        """From the pipeline's reading of a frame to the reader of kept results, s."""
        self._hams, self._keep = hams, keep
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Readers:
        self._tasks = [asyncio.create_task(self.live.collect())]
        if self._keep:
            self._tasks.append(asyncio.create_task(self._read()))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await ended(self._tasks)

    async def _read(self) -> None:
        async with aclosing(self._hams.kept_results("grey", since=3600)) as results:
            async for result in results:
                self.kept.append(result.frame)
                self.lags.append(time.time() - result.captured)

    @property
    def frames(self) -> list[int]:
        """Of the results that came."""
        return [result.frame for _, result in self.live.results]


def account(frames: list[int], delivered: int) -> dict[str, Any]:
    """What a subscriber did not get, or twice, or late, of the frames that the ledger counts as delivered."""
    got = set(frames)
    return {
        "results": len(frames),
        "lost": len(set(range(delivered)) - got),
        "doubled": len(frames) - len(got),
        "in order": frames == sorted(frames),
    }


async def delivered(rig: Rig) -> int:
    """Undisturbed, the stream's count of delivered frames, as it ends."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            async with connect(rig.url) as hams:
                [stream] = (await pipeline_view(hams.bus, timeout=2)).streams
                return stream.delivered
        except HamsError:
            await asyncio.sleep(0.2)
    raise SystemExit("the pipeline does not answer")


async def kills(part: str, count: int, *, keep: bool, fps: float = FPS) -> dict[str, Any]:
    """Kill a part `count` times while frames flow; return what subscribers got."""
    with tempfile.TemporaryDirectory() as scratch, Rig(Path(scratch), fps=fps) as rig:
        async with connect(rig.url) as hams:
            watcher = Watcher(hams)
            await watcher.until_view(lambda v: list(states(v).values()).count("alive") == 2, "two devices")
            path = rig.group_file(**({"results": "1h"} if keep else {}))
            live = Readers(hams, keep=False)
            async with live:
                await asyncio.to_thread(rig.ctl, "deploy", str(path))
                await live.live.until(lambda: len(live.frames) >= 50, "results")
                readers = Readers(hams, keep=keep)
                async with readers:
                    began = time.monotonic()
                    back = [await _kill(rig, part, live) for _ in range(count)]
                    rate = len(live.frames) / (time.monotonic() - began)
                    total = await delivered(rig)
                    await live.live.until(lambda: live.frames[-1] >= total, "the last results")
                    if keep:
                        await live.live.until(lambda: readers.kept[-1] >= total, "the last kept results")
                    found = {
                        "killed": part,
                        "kills": count,
                        "keep": keep,
                        "frames/s": round(rate, 1),
                        "first result after its return, s": round(statistics.median(back), 2),
                        "as they come": account(live.frames, total),
                    }
                    if keep:
                        found["kept"] = account(readers.kept, total)
                        found["kept, behind reading p50, ms"] = round(statistics.median(readers.lags) * 1e3, 1)
                    return found


async def _kill(rig: Rig, part: str, readers: Readers) -> float:
    await asyncio.sleep(BETWEEN_S)
    rig.kill(part)
    await asyncio.sleep(PAUSE_S)
    rig.start(part)
    back = time.monotonic()
    return await readers.live.result_after(back) - back


async def cost(turns: int) -> dict[str, Any]:
    """CPU time per frame of pipeline and broker, with and without kept results, in turns; and with a reader of them."""
    rows: dict[str, list[dict[str, float]]] = {"not kept": [], "kept": [], "kept and read": []}
    with tempfile.TemporaryDirectory() as scratch, Rig(Path(scratch), fps=FPS) as rig:
        async with connect(rig.url) as hams:
            live = Readers(hams, keep=False)
            async with live:
                await live.live.until_view(lambda v: list(states(v).values()).count("alive") == 2, "two devices")
                for _ in range(turns):
                    for name in rows:
                        path = rig.group_file(**({} if name == "not kept" else {"results": "1h"}))
                        await asyncio.to_thread(rig.ctl, "deploy", str(path))
                        await live.live.steady(100)
                        reader = Readers(hams, keep=name == "kept and read")
                        async with reader:
                            await asyncio.sleep(SETTLE_S if name == "kept and read" else 0.5)
                            rows[name].append(await _turn(rig, live))
                        print(name, rows[name][-1], flush=True)
    return {
        name: {key: round(statistics.median(one[key] for one in found), 3) for key in found[0]}
        for name, found in rows.items()
    }


async def _turn(rig: Rig, live: Readers) -> dict[str, float]:
    parts = {name: rig.parts[name].pid for name in ("pipeline", "broker")}
    before, frames, began = {name: usage(pid).cpu_s for name, pid in parts.items()}, len(live.frames), time.monotonic()
    await asyncio.sleep(TURN_S)
    count = len(live.frames) - frames
    cost = {name: (usage(pid).cpu_s - before[name]) / count * 1e3 for name, pid in parts.items()}
    used = {f"{name}, CPU ms per frame": ms for name, ms in cost.items()}
    return {**used, "frames/s": count / (time.monotonic() - began)}


def markdown(found: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        "| killed with -9 | times | results kept | read | frames/s | results | lost | doubled | in order |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in found["kills"]:
        for how in ("as they come", "kept"):
            if how in run:
                one = run[how]
                keep, ordered = ("yes" if yes else "no" for yes in (run["keep"], one["in order"]))
                lines.append(
                    f"| {run['killed']} | {run['kills']} | {keep} | {how} | {run['frames/s']} "
                    f"| {one['results']} | {one['lost']} | {one['doubled']} | {ordered} |"
                )
    if "cost" in found:
        lines += [
            "",
            "| results | pipeline, CPU ms per frame | broker, CPU ms per frame | frames/s |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {one['pipeline, CPU ms per frame']} | {one['broker, CPU ms per frame']} | {one['frames/s']} |"
            for name, one in found["cost"].items()
        ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """``python -m benchmarks journal [--kills 10]``."""
    parser = argparse.ArgumentParser(prog="benchmarks journal")
    parser.add_argument("--kills", type=int, default=10, help="of broker and pipeline each")
    parser.add_argument("--turns", type=int, default=3, help="of the measurement of CPU time; 0: none")
    parser.add_argument("--only", choices=["broker", "pipeline", "cost"], help="one part; the others stay as they were")
    chosen = parser.parse_args(arguments)
    out = ROOT / "docs" / "benchmarks" / "journal.json"
    found: dict[str, Any] = json.loads(out.read_text()) if chosen.only and out.exists() else {"kills": []}
    for part in ("broker", "pipeline"):
        if chosen.only in (None, part):
            runs = [asyncio.run(kills(part, chosen.kills, keep=keep)) for keep in (False, True)]
            found["kills"] = [*(one for one in found["kills"] if one["killed"] != part), *runs]
            out.write_text(json.dumps(found, indent=1) + "\n")
    if chosen.only in (None, "cost") and chosen.turns:
        found["cost"] = asyncio.run(cost(chosen.turns))
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(markdown(found))
