"""Plans in KV, written by the leading scheduler alone: every write is a compare-and-set on the plan's revision.

A new leader first writes every plan again in its own term (:meth:`PlanStore.fence`), which changes all revisions: a
write of an earlier leader, that was decided and then delayed however long, is refused by the broker.
"""

from __future__ import annotations

import logging

from hams_shared.bus.protocol import Entry, KeyValue
from hams_shared.errors import MessageError, NotLeaderError, RefusedError
from hams_shared.wire import codec
from hams_shared.wire.messages.plan import PlanRecord

log = logging.getLogger("hams.scheduler")

ATTEMPTS = 5
"""Writes of one record that may meet another's, before it counts as refused."""


class OvertakenError(Exception):
    """A newer plan is there already; it is to be taken for what it is. Never leaves the scheduler."""

    def __init__(self, found: PlanRecord) -> None:
        super().__init__(f"group {found.group} has a newer plan already: epoch {found.newest}")
        self.found = found


class PlanStore:
    """The bucket ``plans`` with the revisions this scheduler knows."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._revisions: dict[str, int] = {}

    def noticed(self, entry: Entry) -> None:
        """A watch told of a revision."""
        self._revisions[entry.key] = 0 if entry.lost else max(entry.revision, self._revisions.get(entry.key, 0))

    def had(self, group: str) -> bool:
        """Whether a plan of `group` was ever seen in the store."""
        return group in self._revisions

    async def fence(self, term: int) -> list[PlanRecord]:
        """Write every plan again in `term` and return them: no earlier leader can write any of them from now on.

        Raises:
            NotLeaderError: a later leader has been here.
            BrokerError: the store is away; try again.
        """
        records: list[PlanRecord] = []
        for group in await self._bucket.entries():
            records += await self._fence_one(group, term)
        return records

    async def _fence_one(self, group: str, term: int) -> list[PlanRecord]:
        for _ in range(ATTEMPTS):
            entry = await self._bucket.get(group)
            if entry is None or entry.value is None:
                return []
            record = _decoded(entry)
            if record is None:
                return []
            if record.term > term:
                raise NotLeaderError(f"a scheduler of term {record.term} leads")
            try:
                self._revisions[group] = await self._bucket.update(group, _in_term(record, term), entry.revision)
            except RefusedError:
                continue
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
            try:
                self._revisions[record.group] = await self._bucket.update(
                    record.group, _in_term(record, term), self._revisions.get(record.group, 0)
                )
                return
            except RefusedError:
                if await self._reread(record, term):
                    return
        raise RefusedError(f"the plan of {record.group} changes all the time")

    async def _reread(self, record: PlanRecord, term: int) -> bool:
        """Look who wrote; return whether what is there is what we want."""
        entry = await self._bucket.get(record.group)
        if entry is None or entry.value is None:  # deleted before, or lost
            self._revisions[record.group] = await self._bucket.create(record.group, _in_term(record, term))
            return True
        self._revisions[record.group] = entry.revision
        found = _decoded(entry)
        if found is None:
            return False
        if found.term > term:
            raise NotLeaderError(f"a scheduler of term {found.term} leads")
        plain = found.model_copy(update={"term": record.term})
        if plain == record and found.term == term:
            return True  # our own write, whose answer was lost
        if found.term < term and plain != record and found.newest >= record.newest:
            raise OvertakenError(plain)
        return False

    async def delete(self, group: str, term: int) -> None:
        """Delete a plan. Raises as :meth:`store`."""
        for _ in range(ATTEMPTS):
            entry = await self._bucket.get(group)
            if entry is None or entry.value is None:
                return
            found = _decoded(entry)
            if found is not None and found.term > term:
                raise NotLeaderError("another scheduler leads")
            try:
                await self._bucket.delete(group, entry.revision)
            except RefusedError:
                continue
            return


def _decoded(entry: Entry) -> PlanRecord | None:
    """A bad record is logged and counts as nothing."""
    try:
        return codec.decode(PlanRecord, entry.value or b"")
    except MessageError as error:
        log.error("plan of %s ignored: %s", entry.key, error)
        return None


def _in_term(record: PlanRecord, term: int) -> bytes:
    return codec.encode(record.model_copy(update={"term": term}))
