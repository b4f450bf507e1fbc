"""Every test here runs on a clock of its own, which jumps over waits; see support/world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from support.world.clock import WorldLoop
from support.world.system import System


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"world": WorldLoop}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[System]:
    """A broker and a client; the test starts the parts."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WorldLoop)
    try:
        async with System(tmp_path, loop.clock) as system:
            yield system
    finally:
        loop.clock.end()
