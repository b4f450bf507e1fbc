"""Predicts and measures the cases of one set of devices in one running system."""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.prediction import calibration, rules
from benchmarks.prediction.cases import LOOP, DeviceSet, PredictionCase, deployment
from benchmarks.serving.hams import System
from hams_client import Hams, connect
from hams_shared.bus.ask import pipeline_view, scheduler_view
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.scheduler import SchedulerView

WARM_UP = 20
"""Frames per stream that are not measured."""
WARM_UP_EMULATED = LOOP + 8
"""With emulated devices: every picture has been seen once and is replayed afterwards."""
LEAST_S = 6.0
"""A measurement takes at least this long, and whole loops of the video."""
MOST_S = 90.0
"""Longest time of warm-up and of measurement."""
QUIET_S = 20.0
"""Longest wait until the agents measure nothing before a calibration."""
BEATS_S = 1.2
"""Two heartbeats and a bit, s."""
POLL_S = 0.2
EDGE_S = 0.004
ASK_S = 30.0


@dataclass(frozen=True)
class Prediction:
    """What a plan says of a case before deployment."""

    fps: dict[str, float]
    """By group."""
    stated: frozenset[str]
    """Groups that emulated devices limit: their pace is stated and does not follow the machine's speed."""


def predict(system: System, case: PredictionCase) -> Prediction:
    """Return what a plan predicts for `case`; nothing is deployed."""
    with tempfile.TemporaryDirectory() as scratch:
        path, names = deployment(case, Path(scratch))
        [answer] = json.loads(system.ctl("plan", str(path), "--strategy", "hfs", "--json"))
    if answer["error"]:
        raise SystemExit(f"{case.name}: {answer['error']}")
    return prediction(answer, names)


def prediction(answer: dict[str, Any], names: list[str]) -> Prediction:
    """Read one strategy's answer of ``hams-ctl plan --json`` about the groups `names`."""
    used: dict[str, set[str]] = {name: set() for name in names}
    for node, shares in answer["shares"].items():
        used[node.split("/")[0] if len(names) > 1 else names[0]] |= set(shares)
    if len(names) == 1 and answer["bottleneck"]:
        used = {names[0]: {answer["bottleneck"]}}
    stated = {name for name, devices in used.items() if all(".emulated." in device for device in devices)}
    fps = answer["group_fps"] or {names[0]: float(answer["fps"])}
    return Prediction(dict(fps), frozenset(stated))


def measure(system: System, devices: DeviceSet, case: PredictionCase) -> dict[str, dict[str, Any]]:
    """Deploy `case`, measure it between two calibrations, undeploy it; return the figures by group."""
    asyncio.run(quiet(system.url))
    before = calibration.rate()
    with tempfile.TemporaryDirectory() as scratch:
        path, names = deployment(case, Path(scratch))
        system.ctl("deploy", str(path))
        try:
            warm_up = (WARM_UP_EMULATED if devices.emulated else WARM_UP) * case.streams
            found = asyncio.run(measured(system.url, names, warm_up, LOOP * case.streams))
        finally:
            for name in names:
                system.ctl("undeploy", name)
    asyncio.run(quiet(system.url))
    after = calibration.rate()
    for one in found.values():
        counts = (one["replayed"], one["misses"], one["resent"])
        one |= {"before": before, "after": after, "void": rules.void(before, after, *counts)}
    return found


async def quiet(url: str) -> None:
    """Wait until no agent measures a network, nor computes what was queued for a group that is gone."""
    async with connect(url) as hams:
        end, last = time.monotonic() + QUIET_S, None
        while time.monotonic() < end:
            view = await scheduler_view(hams.bus, timeout=ASK_S)
            beats = [device.heartbeat for device in view.devices if device.heartbeat]
            done = {beat.device: (beat.queue, beat.busy_s) for beat in beats}
            idle = done == last and not any(beat.queue for beat in beats)
            if idle and not view.profiling and not view.waiting_profiles:
                return
            last = done
            await asyncio.sleep(BEATS_S)


