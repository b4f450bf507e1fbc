"""Which replica of a node takes which frame. Pure, and the same on every host, so that no one need be asked."""

from __future__ import annotations

from collections.abc import Mapping

GOLDEN = 0.6180339887498949
"""Fractional part of the golden ratio: multiples of it fill [0, 1) as evenly as can be (Weyl sequence)."""


def route(shares: Mapping[str, float], frame: int, attempt: int = 0) -> str:
    """Return the device that serves `frame`, so that each device gets its share of any run of frames.

    `shares` maps devices to positive numbers; they need not sum to 1. A further `attempt` moves on to another replica.

    Raises:
        ValueError: `shares` is empty.
    """
    if not shares:
        raise ValueError("a node without a device cannot be routed")
    devices = sorted(shares)
    if len(devices) == 1:
        return devices[0]
    total = sum(shares.values())
    point = (frame * GOLDEN) % 1.0 * total
    chosen = len(devices) - 1
    for index, device in enumerate(devices):
        point -= shares[device]
        if point < 0:
            chosen = index
            break
    return devices[(chosen + attempt) % len(devices)]
