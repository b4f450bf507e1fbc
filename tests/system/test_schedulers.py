"""Several schedulers: one leads; whatever becomes of it, another does, and plans are neither lost nor doubled."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.grey import group_file, video
from support.nats_server import NatsServer
from support.results import Subscriber
from support.up import Up
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def emulated(folder: Path, name: str = "sim", fps: float = 50.0, **more: Any) -> str:
    """An emulated device that answers with real outputs."""
    profile = {"name": name, "kind": "vpu", "memory_mib": 512, "run": "openvino", "fps": {"*": fps}, **more}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(profile))
    return f"emulated:{path}"


@pytest.fixture
def pair(tmp_path: Path, own_nats_server: NatsServer) -> Iterator[Up]:
    """Two schedulers over a broker of their own, one emulated device."""
    options = ("--nats", own_nats_server.url, "--schedulers", "2")
    with Up(tmp_path / "home", emulated(tmp_path), options=options) as up:
        yield up


def leader(up: Up) -> dict[str, Any]:
    """Who answers `status`."""
    found = up.json_when(lambda status: status["leader"], "status")["leader"]
    assert isinstance(found, dict)
    return found


def plan(up: Up) -> dict[str, Any]:
    [group] = up.json_when(lambda s: s["groups"] and s["groups"][0]["active"], "status")["groups"]
    active: dict[str, Any] = group["active"]
    return active


def test_the_leader_is_killed_and_the_other_leads(pair: Up, tmp_path: Path) -> None:
    up = pair
    with Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        first, before = leader(up), plan(up)
        os.kill(first["pid"], signal.SIGKILL)
        killed, seen = time.monotonic(), len(results.received)
        second = leader(up)
        print(f"another leads and answers after {time.monotonic() - killed:.1f} s")  # the bar: docs/reliability.md
        assert second["holder"] != first["holder"]
        assert second["term"] > first["term"]
        results.until(seen + 20)  # serving went on
        assert plan(up) == before  # nothing was lost, and nothing was made anew
        assert results.frames == list(range(len(results.frames)))
        assert "leads since" in up.ctl("status")
    up.check_ledger()


def test_a_leader_that_is_stopped_gives_the_lease_back(pair: Up) -> None:
    """Or it would have to run out. A stalled disk may be too slow for it once, so there are three tries."""
    for _ in range(3):
        first = leader(pair)
        os.kill(first["pid"], signal.SIGTERM)
        second = leader(pair)
        assert second["holder"] != first["holder"]
        until_sync(lambda: re.search("gave the lease back|was not given back", pair.logs()), 20, "it says so")
        if "gave the lease back" in pair.logs():
            return
    pytest.fail(f"never given back\n{pair.logs()}")


def test_a_leader_that_was_paused_finds_itself_deposed(pair: Up, tmp_path: Path) -> None:
    up = pair
    group = group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True)
    with Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group)
        results.until(10)
        first, before = leader(up), plan(up)
        os.kill(first["pid"], signal.SIGSTOP)
        try:
            until_sync(lambda: leader(up)["term"] > first["term"], 20, "another leader")
            up.ctl("deploy", group)  # a new plan, made by the other
            after = plan(up)
            assert after["epoch"] > before["epoch"]
        finally:
            os.kill(first["pid"], signal.SIGCONT)
        log = up.home / "logs" / "scheduler.log"
        other = up.home / "logs" / "scheduler-2.log"
        until_sync(lambda: "leads no more" in log.read_text() + other.read_text(), 20, "the paused one follows")
        assert leader(up)["term"] > first["term"]
        assert plan(up) == after
        results.until(len(results.received) + 10)
    up.check_ledger()


def test_without_any_scheduler_serving_goes_on(pair: Up, tmp_path: Path) -> None:
    up = pair
    with Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(10)
        pids = [pid for name, pid in up.children().items() if "hams_scheduler" in name]
        assert len(pids) == 2
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        results.until(len(results.received) + 50)
        assert results.frames == list(range(len(results.frames)))
        before = plan(up)  # they were started again
        assert before["epoch"] >= 1
    up.check_ledger()
