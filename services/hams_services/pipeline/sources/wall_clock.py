"""A camera's own clock: when it took a frame, by the RTCP sender reports of its stream."""

from __future__ import annotations

import struct
from typing import Any

LAG_S, AHEAD_S = 30.0, 2.0
"""A camera's clock is believed while its frames seem at most this old, or this far in the future, s."""


class WallClock:
    """Maps presentation times to Unix times; it learns from packets with a producer reference time (``prft``)."""

    def __init__(self) -> None:
        self._offset: float | None = None
        """Unix time at presentation time 0, s."""

    def learn(self, packet: Any) -> None:
        """Take the reference time of a packet, if it has one."""
        if packet.pts is None or not packet.time_base or not packet.has_sidedata("prft"):
            return
        (microseconds,) = struct.unpack_from("=q", bytes(packet.get_sidedata("prft")))
        self._offset = microseconds / 1e6 - float(packet.pts * packet.time_base)

    def at(self, presentation: float | None) -> float | None:
        """Return the Unix time, s, of a presentation time; None: unknown."""
        return None if presentation is None or self._offset is None else self._offset + presentation


def credible(captured: float | None, now: float) -> bool:
    """Return whether `captured`, by a camera's clock, can be when a frame that is read `now` was taken. Unix s."""
    return captured is not None and -AHEAD_S <= now - captured <= LAG_S
