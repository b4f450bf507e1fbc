"""Object stores of the NATS bus, on JetStream: model files under their digest."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import nats.errors
import nats.js.errors as js_errors
from nats.js.api import DeliverPolicy, StorageType

from hams_shared.bus.nats.bucket import Bucket, stop_consumer, stream_missing
from hams_shared.errors import DeadlineError, DigestError, NotFoundError

STALL_S = 15.0
"""Deadline between two chunks of an object, or two names of a list; nats-py re-creates a lost consumer within 10 s."""


class _Source:
    """A file-like view of bytes that reports what has been read from it; nats-py reads it in a thread."""

    def __init__(self, data: bytes, progress: Callable[[int], None] | None) -> None:
        self._view = memoryview(data)
        self._at = 0
        self._progress = progress
        self._loop = asyncio.get_running_loop()

    def readinto(self, buffer: bytearray) -> int:
        """Fill `buffer` as far as there is data."""
        part = self._view[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        if self._progress is not None and part:
            self._loop.call_soon_threadsafe(self._progress, self._at)
        return len(part)


class NatsObjectStore(Bucket):
    """A JetStream object store on disk. `progress` is called with the bytes done so far."""

    async def _bind(self) -> Any:
        # nats-py's object_store() does not look whether there is one.
        await self._js.stream_info(f"OBJ_{self._bucket}")
        return await self._js.object_store(self._bucket)

    async def _create(self) -> Any:
        return await self._js.create_object_store(
            bucket=self._bucket, storage=StorageType.FILE, replicas=self._bus.replicas
        )

    async def _info(self, name: str) -> Any:
        """Return nats-py's ObjectInfo of `name`, or None when it is not stored."""
        try:
            return await self._raw.get_info(name)
        except js_errors.NotFoundError:
            return None

    async def put(self, name: str, data: bytes, progress: Callable[[int], None] | None = None) -> None:
        """Store `data` under `name`; nothing is sent when it is there already with the same size and
        digest."""
        digest = await asyncio.to_thread(_digest, data)

        async def store() -> None:
            found = await self._info(name)
            if found is None or found.size != len(data) or found.digest != digest:
                # Not restarted chunk by chunk: a put that fails is taken back by nats-py and starts over
                # here.
                with stream_missing():
                    await self._raw.put(name, _Source(data, progress))
            elif progress is not None:
                progress(len(data))

        await self._retry(f"store {name}", store)

    async def get(self, name: str, progress: Callable[[int], None] | None = None) -> bytes | bytearray:
        """Return the object.

        Raises:
            NotFoundError: not stored.
            DeadlineError: no further chunk within STALL_S.
            DigestError: the bytes received are not the ones stored.
        """
        return await self._retry(f"get {name}", lambda: self._read(name, progress))

    async def _read(self, name: str, progress: Callable[[int], None] | None) -> bytes | bytearray:
        # nats-py's own get waits without a deadline when chunks are missing, and copies all bytes with every
        # chunk.
        info = await self._info(name)
        if info is None:
            raise NotFoundError(f"bucket {self._bucket}: {name} is not stored")
        if not info.size:
            return b""
        data = bytearray()
        with stream_missing():
            consumer = await self._js.subscribe(
                f"$O.{self._bucket}.C.{info.nuid}",
                stream=f"OBJ_{self._bucket}",
                ordered_consumer=True,
                inactive_threshold=30,
            )
        try:
            while len(data) < info.size:
                data += (await consumer.next_msg(timeout=STALL_S)).data
                await asyncio.sleep(0)  # chunks that are there already are taken without a wait: heartbeats must go on
                if progress is not None:
                    progress(len(data))
        except nats.errors.TimeoutError:
            raise DeadlineError(f"{name}: only {len(data)} of {info.size} bytes came from the broker") from None
        finally:
            await stop_consumer(consumer)
        if await asyncio.to_thread(_digest, data) != info.digest:
            raise DigestError(f"bucket {self._bucket}: {name} is damaged on the broker", "delete it and deploy again")
        return data  # not copied into bytes: for each GB that would stop the event loop for a second

    async def exists(self, name: str) -> bool:
        """Whether `name` is stored."""
        return await self._retry(f"look for {name}", lambda: self._info(name)) is not None

    async def sizes(self) -> dict[str, int]:
        """Bytes of all objects, by name."""
        return await self._retry("list", self._listed)

    async def _listed(self) -> dict[str, int]:
        # nats-py's own list asks for the stream's name, which only an admin may, and waits without a deadline.
        found: dict[str, int] = {}
        with stream_missing():
            consumer = await self._js.subscribe(
                f"$O.{self._bucket}.M.>",
                stream=f"OBJ_{self._bucket}",
                ordered_consumer=True,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                inactive_threshold=30,
            )
        try:
            info = await consumer.consumer_info()
            left = info.num_pending + (info.delivered.consumer_seq if info.delivered else 0)
            while left:
                message = await consumer.next_msg(timeout=STALL_S)
                one = json.loads(message.data)
                if not one.get("deleted"):
                    found[str(one["name"])] = int(one.get("size") or 0)
                left = message.metadata.num_pending
        except nats.errors.TimeoutError:
            raise DeadlineError(f"bucket {self._bucket}: the broker listed only {len(found)} objects") from None
        finally:
            await stop_consumer(consumer)
        return found

    async def delete(self, name: str) -> None:
        """Delete; no error when absent."""

        async def remove() -> None:
            with suppress(js_errors.NotFoundError):
                await self._raw.delete(name)

        await self._retry(f"delete {name}", remove)


def _digest(data: bytes | bytearray) -> str:
    """Digest in the object store's own notation."""
    return "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
