"""The lease's shell: reads and writes the key, and reports when this scheduler begins and ends to lead.

Decisions are :class:`hams_scheduler.leader.lease.Lease`'s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hams_scheduler.leader.lease import RENEW_S, Claim, Held, Lease
from hams_shared.bus.protocol import KeyValue
from hams_shared.errors import HamsError, MessageError, RefusedError
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.runtime.process import host_name
from hams_shared.wire import codec
from hams_shared.wire.messages.scheduler import LeaderRecord

log = logging.getLogger("hams.scheduler")

KEY = "scheduler"
BEGIN_S = 30.0
"""Deadline of beginning to lead, s. The next attempt goes on where this one ended, if the lease is still held."""
IO_S = 1.0
"""Deadline of one look or renewal, s; the answer may come later and is understood then."""


class Leadership:
    """Takes part in the choice of the leader while :meth:`run` runs."""

    def __init__(
        self,
        bucket: KeyValue,
        lease: Lease,
        on_lead: Callable[[int], Awaitable[None]],
        on_follow: Callable[[], Awaitable[None]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.began = float("-inf")
        """When this scheduler began to lead, on `clock`."""
        self._bucket = bucket
        self._clock = clock
        self._on_lead = on_lead
        self._on_follow = on_follow
        self._lease = lease
        self.record = LeaderRecord(holder=lease.me, host=host_name(), pid=os.getpid(), term=1, since=0.0)
        """The record of the key while this scheduler leads; `since` is Unix time."""

    async def run(self) -> None:
        """Hold or seek the lease until cancelled."""
        while True:
            await self._turn_in_time()
            await self._announce()
            await asyncio.sleep(RENEW_S)

    async def _turn_in_time(self, term: int = 0) -> None:
        try:
            async with asyncio.timeout(IO_S):
                await self._turn(term)
        except TimeoutError:
            log.debug("the lease did not answer within %g s", IO_S)
        except HamsError as error:
            log.debug("the lease: %s", error)

    async def _turn(self, term: int) -> None:
        """Renew the lease, or look whether to take it; with `term`, only hold it in that."""
        for _ in range(2):  # a refused renewal is followed by a look at once
            claim = self._lease.renewal(self._clock.now())
            if claim is None:
                found = await self._read()
                claim = self._lease.saw(found, self._clock.now())
            if claim is None or (term and claim.term != term):
                return
            sent = self._clock.now()
            try:
                revision = await self._bucket.update(
                    KEY, codec.encode(self._record(claim, self._lease.me)), claim.revision
                )
            except RefusedError:
                self._lease.refused()
                continue
            self._lease.wrote(claim, revision, sent)
            return

    async def _read(self) -> Held | None:
        entry = await self._bucket.get(KEY)
        if entry is None or entry.value is None:
            return None
        try:
            record = codec.decode(LeaderRecord, entry.value)
        except MessageError as error:
            log.error("the lease cannot be decoded and counts as free: %s", error)
            return Held("?", 1, entry.revision)
        return Held(record.holder, record.term, entry.revision)

    def _record(self, claim: Claim, holder: str) -> LeaderRecord:
        since = self.record.since if claim.term == self._lease.led else time.time()
        return self.record.model_copy(update={"holder": holder, "term": claim.term, "since": since})

    async def _announce(self) -> None:
        """Report what changed."""
        while change := self._lease.change(self._clock.now()):
            if change == "end":
                log.warning("this scheduler leads no more (term %d)", self.record.term)
                await self._on_follow()
            elif not await self._begin():
                return

    async def _begin(self) -> bool:
        """Have the scheduler begin to lead, and hold the lease meanwhile; return whether it does."""
        term = self._lease.term
        try:
            async with asyncio.timeout(BEGIN_S):
                await self._while_held(term, self._on_lead(term))
        except (HamsError, TimeoutError) as error:
            log.warning("cannot begin to lead yet: %s", str(error) or "no answer in time")
            return False
        self.record = self.record.model_copy(update={"term": term, "since": time.time()})
        self.began = self._clock.now()
        log.info("this scheduler leads, term %d", term)
        return True

    async def _while_held(self, term: int, job: Awaitable[None]) -> None:
        """Do `job`, and renew the lease as long as it takes.

        Raises:
            TimeoutError: the lease was lost before.
        """
        task = asyncio.ensure_future(job)
        try:
            while not (await asyncio.wait({task}, timeout=RENEW_S))[0]:
                await self._turn_in_time(term)
                if self._lease.term != term or not self._lease.leads(self._clock.now()):
                    raise TimeoutError("the lease was lost")
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})  # it must not begin to lead later

    async def step_down(self) -> None:
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
                while True:  # a renewal sent before the stop may still be under way
                    found = await self._read()
                    if found is None or (found.holder, found.term) != (self._lease.me, claim.term):
                        return
                    with suppress(RefusedError):
                        await self._bucket.update(KEY, codec.encode(self._record(claim, "")), found.revision)
                        break
            log.info("this scheduler gave the lease back")
        except (HamsError, TimeoutError) as error:
            log.info("the lease was not given back: it will run out (%s)", str(error) or "no answer in time")
