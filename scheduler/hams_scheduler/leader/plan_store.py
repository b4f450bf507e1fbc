"""What the leading scheduler writes to KV: plans, by compare-and-set on their revisions, and measurements.

A new leader first writes every plan again in its own term (:meth:`PlanStore.fence`), which changes all revisions: the
broker refuses a write of an earlier leader, however long it was delayed.

One write per key waits in the :class:`WriteQueue`; a newer one takes its place. So at most as many wait as there are
groups and profiles, however long the broker is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hams_scheduler import events
from hams_scheduler.leader.lease import Lease
from hams_scheduler.leader.write_rules import Next, OvertakenError, after, check_term, is_written
from hams_shared.bus.protocol import Entry, KeyValue
from hams_shared.errors import HamsError, MessageError, RefusedError
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.wire import codec
from hams_shared.wire.messages.plan import PlanRecord

log = logging.getLogger("hams.scheduler")

ATTEMPTS = 5
"""Writes of one record that another's write may overtake, before it counts as refused."""
WRITE_RETRY_S = 0.5
"""Pause before a write is tried again, s."""

Write = events.StorePlan | events.DeletePlan | events.StoreProfile


class PlanStore:
    """The bucket ``plans`` with the revisions this scheduler knows."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._revisions: dict[str, int] = {}
        self._fenced: tuple[int, set[str]] = (0, set())
        """The newest term that began to fence, and the groups whose plans were written in it."""
        self._watched: dict[str, int] = {}
        """The revisions that a watch reported last: only a store that goes back reports an earlier one."""
        self._back: set[str] = set()
        """The groups whose plan in the store is an earlier one than was there before."""

    def noticed(self, entry: Entry, record: PlanRecord | None) -> bool:
        """A watch reported a revision, and its plan; return whether the store went back to it, from a later one."""
        key, watched, known = entry.key, self._watched.get(entry.key, 0), self._revisions.get(entry.key, 0)
        if entry.lost:
            self._watched[key] = self._revisions[key] = 0
            self._back.discard(key)
            return False
        self._compare(entry, record, watched)
        self._watched[key] = entry.revision
        self._revisions[key] = entry.revision if entry.revision < watched else max(entry.revision, known)
        return key in self._back

    def _compare(self, entry: Entry, record: PlanRecord | None, known: int) -> None:
        """Take note whether the store went back from the revision `known`, or another leader wrote."""
        if entry.revision < known:
            self._back.add(entry.key)
        elif entry.revision > known and (record is None or record.term != self._fenced[0]):
            self._back.discard(entry.key)

    @property
    def back(self) -> frozenset[str]:
        """The groups whose plan went back with the store, until one is written."""
        return frozenset(self._back)

    @property
    def written(self) -> frozenset[str]:
        """The groups of which a plan was ever seen in the store."""
        return frozenset(self._revisions)

    async def fence(self, term: int) -> list[PlanRecord]:
        """Write every plan again in `term` and return them: no earlier leader can write any of them from now on.

        Called again in the same term, it goes on where it ended.

        Raises:
            NotLeaderError: a later leader has been here.
            BrokerError: the store is away; try again.
        """
        if self._fenced[0] != term:
            self._fenced = term, set()
        records: list[PlanRecord] = []
        for group in await self._bucket.entries():
            records += await self._fence_one(group, term)
        return records

    async def _fence_one(self, group: str, term: int) -> list[PlanRecord]:
        for _ in range(ATTEMPTS):
            entry = await self._bucket.get(group)
            record = _decoded(entry)
            if entry is None or record is None:
                return []
            check_term(record, term)
            self._compare(entry, record, self._revisions.get(group, 0))
            if record.term == term and group in self._fenced[1]:
                self._revisions[group] = entry.revision
                return [record]
            try:
                self._revisions[group] = await self._bucket.update(group, _in_term(record, term), entry.revision)
            except RefusedError:
                continue
            self._fenced[1].add(group)
            return [record]
        raise RefusedError(f"the plan of {group} changes all the time")

    async def store(self, record: PlanRecord, term: int) -> None:
        """Write a plan.

        Raises:
            NotLeaderError: a later leader has written it.
            OvertakenError: there is a plan that is as new or newer.
            BrokerError: the store is away; try again.
        """
        for _ in range(ATTEMPTS):
            revision = self._revisions.get(record.group, 0)
            try:
                self._revisions[record.group] = await self._bucket.update(
                    record.group, _in_term(record, term), revision
                )
            except RefusedError:
                if not await self._reread(record, term):
                    continue
            self._back.discard(record.group)
            return
        raise RefusedError(f"the plan of {record.group} changes all the time")

    async def _reread(self, record: PlanRecord, term: int) -> bool:
        """Read who wrote; return whether `record` is in the store now."""
        entry = await self._bucket.get(record.group)
        if entry is None or entry.value is None:  # deleted before, or lost
            self._revisions[record.group] = await self._bucket.create(record.group, _in_term(record, term))
            return True
        self._revisions[record.group] = entry.revision
        found = _decoded(entry)
        return found is not None and is_written(found, record, term)

    async def delete(self, group: str, term: int) -> None:
        """Delete a plan. Raises as :meth:`store`."""
        for _ in range(ATTEMPTS):
            entry = await self._bucket.get(group)
            if entry is None or entry.value is None:
                return
            found = _decoded(entry)
            if found is not None:
                check_term(found, term)
            try:
                await self._bucket.delete(group, entry.revision)
            except RefusedError:
                continue
            return


class WriteQueue:
    """Writes decisions one after another, while this scheduler leads."""

    def __init__(
        self,
        plans: PlanStore,
        profiles: KeyValue,
        lease: Lease,
        report: Callable[[events.Event], None],
        step_down: Callable[[], Awaitable[None]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._plans = plans
        self._profiles = profiles
        self._lease = lease
        self._report = report
        self._step_down = step_down
        self._clock = clock
        self._waiting: dict[tuple[str, str], Write] = {}
        self._some = asyncio.Event()

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
        """This scheduler follows: nothing of what waits is written."""
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
        """Try until it is written or refused for good, a newer write waits, or this scheduler leads no more."""
        term = self._lease.led
        while term and term == self._lease.led and key not in self._waiting:
            try:
                if self._lease.writes_in(self._clock.now()):
                    await self._write_one(command, term)
                    return
                log.warning("not written yet: the lease has run out")
            except (HamsError, OvertakenError) as error:
                if await self._failed(command, error):
                    return
            await asyncio.sleep(WRITE_RETRY_S)

    async def _failed(self, command: Write, error: HamsError | OvertakenError) -> bool:
        """Act on a failure; return whether the write is over."""
        following = after(error)
        log.warning("not written: %s; %s", error, following.value)
        if following is Next.TAKE and isinstance(error, OvertakenError):
            self._report(events.PlanSeen(error.found))
        elif following is Next.STEP_DOWN:
            await self._step_down()
        elif following is Next.GIVE_UP and isinstance(error, HamsError) and isinstance(command, events.StorePlan):
            self._report(events.PlanRefused(command.record, error))
        return following is not Next.RETRY

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


def _decoded(entry: Entry | None) -> PlanRecord | None:
    """The plan of an entry; a bad one is logged and counts as absent."""
    if entry is None or entry.value is None:
        return None
    try:
        found = codec.decode(PlanRecord, entry.value)
    except MessageError as error:
        log.error("plan of %s ignored: %s", entry.key, error)
        return None
    if not found.belongs(entry.key):
        log.error("plan of %s ignored: it is of another group", entry.key)
        return None
    return found


def _in_term(record: PlanRecord, term: int) -> bytes:
    return codec.encode(record.model_copy(update={"term": term}))
