"""What a subscriber and a person who asks would see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hams_client import Hams, Result
from hams_shared.bus.ask import scheduler_view
from hams_shared.errors import HamsError
from hams_shared.wire.messages.scheduler import SchedulerView

PATIENCE_S = 60.0


class Watcher:
    """All results as they come, and what scheduler and pipeline say."""

    def __init__(self, hams: Hams) -> None:
        self.hams = hams
        self.results: list[tuple[float, Result]] = []

    async def collect(self) -> None:
        async with self.hams.results("grey", limit=100_000) as feed:
            async for result in feed:
                self.results.append((time.monotonic(), result))

    @property
    def device(self) -> str:
        """Which device gave the newest result."""
        return str(self.results[-1][1].nodes["light"]["device"])

    async def until(self, condition: Callable[[], bool], what: str) -> float:
        """Wait; return when it was so."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise SystemExit(f"not within {PATIENCE_S:g} s: {what}")
            await asyncio.sleep(0.005)
        return time.monotonic()

    async def view(self) -> SchedulerView | None:
        try:
            return await scheduler_view(self.hams.bus, timeout=0.5)
        except HamsError:
            return None

    async def until_view(self, condition: Callable[[SchedulerView], bool], what: str) -> float:
        end = time.monotonic() + PATIENCE_S
        while (view := await self.view()) is None or not condition(view):
            if time.monotonic() > end:
                raise SystemExit(f"not within {PATIENCE_S:g} s: {what}")
            await asyncio.sleep(0.02)
        return time.monotonic()

    async def result_after(self, when: float) -> float:
        """Wait for a result that came after `when`; return when it came."""
        await self.until(lambda: self.results[-1][0] > when, "results")
        return next(at for at, _ in self.results if at > when)

    async def steady(self, count: int = 20) -> None:
        goal = len(self.results) + count
        await self.until(lambda: len(self.results) >= goal, "results")


def states(view: SchedulerView) -> dict[str, str]:
    return {d.record.unit: d.state for d in view.devices}


def serving(view: SchedulerView) -> bool:
    return all(g.state == "serving" for g in view.groups)
