"""Heartbeats as bytes to heartbeats: of a device where nothing has changed, only what is new is decoded.

Nearly all of a heartbeat are the assignments and counters of the device's nodes. While the device is idle these are the
same bytes each time, so the objects of the heartbeat before serve again: 12 µs instead of 110 with 20 nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgpack
from pydantic import ValidationError

from hams_shared.wire import codec
from hams_shared.wire.messages.agents import Heartbeat

LARGE = ("assignments", "nodes")
"""The fields that are decoded only when their bytes change."""
KNOWN_LIMIT = 4096
"""Most devices of which a heartbeat is kept."""


@dataclass
class HeartbeatReader:
    """Decodes heartbeats; keeps the newest of each device."""

    _known: dict[str, tuple[dict[str, bytes], Heartbeat]] = field(default_factory=dict)
    """By device: the bytes of its large fields, and the heartbeat."""

    def read(self, data: bytes) -> Heartbeat:
        """Decode and check. Raises MessageError as :func:`codec.decode` does."""
        small, large = _skimmed(data)
        device = small.get("device")
        known = self._known.get(device) if isinstance(device, str) else None
        if known is not None and large and known[0] == large:
            try:
                return Heartbeat.model_validate(small | {name: getattr(known[1], name) for name in large})
            except ValidationError:
                pass  # it is reported as that of any message
        heartbeat = codec.decode(Heartbeat, data)
        if large:
            self._known[heartbeat.device] = large, heartbeat
            if len(self._known) > KNOWN_LIMIT:
                del self._known[next(iter(self._known))]
        return heartbeat


def _skimmed(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The decoded small fields and the bytes of the large ones; both are empty for anything but a msgpack map."""
    small: dict[str, Any] = {}
    large: dict[str, bytes] = {}
    unpacker = msgpack.Unpacker(None, raw=False, strict_map_key=True, max_buffer_size=max(len(data), 1))
    try:
        unpacker.feed(data)
        for _ in range(unpacker.read_map_header()):
            name = unpacker.unpack()
            begin = unpacker.tell()
            if name in LARGE:
                unpacker.skip()
                large[name] = data[begin : unpacker.tell()]
            else:
                small[name] = unpacker.unpack()
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException):
        return {}, {}
    return (small, large) if unpacker.tell() == len(data) else ({}, {})
