"""A running `hams-ctl up` is found by whoever does not say which broker to use."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hams_client
from hams_shared.bus.nats import connection
from hams_shared.errors import BrokerError, RefusedError
from hams_shared.runtime.runfile import PID_FILE, announced, refuse_second, running, running_broker

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
    with announced(NOBODY, store=store), called("nats-server"):
        assert running_broker() is None
        for pid, found in ((os.getpid(), os.getpid()), (2**22 + 1, None)):  # as it is after a restart; one that is gone
            (store / PID_FILE).write_text(str(pid))
            assert running_broker() == found
    assert running_broker() is None


@contextmanager
def called(name: str) -> Iterator[None]:
    """Let this process have another name."""
    comm = Path("/proc/self/comm")
    before = comm.read_text()
    comm.write_text(name)
    try:
        yield
    finally:
        comm.write_text(before)


def test_another_process_with_the_number_of_its_broker_is_none(tmp_path: Path) -> None:
    (tmp_path / PID_FILE).write_text(str(os.getpid()))
    with announced(NOBODY, store=tmp_path), called("nginx"):
        assert running_broker() is None


@pytest.mark.parametrize("changed", ["boot", "started"])
def test_after_a_power_cut_another_process_with_its_number_is_not_it(tmp_path: Path, changed: str) -> None:
    with announced(NOBODY):
        path = tmp_path / "up.json"
        content = json.loads(path.read_text())
        assert content[changed]
        path.write_text(json.dumps({**content, changed: "before"}))
        assert running() is None
        refuse_second()
        del content[changed]  # of a version that noted none
        path.write_text(json.dumps(content))
        assert running() is not None


def test_a_second_one_is_refused(tmp_path: Path) -> None:
    with announced(NOBODY):
        path = tmp_path / "up.json"
        stat = Path(f"/proc/{os.getppid()}/stat").read_text()
        parent = {"pid": os.getppid(), "started": stat.rpartition(")")[2].split()[19]}
        path.write_text(json.dumps(json.loads(path.read_text()) | parent))
        with pytest.raises(RefusedError, match=f"runs already .process {os.getppid()},"):
            refuse_second()


async def test_the_client_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with announced(NOBODY), pytest.raises(BrokerError, match=NOBODY):
        async with hams_client.connect():
            pass
    monkeypatch.setenv("HAMS_NATS_URL", "nats://127.0.0.1:10")
    with announced(NOBODY), pytest.raises(BrokerError, match="127.0.0.1:10"), hams_client.sync.connect():
        pass
