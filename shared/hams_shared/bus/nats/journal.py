"""Journals of the NATS bus: JetStream streams, read message by message.

There is no consumer on the broker: a reader is only a place, so there is nothing that a restart of either side could
lose, and no message that the broker would send to a subject of the reader's choice (see docs/security.md, Limits).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import nats.js.errors as js_errors
from nats.js.api import DiscardPolicy, Header, RePublish, StorageType, StreamConfig

from hams_shared.bus.journal import check_message
from hams_shared.bus.nats.bucket import Bucket, stream_missing
from hams_shared.bus.nats.connection import NatsConnection
from hams_shared.bus.protocol import Bounds, JournalEntry, Page, Place
from hams_shared.errors import RefusedError

ACK_S = 2.0
"""Deadline of an acknowledgement, s."""
HEADER_ROOM = 1024
"""What headers may add to a message, bytes; the broker counts them."""
_NO_MESSAGE = 10037
_NOT_THERE = (_NO_MESSAGE, 10043, 10057)
"""No such message; of the last, "delete failed", the text says whether it is not permitted."""


class NatsJournal(Bucket):
    """A JetStream stream on disk."""

    def __init__(self, bus: NatsConnection, name: str, subject: str, bounds: Bounds) -> None:
        super().__init__(bus, name)
        self._subject = subject
        self._bounds = bounds

    async def _bind(self) -> Any:
        return await self._js.stream_info(self._bucket)

    async def _create(self) -> Any:
        bounds = self._bounds
        config = StreamConfig(
            name=self._bucket,
            subjects=[self._subject],
            max_bytes=bounds.bytes,
            max_age=bounds.age_s,
            max_msgs_per_subject=bounds.per_subject,
            discard=DiscardPolicy.OLD,
            duplicate_window=bounds.duplicate_s,
            storage=StorageType.FILE,
            num_replicas=self._bus.replicas,
            republish=RePublish(src=_open_ended(self._subject), dest=bounds.heard_on) if bounds.heard_on else None,
            allow_msg_ttl=bounds.ages or None,
            deny_delete=bounds.append_only,
            deny_purge=bounds.append_only,
        )
        return await self._js.add_stream(config)

    async def publish(self, subject: str, data: bytes, id: str, age_s: float | None = None) -> int:
        """Send, store, and return the sequence. See :class:`hams_shared.bus.protocol.Journal`."""
        check_message(subject, data, id, self._bus.max_payload - HEADER_ROOM)
        header = {Header.MSG_ID: id}
        if age_s is not None:
            header[Header.MSG_TTL] = f"{max(1, round(age_s))}s"

        async def store() -> int:
            try:
                ack = await self._js.publish(subject, data, timeout=ACK_S, stream=self._bucket, headers=header)
            except nats.errors.TimeoutError:
                with stream_missing():  # a subscriber takes the message too, so the broker reports no missing stream
                    await self._bind()
                raise
            return int(ack.seq)

        return await self._ask(f"publish on {subject}", store)

    async def page(self, subject: str, place: Place, *, limit: int = 128, limit_bytes: int = 262_144) -> Page:
        """Return stored messages from `place` on. See :class:`hams_shared.bus.protocol.Journal`."""
        return await self._ask("read", lambda: self._page(subject, place, limit, limit_bytes), again=True)

    async def erase(self, sequence: int) -> None:
        """Take a message out. See :class:`hams_shared.bus.protocol.Journal`."""

        async def remove() -> None:
            with stream_missing():
                try:
                    await self._js.delete_msg(self._bucket, sequence)
                except js_errors.APIError as error:
                    if "not permitted" in str(error.description):
                        raise RefusedError(f"journal {self._bucket} is append-only") from None
                    if error.err_code not in _NOT_THERE:
                        raise

        await self._ask(f"erase {sequence}", remove, again=True)

    async def _page(self, subject: str, place: Place, limit: int, limit_bytes: int) -> Page:
        with stream_missing():
            info = await self._js.stream_info(self._bucket)
        journal, last = info.created.isoformat(), int(info.state.last_seq)
        at = place.sequence
        if place.journal not in ("", journal) or at > last:
            at = 0
        elif place.age_s is not None:
            at = await self._before(place.age_s, int(info.state.first_seq), last)
        entries: list[JournalEntry] = []
        size = 0
        while len(entries) < limit and size < limit_bytes:
            found = await self._next(subject, at + 1)
            if found is None:
                # None matched when we asked, which was after `last` was the newest.
                return Page(tuple(entries), Place(max(at, last), journal), more=False)
            at = int(found.seq)
            entries.append(JournalEntry(at, found.subject, found.data or b""))
            size += len(entries[-1].data)
            if at >= last:
                return Page(tuple(entries), Place(at, journal), more=False)
        return Page(tuple(entries), Place(at, journal), more=True)

    async def last(self, subject: str) -> JournalEntry | None:
        """Return the newest stored message. See :class:`hams_shared.bus.protocol.Journal`."""

        async def read() -> JournalEntry | None:
            found = await self._found(lambda: self._js.get_last_msg(self._bucket, subject))
            if found is None:
                return None
            return JournalEntry(
                int(found.seq), found.subject, found.data or b"", (found.headers or {}).get(Header.MSG_ID, "")
            )

        return await self._ask("read", read, again=True)

    async def discard(self, subject: str, before: int) -> None:
        """Discard older messages. See :class:`hams_shared.bus.protocol.Journal`."""

        async def purge() -> None:
            with stream_missing():
                await self._js.purge_stream(self._bucket, subject=subject, seq=before)

        await self._ask("discard", purge, again=True)

    async def _before(self, age_s: float, first: int, last: int) -> int:
        """Return the sequence before the first message of the last `age_s` s, by bisection: times never go back."""
        if age_s <= 0:
            return last
        since, low, high = time.time() - age_s, first, last + 1
        while low < high:
            middle = (low + high) // 2
            found = await self._next(">", middle)
            if found is None or found.time.timestamp() >= since:
                high = middle
            else:
                low = int(found.seq) + 1
        return low - 1

    async def _next(self, subject: str, sequence: int) -> Any:
        """Return nats-py's message at or behind `sequence`, or None."""
        return await self._found(lambda: self._js.get_msg(self._bucket, seq=sequence, subject=subject, next=True))

    @staticmethod
    async def _found(get: Callable[[], Awaitable[Any]]) -> Any:
        with stream_missing():
            try:
                return await get()
            except js_errors.NotFoundError as error:
                if error.err_code == _NO_MESSAGE:
                    return None
                raise


def _open_ended(subject: str) -> str:
    """Return the pattern that takes all that `subject` (with ``*``) takes, as a republished one must be written."""
    return f"{subject.partition('*')[0]}>" if "*" in subject else subject
