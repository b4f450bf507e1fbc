"""The lease's shell: reads and writes the key, and says when this scheduler begins and ends to lead.

Decisions are :class:`hams_scheduler.leader.lease.Lease`'s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hams_scheduler.leader.lease import RENEW_S, STEP_DOWN_S, Claim, Held, Lease
from hams_shared.bus.protocol import KeyValue
from hams_shared.errors import HamsError, MessageError, RefusedError
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.runtime.process import host_name
from hams_shared.wire import codec
from hams_shared.wire.messages.scheduler import LeaderRecord

log = logging.getLogger("hams.scheduler")

KEY = "scheduler"
IO_S = 1.0
"""Deadline of one look or renewal, s; the answer may come later and is understood then."""


class Leadership:
    """Takes part in the choice of the leader while :meth:`run` runs."""

    def __init__(
        self,
        bucket: KeyValue,
        on_lead: Callable[[int], Awaitable[None]],
        on_follow: Callable[[], Awaitable[None]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.id = uuid.uuid4().hex[:8]
        self._bucket = bucket
        self._clock = clock
        self._on_lead = on_lead
        self._on_follow = on_follow
        self._lease = Lease(self.id)
        self._led = 0
        """The term whose beginning was announced; 0: none."""
        self._since = self._began = 0.0
        """When that was: Unix time for people, monotonic for us."""

    @property
    def term(self) -> int:
        """The term this scheduler leads in; 0 when it does not."""
        return self._led if self._lease.leads(self._clock.now()) else 0

    @property
    def others(self) -> bool:
        """Whether another scheduler leads, as far as this one knows."""
        return self._lease.others

    @property
    def record(self) -> LeaderRecord:
        """As the key says it while this scheduler leads."""
        return self._record(Claim(max(self._lease.term, 1), 0), self.id)

    @property
    def led_s(self) -> float:
        """How long this scheduler has led, s."""
        return self._clock.now() - self._began if self._led else 0.0

    def heard(self, term: int) -> None:
        """A record was written in `term`."""
        self._lease.heard(term)

    async def run(self) -> None:
        """Hold or seek the lease until cancelled."""
        while True:
            try:
                async with asyncio.timeout(IO_S):
                    await self._turn()
            except TimeoutError:
                log.debug("the lease did not answer within %g s", IO_S)
            except HamsError as error:
                log.debug("the lease: %s", error)
            await self._announce()
            await asyncio.sleep(RENEW_S)

    async def _turn(self) -> None:
        for _ in range(2):  # a refused renewal is followed by a look at once
            claim = self._lease.renewal(self._clock.now())
            if claim is None:
                found = await self._look()
                claim = self._lease.saw(found, self._clock.now())
            if claim is None:
                return
            sent = self._clock.now()
            try:
                revision = await self._bucket.update(KEY, codec.encode(self._record(claim, self.id)), claim.revision)
            except RefusedError:
                self._lease.refused()
                continue
            self._lease.wrote(claim, revision, sent)
            return

    async def _look(self) -> Held | None:
        entry = await self._bucket.get(KEY)
        if entry is None or entry.value is None:
            return None
        try:
            record = codec.decode(LeaderRecord, entry.value)
        except MessageError as error:
            log.error("the lease cannot be read and counts as nobody's: %s", error)
            return Held("?", 1, entry.revision)
        return Held(record.holder, record.term, entry.revision)

    def _record(self, claim: Claim, holder: str) -> LeaderRecord:
        since = self._since if claim.term == self._led else time.time()
        return LeaderRecord(holder=holder, host=host_name(), pid=os.getpid(), term=claim.term, since=since)

    async def _announce(self) -> None:
        """Tell of what changed."""
        self._lease.expired(self._clock.now())
        leads = self._lease.leads(self._clock.now())
        if self._led and (not leads or self._lease.term != self._led):
            log.warning("this scheduler leads no more (term %d)", self._led)
            self._led = 0
            await self._on_follow()
        if leads and not self._led:
            try:
                async with asyncio.timeout(STEP_DOWN_S):
                    await self._on_lead(self._lease.term)
            except (HamsError, TimeoutError) as error:
                log.warning("cannot begin to lead yet: %s", str(error) or "no answer in time")
                return
            self._led, self._since, self._began = self._lease.term, time.time(), self._clock.now()
            log.info("this scheduler leads, term %d", self._led)

    async def depose(self) -> None:
        """A later leader was met: follow."""
        self._lease.give_back()
        await self._announce()

    async def give_back(self) -> None:
        """Stop leading, so that another may lead at once."""
        claim = self._lease.give_back()
        if claim is None:
            return
        try:
            async with asyncio.timeout(IO_S):
                while True:  # a renewal may still be under way from before this scheduler was told to stop
                    found = await self._look()
                    if found is None or (found.holder, found.term) != (self.id, claim.term):
                        return
                    with suppress(RefusedError):
                        await self._bucket.update(KEY, codec.encode(self._record(claim, "")), found.revision)
                        break
            log.info("this scheduler gave the lease back")
        except (HamsError, TimeoutError) as error:
            log.info("the lease was not given back: it will run out (%s)", str(error) or "no answer in time")
