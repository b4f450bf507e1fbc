"""When a device that hangs again and again gets no more work. Pure."""

from __future__ import annotations

from hams_shared.wire.messages.agents import DeviceHealth

HANGS = 3
"""So many hangs within `WINDOW_S` and the device is quarantined."""
WINDOW_S = 900.0


def after_hang(health: DeviceHealth, what: str, now: float) -> DeviceHealth:
    """The record after one more hang at Unix time `now`, s; a clock that was set back leaves none in the future."""
    hangs = tuple(at for at in (*health.hangs, now) if abs(now - at) <= WINDOW_S)[-HANGS:]
    reason = f"hung {len(hangs)} times within {WINDOW_S / 60:.0f} min; last: {what}" if len(hangs) > 1 else what
    return DeviceHealth(
        device=health.device,
        hangs=hangs,
        quarantined=health.quarantined or len(hangs) >= HANGS,
        reason=reason,
    )
