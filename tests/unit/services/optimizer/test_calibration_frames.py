from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from hams_services.optimizer.calibration_frames import collect
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.runtime.child_process import Bounds
from support.wait import until


async def test_frames_are_for_their_user_only(tmp_path: Path) -> None:
    """They show people."""
    new = tmp_path / "frames.new"
    async with InMemoryBus(MemoryServer()) as bus:
        taking = asyncio.create_task(collect(bus, "face", 3, tmp_path / "frames", lambda *_: None, Bounds()))
        await until(new.exists)
        assert new.stat().st_mode & 0o077 == 0
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
