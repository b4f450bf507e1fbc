"""A look at a system that does not answer: what is not known is not called absent."""

from __future__ import annotations

from rich.console import Console

from hams_services.monitor.screen import screen
from hams_services.monitor.snapshot import take_snapshot
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer


async def test_nobody_answers() -> None:
    async with InMemoryBus(MemoryServer()) as bus:
        seen = await take_snapshot(bus)
    assert seen.blind
    console = Console(width=100)
    with console.capture() as capture:
        console.print(screen(seen, seen))
    assert "no scheduler is running" in capture.get()
    assert "no devices" not in capture.get()
    assert "no streams" not in capture.get()
