from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.nats import connection, journal, kv
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Bus
from support.nats_server import NatsServer, nats_server, own_nats_server

__all__ = ["nats_server", "own_nats_server"]

Connect = Callable[[], Bus]


@pytest.fixture(autouse=True)
def _long_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product's own deadlines of 2 to 10 s are for a machine that does nothing else."""
    monkeypatch.setattr(journal, "ACK_S", 60.0)
    monkeypatch.setattr(kv, "SNAPSHOT_S", 60.0)
    monkeypatch.setattr(connection, "CONNECT_S", 60.0)
    monkeypatch.setattr(connection.NatsConnection.flush, "__defaults__", (60.0,))
    monkeypatch.setattr(NatsBus, "jetstream", property(lambda bus: bus._nc.jetstream(timeout=60.0)))


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
