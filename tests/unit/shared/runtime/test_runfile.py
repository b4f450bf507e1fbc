"""A running `hams-ctl up` is found by whoever does not say which broker to use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hams_client
from hams_shared.bus.nats import connection
from hams_shared.errors import BrokerError
from hams_shared.runtime.runfile import PID_FILE, announced, running, running_broker

NOBODY = "nats://127.0.0.1:9"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HAMS_HOME", str(tmp_path))
    monkeypatch.delenv("HAMS_NATS_URL", raising=False)
    monkeypatch.setattr(connection, "CONNECT_S", 0.2)


def test_it_is_found_while_it_runs() -> None:
    assert running() is None
    with announced(NOBODY):
        found = running()
        assert found is not None
        assert found.url == NOBODY
    assert running() is None


def test_its_broker_is_the_one_that_runs_now(tmp_path: Path) -> None:
    store = tmp_path / "broker"
    store.mkdir()
    with announced(NOBODY, store=store):
        assert running_broker() is None
        for pid, found in ((os.getpid(), os.getpid()), (2**22 + 1, None)):  # as it is after a restart; one that is gone
            (store / PID_FILE).write_text(str(pid))
            assert running_broker() == found
    assert running_broker() is None


async def test_the_client_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with announced(NOBODY), pytest.raises(BrokerError, match=NOBODY):
        async with hams_client.connect():
            pass
    monkeypatch.setenv("HAMS_NATS_URL", "nats://127.0.0.1:10")
    with announced(NOBODY), pytest.raises(BrokerError, match="127.0.0.1:10"), hams_client.sync.connect():
        pass
