"""One reader of the system's state for all viewers. Nothing is read while nobody looks.

It asks scheduler and pipeline once every `PERIOD_S`; each viewer gets the newest state as soon as it takes it, so a
slow one misses states in between and holds up nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator

import msgspec

from hams_services.web.costs import Costs
from hams_services.web.state_view import Reading, kept, state_view
from hams_shared.bus.ask import pipeline_view, scheduler_view
from hams_shared.bus.protocol import Bus
from hams_shared.errors import CredentialsError, HamsError

log = logging.getLogger("hams.web")

PERIOD_S = 1.0
"""Between two readings, s."""
ASK_S = 2.0
"""Deadline of each request, s."""
STALE_S = 5.0
"""Readings older than this are no base for rates, s."""


class Live:
    """Reads while there are viewers, and hands the state to each of them."""

    def __init__(self, bus: Bus, costs: Costs) -> None:
        self._bus, self._costs = bus, costs
        self._viewers = 0
        self._wanted = asyncio.Event()
        self._changed = asyncio.Condition()
        self._version = 0
        self._state: bytes = b""
        self._last: Reading | None = None

    @property
    def viewers(self) -> int:
        """How many look now."""
        return self._viewers

    async def run(self) -> None:
        """Read while somebody looks, until cancelled."""
        while True:
            await self._wanted.wait()
            began = _now()
            await self._publish(await self.read())
            await asyncio.sleep(max(0.1, PERIOD_S - (_now() - began)))

    async def read(self) -> Reading:
        """Ask the parts once; what does not answer is named in the reading."""
        troubles: dict[str, str] = {}
        scheduler = pipeline = None
        try:
            scheduler = await scheduler_view(self._bus, timeout=ASK_S, matrix=False)
        except HamsError as error:
            troubles["scheduler"] = _trouble(error, "scheduler")
        try:
            pipeline = await pipeline_view(self._bus, timeout=ASK_S)
        except HamsError as error:
            troubles["pipeline"] = _trouble(error, "pipeline")
        self._costs.states += 1
        return Reading(time.time(), _now(), scheduler, pipeline, troubles)

    async def viewer(self) -> AsyncGenerator[bytes, None]:
        """Yield the state, JSON, now and whenever it was read again, until closed."""
        self._viewers += 1
        self._wanted.set()
        fresh = self._last is not None and _now() - self._last.at < 2 * PERIOD_S
        seen = -1 if fresh else self._version
        try:
            while True:
                async with self._changed:
                    while self._version <= seen:
                        await self._changed.wait()
                    seen, state = self._version, self._state
                yield state
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._wanted.clear()

    async def _publish(self, reading: Reading) -> None:
        reading = kept(self._last, reading)
        last = self._last if self._last is not None and reading.at - self._last.at <= STALE_S else None
        state = msgspec.json.encode(state_view(last, reading))
        async with self._changed:
            self._last, self._state, self._version = reading, state, self._version + 1
            self._changed.notify_all()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _trouble(error: HamsError, part: str) -> str:
    if isinstance(error, CredentialsError):
        return f"the credentials of hams-web do not allow requests to the {part}: use dashboard.creds"
    return str(error)
