"""How long the steps of a piece of work take; of a traced frame also when each began."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hams_shared.wire.frames import Steps

Lap = tuple[str, float, float]
"""A step, and when it began and ended, s (perf_counter)."""


class StepClock:
    """Splits the time spent into named laps, ms, and the CPU time of this thread, s; of a traced frame, `laps` too."""

    def __init__(self, timing: dict[str, float], cpu_s: dict[str, float], laps: list[Lap] | None) -> None:
        self._timing = timing
        self._cpu_s = cpu_s
        self._laps = laps
        self._last, self._last_cpu = time.perf_counter(), time.thread_time()

    def lap(self, name: str) -> None:
        """The step `name` ends here."""
        now, cpu = time.perf_counter(), time.thread_time()
        self._timing[name] = round(self._timing.get(name, 0.0) + (now - self._last) * 1e3, 3)
        self._cpu_s[name] = self._cpu_s.get(name, 0.0) + cpu - self._last_cpu
        if self._laps is not None:
            self._laps.append((name, self._last, now))
        self._last, self._last_cpu = now, cpu


def steps(traceparent: str, since: float, started: float, laps: Sequence[Lap]) -> Steps:
    """Return when a piece of work did what that came at `since`, and of which the first step began at `started`."""
    found = [
        (name, round((begin - since) * 1e3, 3), round((end - since) * 1e3, 3))
        for name, begin, end in (("queue", since, started), *laps)
    ]
    return Steps(traceparent, time.time() - (time.perf_counter() - since), found)
