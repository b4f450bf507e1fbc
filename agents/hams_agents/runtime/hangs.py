"""Hangs: an inference, a benchmark or a load that does not end, and when a device that hangs is quarantined. Pure.

The limit of an inference is `FACTOR` times what its network was measured to take for as many images, at least `FLOOR_S`
(a starved CPU makes short inferences many times as long); before it was measured, `FIRST_S` (some runtimes compile at
the first inference). A benchmark's single step has `FIRST_S`, a load `LOAD_S`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hams_shared.wire.messages.agents import DeviceHealth

FACTOR = 20.0
FLOOR_S = 5.0
FIRST_S = 30.0
LOAD_S = 300.0
MOST_S = 1.0
"""A tick counts for at most this much: what lies beyond, the process itself was stopped or starved."""
HANGS = 3
"""So many hangs within `WINDOW_S` s and the device is quarantined: it gets no more work."""
WINDOW_S = 900.0


def limit_s(busy_s: float, inferences: int, images: int) -> float:
    """How long `images` may take on a network that took `busy_s` for `inferences` so far, s."""
    return max(FLOOR_S, FACTOR * images * busy_s / inferences) if inferences else FIRST_S


@dataclass(frozen=True)
class Hang:
    """Something does not end."""

    what: str
    limit_s: float

    def __str__(self) -> str:
        return f"{self.what} does not end: more than {self.limit_s:.1f} s"


class Progress:
    """The current job of one thread. That thread enters and leaves `job`; another one ticks."""

    def __init__(self) -> None:
        self._job: Hang | None = None
        self._counted: Hang | None = None
        self._spent = 0.0

    @contextmanager
    def job(self, what: str, limit: float) -> Iterator[None]:
        """What is done inside should end within `limit` s."""
        self._job = Hang(what, limit)  # a new object each time: that is how the other thread sees progress
        try:
            yield
        finally:
            self._job = None

    def tick(self, passed: float) -> Hang | None:
        """`passed` s have passed since the tick before; return what does not end."""
        job = self._job
        if job is not self._counted:
            self._counted, self._spent = job, 0.0
            return None
        self._spent += min(passed, MOST_S)
        return job if job is not None and self._spent >= job.limit_s else None


def after_hang(health: DeviceHealth, what: str, now: float) -> DeviceHealth:
    """The record after one more hang at Unix time `now`, s; a clock that was set back leaves none in the future."""
    hangs = tuple(at for at in (*health.hangs, now) if abs(now - at) <= WINDOW_S)[-HANGS:]
    reason = f"hung {len(hangs)} times within {WINDOW_S / 60:.0f} min; last: {what}" if len(hangs) > 1 else what
    return DeviceHealth(
        device=health.device,
        hangs=hangs,
        quarantined=health.quarantined or len(hangs) >= HANGS,
        reason=reason,
    )
