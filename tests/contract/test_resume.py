"""A quarantine is ended while the agent records one more fault."""

from __future__ import annotations

from typing import Any, cast

from hams_shared.bus.control import Control
from hams_shared.bus.protocol import Entry, KeyValue
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth


class Overtaken:
    """A bucket in which another client puts `newer` right after the first look."""

    def __init__(self, bucket: KeyValue, newer: bytes) -> None:
        self._bucket, self._newer = bucket, newer

    async def get(self, key: str) -> Entry | None:
        found = await self._bucket.get(key)
        if self._newer:
            await self._bucket.put(key, self._newer)
            self._newer = b""
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)


async def test_a_fault_recorded_meanwhile_is_told_and_not_lost_unread(connect: Any, name: str) -> None:
    device = f"box.openvino.{name}"
    async with connect() as bus:
        health = await bus.kv(subjects.bucket("health"))
        await health.put(device, codec.encode(DeviceHealth(device=device, reason="old")))
        overtaken = Overtaken(health, codec.encode(DeviceHealth(device=device, reason="new")))

        async def kv(bucket: str, *, erase: bool = False) -> KeyValue:
            return cast(KeyValue, overtaken)

        control = Control(bus)
        control.bus.kv = kv  # type: ignore[method-assign]
        assert await control.resume(device) == "new"
        assert await health.get(device) is None
