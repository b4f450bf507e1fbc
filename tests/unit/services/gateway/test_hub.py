"""Results for many clients: what they see of the connection's end."""

from __future__ import annotations

import asyncio

from hams_client import Hams
from hams_services.gateway.hub import Hub
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from support.wait import PATIENCE


async def test_clients_end_with_the_connection_to_the_broker() -> None:
    bus = InMemoryBus(MemoryServer())
    await bus.__aenter__()
    async with Hub(Hams(bus)).listen("grey") as listener:
        waiting = asyncio.create_task(listener.next())
        await bus.__aexit__(None, None, None)
        async with asyncio.timeout(10 * PATIENCE):
            assert await waiting is None
