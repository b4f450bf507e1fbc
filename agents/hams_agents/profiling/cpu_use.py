"""How much other processes used a device's cores while it was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
BUSY = (0, 1, 2, 5, 6, 7)
"""Fields of a CPU's line that are not idle: user, nice, system, irq, softirq, and what other virtual machines took."""


@dataclass(frozen=True)
class CpuUse:
    """Counters at one moment, s."""

    at: float
    busy: dict[int, float]
    """By core: how long it was busy since the host started."""
    own: float
    """CPU time of this process."""


def cpu_use() -> CpuUse:
    """Read the counters; no cores where the host does not give them."""
    try:
        text = STAT.read_text(encoding="ascii")
    except OSError:
        text = ""
    return CpuUse(time.monotonic(), parse_stat(text, os.sysconf("SC_CLK_TCK")), time.process_time())


def parse_stat(text: str, per_second: int) -> dict[int, float]:
    """Understand ``/proc/stat``: by core, seconds that it was busy."""
    busy = {}
    for line in text.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdecimal():
            busy[int(name[3:])] = sum(int(fields[i]) for i in BUSY if i < len(fields)) / per_second
    return busy


def used_by_others(before: CpuUse, after: CpuUse, cores: Iterable[int]) -> float:
    """The part of `cores` (none: all) that other processes used meanwhile, 0-1."""
    among = set(cores) & after.busy.keys() or after.busy.keys()
    seconds = after.at - before.at
    if not among or seconds <= 0:
        return 0.0
    used = sum(after.busy[core] - before.busy.get(core, after.busy[core]) for core in among)
    return min(max(used - (after.own - before.own), 0.0) / (len(among) * seconds), 1.0)