async def measured(url: str, names: list[str], warm_up: int, loop: int) -> dict[str, dict[str, Any]]:
    """Measure all groups at the same time, over whole loops of `loop` frames, after `warm_up` frames of each."""
    async with connect(url) as hams:
        ledgers = {name: Ledger(hams, name) for name in names}
        await asyncio.gather(*(ledger.reach(warm_up) for ledger in ledgers.values()))
        first = await scheduler_view(hams.bus, timeout=ASK_S)
        fps = await asyncio.gather(*(ledger.fps(loop) for ledger in ledgers.values()))
        last = await scheduler_view(hams.bus, timeout=ASK_S)
        replayed, misses = (_emulated(last, key) - _emulated(first, key) for key in ("replayed", "misses"))
        found = {}
        for group in last.groups:
            assert group.active is not None
            found[group.name] = {
                "measured": round(fps[names.index(group.name)], 3),
                "deployed": round(group.active.fps, 3),
                "expected": round(group.expected_fps, 3),
                "shares": group.active.shares,
                "frames": ledgers[group.name].frames,
                "seconds": round(ledgers[group.name].seconds, 2),
                "resent": await ledgers[group.name].lost(),
                "replayed": replayed,
                "misses": misses,
                "busy": busy(first, last),
            }
        return found


def busy(first: SchedulerView, last: SchedulerView) -> dict[str, float]:
    """Return by device the part of the time between two views that it computed; of several lanes, their mean."""
    before = {device.record.device: device.heartbeat for device in first.devices}
    found = {}
    for device in last.devices:
        old, new = before.get(device.record.device), device.heartbeat
        if old is not None and new is not None and new.uptime_s > old.uptime_s:
            found[new.device] = round((new.busy_s - old.busy_s) / (new.uptime_s - old.uptime_s) / new.lanes, 3)
    return found


def _emulated(view: SchedulerView, key: str) -> int:
    return sum(int(getattr(device.heartbeat, key)) for device in view.devices if device.heartbeat)


class Ledger:
    """The delivered frames of one group, as the pipeline counts them: no result is received, so nothing is added."""

    def __init__(self, hams: Hams, group: str) -> None:
        self._hams = hams
        self._group = group
        self.frames = 0
        self.seconds = 0.0

    async def _streams(self) -> list[StreamView]:
        view = await pipeline_view(self._hams.bus, timeout=ASK_S)
        return [one for one in view.streams if one.group == self._group]

    async def delivered(self) -> int:
        """Frames so far."""
        return sum(one.delivered for one in await self._streams())

    async def lost(self) -> int:
        """Frames so far that were sent again, failed or dropped."""
        return sum(s.resent + sum(s.failed.values()) + sum(s.dropped.values()) for s in await self._streams())

    async def reach(self, count: int) -> None:
        """Wait until `count` frames are delivered."""
        end = time.monotonic() + MOST_S
        while (now := await self.delivered()) < count:
            if time.monotonic() > end:
                raise SystemExit(f"{self._group}: {now} of {count} frames within {MOST_S:g} s")
            await asyncio.sleep(POLL_S)

    async def _edge(self) -> tuple[float, int]:
        """Wait for the next delivered frame; return when it was seen, and the frames so far."""
        first, end = await self.delivered(), time.monotonic() + ASK_S
        while (now := await self.delivered()) == first:
            if time.monotonic() > end:
                raise SystemExit(f"{self._group}: no frame within {ASK_S:g} s")
            await asyncio.sleep(EDGE_S)
        return time.perf_counter(), now

    async def fps(self, loop: int) -> float:
        """Measure frames/s over whole loops of `loop` frames, for at least `LEAST_S`."""
        begin, first = await self._edge()
        loops = 1
        await self.reach(first + loop - 1)
        while (span := time.perf_counter() - begin) < LEAST_S:
            loops += math.ceil(loops * (LEAST_S - span) / span)
            await self.reach(first + loop * loops - 1)
        end, last = await self._edge()
        self.frames, self.seconds = last - first, end - begin
        return self.frames / self.seconds
