"""A leading scheduler that is paused (SIGSTOP) or killed; all other ways to lose one: world/test_schedulers.py."""

from __future__ import annotations

import json
import os
import signal
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
            up.ctl("deploy", group, "--strategy", "mfs")  # a new plan, made by the other
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
        check_history(up)
    up.check_ledger()


def check_history(up: Up) -> None:
    """It tells everything once, and outlives a scheduler that is killed."""
    before, first = history(up), leader(up)
    told = [(one["kind"], one["group"], one["device"], one["epoch"], one["text"], one["at"]) for one in before]
    assert len(set(told)) == len(told)
    plans = [one["epoch"] for one in before if one["kind"] == "plan"]
    assert plans == sorted(set(plans))
    assert plans[-1] == plan(up)["epoch"]
    os.kill(first["pid"], signal.SIGKILL)
    until_sync(lambda: leader(up)["term"] > first["term"], 20, "another leader")
    until_sync(lambda: len(history(up)) > len(before), 20, "it is told")
    after = history(up)
    assert after[: len(before)] == before
    starved = {"device-lost", "device-back"}  # an agent without CPU time for 1.5 s
    assert {one["kind"] for one in after[len(before) :]} <= {"leader", "plan", "plan-active"} | starved


def history(up: Up) -> list[dict[str, Any]]:
    """All that is told."""
    return [json.loads(line) for line in up.ctl("history", "--json").splitlines()]
