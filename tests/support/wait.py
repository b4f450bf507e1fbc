"""Waiting for a condition, always with a deadline; never sleep and hope."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 3.0
"""Deadlines in tests are stated for a quiet machine; on a shared one everything may take so many times as long."""


async def until(condition: Callable[[], object], timeout: float = 10.0, what: str = "") -> None:
    end = time.monotonic() + timeout * PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {timeout * PATIENCE:g} s: {what or condition}"
        await asyncio.sleep(0.01)


def until_sync(condition: Callable[[], object], timeout: float = 10.0, what: str = "") -> None:
    end = time.monotonic() + timeout * PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {timeout * PATIENCE:g} s: {what or condition}"
        time.sleep(0.01)


async def following(items: AsyncGenerator[T, None], timeout: float = 10.0) -> T:
    """The next item of a watch."""
    async with asyncio.timeout(timeout * PATIENCE):
        return await anext(items)
