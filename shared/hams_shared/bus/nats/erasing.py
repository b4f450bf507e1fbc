"""Key-value buckets for what must be gone once it is deleted: personal data.

nats-server keeps the bytes of a value that was replaced, deleted or purged in its block files, until it happens to
compact them; a KV bucket of nats-py even forbids to do better (``deny_delete``). A bucket of here is made without that,
and with room for older values of a key; after each change these are taken out by ``STREAM.MSG.DELETE``,
which overwrites their bytes. What a crash leaves in between, the next change of that key takes out.
"""

from __future__ import annotations

import logging
from typing import Any

import nats.errors
import nats.js.errors as js_errors
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from hams_shared.bus.nats.connection import NatsConnection
from hams_shared.bus.nats.errors import AWAY
from hams_shared.bus.nats.kv import NatsKeyValue
from hams_shared.errors import HamsError

log = logging.getLogger(__name__)

ROOM = 8
"""Older values of a key that the broker keeps until they are erased: it discards more without overwriting them."""


class ErasingKeyValue(NatsKeyValue):
    """A bucket whose older values are overwritten on the broker's disk."""

    def __init__(self, bus: NatsConnection, bucket: str) -> None:
        super().__init__(bus, bucket)
        self._stream = f"KV_{bucket}"
        self._refused = False

    async def _create(self) -> Any:
        config = StreamConfig(
            name=self._stream,
            subjects=[f"$KV.{self._bucket}.>"],
            max_msgs_per_subject=ROOM,
            allow_rollup_hdrs=True,
            deny_delete=False,
            discard=DiscardPolicy.NEW,
            duplicate_window=120.0,
            storage=StorageType.FILE,
            num_replicas=self._bus.replicas,
        )
        await self._js.add_stream(config)
        return await self._bind()

    async def put(self, key: str, value: bytes) -> int:
        """As :meth:`NatsKeyValue.put`."""
        return await self._erased(key, await super().put(key, value))

    async def create(self, key: str, value: bytes) -> int:
        """As :meth:`NatsKeyValue.create`."""
        return await self._erased(key, await super().create(key, value))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """As :meth:`NatsKeyValue.update`."""
        return await self._erased(key, await super().update(key, value, revision))

    async def delete(self, key: str, revision: int | None = None) -> None:
        """As :meth:`NatsKeyValue.delete`."""
        await super().delete(key, revision)
        await self._erased(key, None)

    async def _erased(self, key: str, newest: int | None) -> int:
        """Erase what is older than the revision `newest`, or than the newest one there; return `newest`."""
        if not self._refused:
            try:
                with self._bus.allowed(f"bucket {self._bucket}, erase"):
                    await self._erase(f"$KV.{self._bucket}.{key}", newest)
            except AWAY:
                pass  # the next change of the key does it
            except (HamsError, js_errors.Error, nats.errors.Error) as error:
                self._refused = True
                text = "bucket %s: what is deleted stays on the broker's disk: %s (see docs/privacy.md, older sites)"
                log.warning(text, self._bucket, error)
        return newest or 0

    async def _erase(self, subject: str, newest: int | None) -> None:
        sequence = 1
        while True:
            try:
                found = await self._js.get_msg(self._stream, seq=sequence, subject=subject, next=True)
                if newest is None:
                    newest = int((await self._js.get_msg(self._stream, subject=subject)).seq)
            except js_errors.NotFoundError:
                return
            if found.seq >= newest:
                return
            await self._js.delete_msg(self._stream, found.seq)
            sequence = found.seq + 1


async def erases(bus: NatsConnection, bucket: str) -> bool:
    """Whether a bucket is one whose values are erased; an earlier version of HAMS made others."""
    with bus.allowed(f"bucket {bucket}, look at"):
        try:
            info = await bus.jetstream.stream_info(f"KV_{bucket}")
        except js_errors.NotFoundError:
            return True
    return not info.config.deny_delete


async def rewrite(bus: NatsConnection, bucket: str) -> int:
    """Delete a bucket with all bytes that it ever held, and write its present values again; return how many.

    A value that a part writes meanwhile counts. Only the admin may. Raises BrokerError, DeadlineError.
    """
    with bus.allowed(f"bucket {bucket}, rewrite"):
        values = await (await ErasingKeyValue(bus, bucket).open()).entries()
        await bus.jetstream.delete_stream(f"KV_{bucket}")
        fresh = await ErasingKeyValue(bus, bucket).open()
        for key, entry in values.items():
            try:
                await fresh.create(key, entry.value or b"")
            except HamsError as error:
                log.info("bucket %s: %s is newer: %s", bucket, key, error)
    return len(values)
