"""What an independent subscriber receives, and what scheduler and pipeline answer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import aclosing

from benchmarks.chaos.checks import Account, Seen
from hams_client import Hams
from hams_shared.bus.ask import pipeline_view, scheduler_view
from hams_shared.errors import HamsError
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.scheduler import SchedulerView

KEPT_S = 120.0
ANSWER_S = 1.0


class Observer:
    """Results of one group as they come; its link to the broker is not disturbed."""

    def __init__(self, hams: Hams, group: str, lossless: frozenset[str]) -> None:
        self.hams = hams
        self.seen: deque[Seen] = deque()
        """Of the last KEPT_S s."""
        self.fresh: list[Seen] = []
        """Those that no check has taken yet."""
        self.latencies: list[float] = []
        """Since someone emptied it, ms."""
        self._group = group
        self._lossless = lossless

    async def collect(self) -> None:
        """Take the results that the broker keeps until cancelled."""
        async with aclosing(self.hams.kept_results(self._group)) as feed:
            async for result in feed:
                [node] = result.nodes.values()
                now = time.monotonic()
                one = Seen(now, result.stream, result.frame, int(result.data["epoch"]), str(node.get("device", "")))
                self.seen.append(one)
                self.fresh.append(one)
                self.latencies.append(result.latency_ms)
                while self.seen[0].at < now - KEPT_S:
                    self.seen.popleft()

    def times(self, stream: str) -> list[float]:
        """When results of a stream came, s, ascending."""
        return [one.at for one in self.seen if one.stream == stream]

    @property
    def device(self) -> str:
        """Which device gave the newest result."""
        return self.seen[-1].device if self.seen else ""

    def take(self) -> list[Seen]:
        """Return the results since the last call."""
        fresh, self.fresh = self.fresh, []
        return fresh

    async def view(self) -> SchedulerView | None:
        """Return the scheduler's view; None when none answers."""
        try:
            return await scheduler_view(self.hams.bus, timeout=ANSWER_S, matrix=False)
        except HamsError:
            return None

    async def streams(self) -> tuple[StreamView, ...]:
        """Return the streams of the group; none when no pipeline answers."""
        try:
            return tuple(
                s for s in (await pipeline_view(self.hams.bus, timeout=ANSWER_S)).streams if s.group == self._group
            )
        except HamsError:
            return ()

    async def accounts(self) -> list[Account]:
        """Return the ledgers."""
        return [
            Account(
                one.stream,
                one.submitted,
                one.delivered + one.gated + sum(one.dropped.values()) + sum(one.failed.values()),
                one.in_flight,
                sum(one.dropped.values()) + sum(one.failed.values()),
                one.stream in self._lossless,
            )
            for one in await self.streams()
        ]

    async def until_whole(self, devices: int, groups: int, timeout: float) -> bool:
        """Wait until so many devices are alive, and so many groups serve; return whether that came."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            view = await self.view()
            if (
                view is not None
                and view.leader is not None
                and sum(one.state == "alive" for one in view.devices) == devices
                and sum(one.state == "serving" for one in view.groups) == len(view.groups) == groups
                and (not groups or await self.streams())
            ):
                return True
            await asyncio.sleep(0.1)
        return False
