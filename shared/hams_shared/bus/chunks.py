"""Messages larger than the broker takes: cut into parts, put together again on arrival.

A part begins with a byte that msgpack never uses, so parts and whole messages share a subject:

    0xC1 "HAMS" | id (16 bytes) | index u32 | count u32 | bytes

Parts of one message arrive in order (one publisher, one subject). What is under way is bounded in number, size and
age; the oldest gives way, as if it had been lost.
"""

from __future__ import annotations

import secrets
import struct
from collections import OrderedDict
from dataclasses import dataclass, field

from hams_shared.bus.protocol import Bus, Message
from hams_shared.errors import MessageError

MAGIC = b"\xc1HAMS"
_HEADER = struct.Struct("<5s16sII")
HEADROOM = 1024
"""Kept free below the broker's limit, bytes."""
MAX_BYTES = 1 << 28
"""Largest message put together, bytes."""
MAX_UNDER_WAY = 64
MAX_AGE_S = 10.0


def split(data: bytes, limit: int, name: bytes = b"") -> list[bytes]:
    """Return `data` as messages of at most `limit` bytes: itself when it fits. `name`: 16 bytes, else random ones."""
    if len(data) <= limit:
        return [data]
    room = limit - _HEADER.size
    if room <= 0:
        raise ValueError(f"a limit of {limit} bytes leaves no room for a part")
    count = -(-len(data) // room)
    name = name or secrets.token_bytes(16)
    view = memoryview(data)
    return [_HEADER.pack(MAGIC, name, i, count) + view[i * room : (i + 1) * room] for i in range(count)]


async def publish(bus: Bus, subject: str, data: bytes) -> None:
    """Publish `data`, in parts where it is larger than the broker takes. Raises BrokerError."""
    if len(data) + HEADROOM <= bus.max_payload:
        await bus.publish(subject, data)
        return
    for part in split(data, bus.max_payload - HEADROOM):
        await bus.publish(subject, part)


async def request(bus: Bus, subject: str, data: bytes, *, timeout: float) -> Message:
    """Send `data`, in parts where it is larger than the broker takes, and await the one answer: see
    :meth:`Bus.request`. The last part bears the subject of the answer."""
    parts = [data] if len(data) + HEADROOM <= bus.max_payload else split(data, bus.max_payload - HEADROOM)
    for part in parts[:-1]:
        await bus.publish(subject, part)
    return await bus.request(subject, parts[-1], timeout=timeout)


@dataclass
class _Partial:
    count: int
    since: float
    parts: list[bytes] = field(default_factory=list)
    size: int = 0


@dataclass
class Assembler:
    """Puts messages together. Pure: `now` is a monotonic time, s."""

    lost: int = 0
    """Messages given up before their last part came."""
    _under_way: OrderedDict[bytes, _Partial] = field(default_factory=OrderedDict)
    _bytes: int = 0

    @property
    def waits(self) -> bool:
        """Whether a message waits for its further parts."""
        return bool(self._under_way)

    def take(self, data: bytes, now: float) -> bytes | None:
        """Take what arrived: a whole message is returned as it is, a part returns its message once complete.

        Raises:
            MessageError: not a sound part.
        """
        if data[: len(MAGIC)] != MAGIC:
            self._make_room(now)
            return data
        if len(data) <= _HEADER.size:
            raise MessageError("part of a message: too short")
        _, name, index, count = _HEADER.unpack_from(data)
        room = len(data) - _HEADER.size
        if index >= count or count < 2 or (index == 0 and count * room > MAX_BYTES + room):
            raise MessageError(f"part of a message: {index} of {count}, {room} bytes each")
        if index == 0:
            self._drop(name)
            self._under_way[name] = _Partial(count, now)
        partial = self._under_way.get(name)
        if partial is None or partial.count != count or len(partial.parts) != index:
            self._drop(name)  # a part is missing: the rest is of no use
            return None
        partial.parts.append(data[_HEADER.size :])
        partial.size += room
        self._bytes += room
        if len(partial.parts) == count:
            whole = b"".join(partial.parts)
            self._bytes -= partial.size
            del self._under_way[name]
            return whole
        self._make_room(now)
        return None

    def _make_room(self, now: float) -> None:
        while self._under_way:
            name, oldest = next(iter(self._under_way.items()))
            crowded = len(self._under_way) > MAX_UNDER_WAY or self._bytes > MAX_BYTES
            if not crowded and now - oldest.since <= MAX_AGE_S:
                return
            self._drop(name)

    def _drop(self, name: bytes) -> None:
        partial = self._under_way.pop(name, None)
        if partial is not None:
            self._bytes -= partial.size
            self.lost += 1
