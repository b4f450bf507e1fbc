"""The leading scheduler deletes model files that nothing has needed for an hour, so that the store stays bounded."""

from __future__ import annotations

import asyncio
import logging

from hams_scheduler.leader.lease import Lease
from hams_shared.bus.model_prune import prune, stored
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.wire.model_garbage import Unused

log = logging.getLogger("hams.scheduler")

LOOK_S = 600.0
"""How often the store is looked at, s."""


class ModelKeeper:
    """Looks at the store while this scheduler leads."""

    def __init__(self, bus: Bus, lease: Lease, clock: Clock = SYSTEM_CLOCK) -> None:
        self._bus = bus
        self._lease = lease
        self._clock = clock
        self._unused = Unused()

    async def run(self) -> None:
        """Look now and then until cancelled; what cannot be read or deleted now is looked at next time."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._lease.writes_in(self._clock.now()):
                try:
                    await self._look()
                except HamsError as error:
                    log.info("model files without use were not looked for: %s", error)
            else:
                self._unused = Unused()

    async def _look(self) -> None:
        found = await stored(self._bus)
        garbage = self._unused.garbage(found.sizes, found.referenced, self._clock.now())
        gone = await prune(self._bus, garbage)
        if gone:
            size = sum(found.sizes[name] for name in gone) / 2**20
            log.info("deleted %d model files that nothing has used for an hour (%.1f MiB)", len(gone), size)
