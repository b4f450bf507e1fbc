from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Bus
from support.nats_server import NatsServer, nats_server, own_nats_server

__all__ = ["nats_server", "own_nats_server"]

Connect = Callable[[], Bus]


@pytest.fixture(params=["memory", "nats"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Make one more client of the same broker."""
    if request.param == "memory":
        server = MemoryServer()
        return lambda: InMemoryBus(server)
    nats: NatsServer = request.getfixturevalue("nats_server")
    return lambda: NatsBus(nats.url)


@pytest.fixture
def name() -> str:
    """A subject token and bucket name of this test alone."""
    return f"t{uuid.uuid4().hex[:12]}"
