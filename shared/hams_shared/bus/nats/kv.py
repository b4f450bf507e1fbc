"""Key-value buckets of the NATS bus, on JetStream.

The watch is built on an ordered consumer, not on nats-py's KeyWatcher: that one, when the broker restarts,
waits ten seconds and then for a sequence number that a re-created bucket reaches much later or never, and it
stops for ever when the bucket is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import nats.errors
import nats.js.errors as js_errors
from nats.js.api import DeliverPolicy, Header, StorageType
from nats.js.kv import KV_DEL, KV_OP

from hams_shared.bus.nats.bucket import Bucket, stop_consumer, stream_missing
from hams_shared.bus.nats.errors import translated
from hams_shared.bus.protocol import Entry
from hams_shared.bus.watch import WatchState
from hams_shared.errors import HamsError, TooLargeError

log = logging.getLogger(__name__)

SNAPSHOT_S = 10.0
"""Deadline for reading a whole bucket."""

CHECK_S = 15.0
"""A watch without news looks this often whether its bucket is still the one it watches."""

MARKER_S = 86_400.0
"""How long the broker keeps the marker of a deleted key, s. Watches see the deletion at once; who reads later misses
the key. A marker that stays for ever would remain from each version of a group that ever ran."""
_TTL_DISABLED = 10166
_CHANGED = (10071, 10164)

HEADER_ROOM = 1024
"""What headers may add to a value. The broker counts them, nats-py does not, and the broker's answer to a
message that is too large is to end the connection."""


class NatsKeyValue(Bucket):
    """A JetStream KV bucket: on disk, history 1."""

    _markers_end = True
    """Whether the bucket takes markers with an end; those of earlier versions, and of older servers, do not."""

    async def _bind(self) -> Any:
        return await self._js.key_value(self._bucket)

    async def _create(self) -> Any:
        # Without `direct`: reads come from the leader, so that a client always reads its own writes.
        return await self._js.create_key_value(
            bucket=self._bucket, history=1, storage=StorageType.FILE, replicas=self._bus.replicas
        )

    def _check(self, key: str, value: bytes) -> None:
        room = self._bus.max_payload - HEADER_ROOM
        if len(value) > room:
            raise TooLargeError(f"bucket {self._bucket}, {key}: {len(value)} bytes; a value has {room} at most")

    async def get(self, key: str) -> Entry | None:
        """Return the newest value, or None when there is none or it was deleted."""

        async def read() -> Entry | None:
            try:
                found = await self._raw.get(key)
            except js_errors.KeyNotFoundError:
                return None
            # nats-py turns an empty value into None.
            return Entry(key, found.value or b"", int(found.revision))

        return await self._ask(f"get {key}", read, again=True)

    async def put(self, key: str, value: bytes) -> int:
        """Store, whatever is there; return the new revision."""
        self._check(key, value)
        return int(await self._ask(f"put {key}", lambda: self._raw.put(key, value)))

    async def create(self, key: str, value: bytes) -> int:
        """Store only if absent (or deleted). Raises RefusedError when present."""
        self._check(key, value)
        return int(await self._ask(f"create {key}", lambda: self._raw.create(key, value)))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Store only if the newest revision is `revision`. Raises RefusedError when it is not."""
        self._check(key, value)
        return int(await self._ask(f"update {key}", lambda: self._raw.update(key, value, last=revision)))

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Delete; no error when absent."""

        async def remove() -> None:
            # A marker for a key that never was would stay in the bucket for ever.
            with suppress(js_errors.KeyNotFoundError):
                found = await self._raw.get(key)
                if revision is not None and found.revision != revision:
                    raise js_errors.KeyWrongLastSequenceError
                await self._mark_deleted(key, found.revision if revision is not None else None)

        await self._ask(f"delete {key}", remove)

    async def _mark_deleted(self, key: str, revision: int | None) -> None:
        """Put a marker in place of the value; nats-py's `delete` gives it no end."""
        headers = {KV_OP: KV_DEL}
        if revision is not None:
            headers[Header.EXPECTED_LAST_SUBJECT_SEQUENCE] = str(revision)
        subject = f"$KV.{self._bucket}.{key}"
        try:
            if self._markers_end:
                try:
                    await self._js.publish(subject, headers=dict(headers), msg_ttl=MARKER_S)
                    return
                except js_errors.APIError as error:
                    if error.err_code != _TTL_DISABLED:
                        raise
                    self._markers_end = False
            await self._js.publish(subject, headers=headers)
        except js_errors.APIError as error:
            if error.err_code in _CHANGED:
                raise js_errors.KeyWrongLastSequenceError(description=error.description) from None
            raise

    async def entries(self) -> dict[str, Entry]:
        """All present keys with their values."""
        state = WatchState()
        with translated(f"bucket {self._bucket}, read all"), self._bus.wakers.event() as wake:
            async with asyncio.timeout(SNAPSHOT_S):
                whole = False
                while not whole:
                    whole = await self._snapshot(state, wake)
        return dict(state.known)

    async def _snapshot(self, state: WatchState, wake: asyncio.Event) -> bool:
        """Read everything once; False when the broker was lost in the middle."""
        generation = self._bus.generation
        consumer = await self._retry("read all", lambda: self._follow(">", state, wake))
        try:
            while not state.complete and generation == self._bus.generation:
                self._bus.check_open()
                await wake.wait()
                wake.clear()
        finally:
            await stop_consumer(consumer)
        return state.complete

    async def watch(self, key: str = ">") -> AsyncGenerator[Entry | None, None]:
        """Yield all present entries, one None, then every change. See :class:`hams_shared.bus.protocol.KeyValue`."""
        state = WatchState()
        with self._bus.wakers.event() as wake:
            while self._bus_is_open():
                generation = self._bus.generation
                try:
                    created = await self._retry("watch", self._created)
                    consumer = await self._retry("watch", lambda: self._follow(key, state, wake))
                except HamsError as error:
                    if not self._bus_is_open():
                        break
                    log.info("watch of %s: %s; trying again", self._bucket, error)
                    await asyncio.sleep(0.2)
                    continue
                try:
                    while generation == self._bus.generation and self._bus_is_open():
                        wake.clear()
                        for news in state.take():
                            yield news
                        if not wake.is_set() and not await self._news_or_alive(wake, state, created):
                            log.info("watch of %s: the bucket is another one now, reading it again", self._bucket)
                            break
                finally:
                    await stop_consumer(consumer)

    def _bus_is_open(self) -> bool:
        """Whether to go on. Closed by our side, a watch ends; by the broker, for good, the reader must
        know."""
        if not self._bus.closing:
            self._bus.check_open()
        return not self._bus.closing

    async def _follow(self, key: str, state: WatchState, wake: asyncio.Event) -> Any:
        """Start an ordered consumer that feeds `state` and sets `wake`; return its subscription."""
        prefix = f"$KV.{self._bucket}."

        async def feed(msg: Any) -> None:
            meta = msg.metadata
            headers = msg.headers or {}
            gone = headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers
            state.add(Entry(msg.subject[len(prefix) :], None if gone else msg.data, int(meta.sequence.stream)))
            if meta.num_pending == 0:
                state.end()
            wake.set()

        state.begin()
        with stream_missing():
            consumer = await self._js.subscribe(
                prefix + key,
                stream=f"KV_{self._bucket}",
                cb=feed,
                ordered_consumer=True,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                # The broker keeps a forgotten consumer for this long, s.
                inactive_threshold=10,
            )
        try:
            info = await consumer.consumer_info()
        except BaseException:
            await stop_consumer(consumer)
            raise
        if not info.num_pending and not (info.delivered and info.delivered.consumer_seq):
            # Nothing matches, so no message will carry the end of the snapshot.
            state.end()
            wake.set()
        return consumer

    async def _created(self) -> object:
        """When the bucket was created: another time means another bucket."""
        with stream_missing():
            return (await self._js.stream_info(f"KV_{self._bucket}")).created

    async def _news_or_alive(self, wake: asyncio.Event, state: WatchState, created: object) -> bool:
        """Wait for news; False when there are none and the bucket is gone, re-created, or the snapshot is
        stuck."""
        try:
            async with asyncio.timeout(CHECK_S):
                await wake.wait()
        except TimeoutError:
            pass
        else:
            return True
        if not self._bus.connected:
            return True
        try:
            return state.complete and await self._created() == created
        except (nats.errors.Error, OSError, HamsError):
            return False
