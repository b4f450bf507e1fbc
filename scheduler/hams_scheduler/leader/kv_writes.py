"""What was decided and is to be written to KV: one write per key waits, a newer one takes its place.

So at most as many wait as there are groups and profiles, however long the broker is away. A write that the broker will
never take (a value too large) is given up and told to the core; the next one follows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hams_scheduler import events
from hams_scheduler.leader.leadership import Leadership
from hams_scheduler.leader.plan_store import OvertakenError, PlanStore
from hams_shared.bus.protocol import KeyValue
from hams_shared.errors import BadInputError, HamsError, NotLeaderError
from hams_shared.wire import codec

log = logging.getLogger("hams.scheduler")

WRITE_RETRY_S = 0.5
"""Pause before a write is tried again, s."""

Write = events.StorePlan | events.DeletePlan | events.StoreProfile


class Writes:
    """Writes decisions one after another, while this scheduler leads."""

    def __init__(
        self,
        plans: PlanStore,
        profiles: KeyValue,
        leadership: Leadership,
        tell: Callable[[events.Event], None],
        leads: Callable[[], bool],
    ) -> None:
        self._plans = plans
        self._profiles = profiles
        self._leadership = leadership
        self._tell = tell
        self._leads = leads
        self._waiting: dict[tuple[str, str], Write] = {}
        self._some = asyncio.Event()
        self._reign = 0
        """Counts the times this scheduler ceased to lead."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, command: Write) -> None:
        """Have `command` written after all that waits; it takes the place of an older one for the same key."""
        key = _key(command)
        self._waiting.pop(key, None)
        self._waiting[key] = command
        self._some.set()

    def drop(self) -> None:
        """This scheduler leads no more: nothing of what waits is written."""
        self._reign += 1
        self._waiting.clear()

    async def run(self) -> None:
        """Write until cancelled; while the broker is away all waits."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting:
                key = next(iter(self._waiting))
                await self._write(key, self._waiting.pop(key))

    async def _write(self, key: tuple[str, str], command: Write) -> None:
        """Try until it is written, refused for good, replaced by a newer write, or decided by nobody who leads."""
        reign = self._reign
        while self._leads() and reign == self._reign and key not in self._waiting:
            term = self._leadership.term
            try:
                if not term:
                    raise NotLeaderError("the lease has run out")
                await self._write_one(command, term)
                return
            except OvertakenError as error:
                log.warning("%s", error)
                self._tell(events.PlanSeen(error.found))
                return
            except NotLeaderError as error:
                log.warning("not written: %s", error)
                if term:
                    await self._leadership.depose()
                return
            except BadInputError as error:  # the broker will never take it
                log.error("given up: %s", error)
                if isinstance(command, events.StorePlan):
                    self._tell(events.PlanRefused(command.record, error))
                return
            except HamsError as error:
                log.warning("cannot write: %s", error)
                await asyncio.sleep(WRITE_RETRY_S)

    async def _write_one(self, command: Write, term: int) -> None:
        match command:
            case events.StorePlan(record):
                await self._plans.store(record, term)
            case events.DeletePlan(group):
                await self._plans.delete(group, term)
            case events.StoreProfile(record):
                await self._profiles.put(record.key, codec.encode(record))


def _key(command: Write) -> tuple[str, str]:
    match command:
        case events.StorePlan(record):
            return "plan", record.group
        case events.DeletePlan(group):
            return "plan", group
        case events.StoreProfile(record):
            return "profile", record.key
