"""The broker returns with an empty store, and two parts were killed; other cases: tests/world/test_store_lost.py."""

from __future__ import annotations

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


def profile(folder: Path, name: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(
        yaml.safe_dump({"name": name, "kind": "vpu", "memory_mib": 512, "run": "openvino", "fps": {"*": 50.0}})
    )
    return f"emulated:{path}"


@pytest.fixture
def box(tmp_path: Path, own_nats_server: NatsServer) -> Iterator[Up]:
    with Up(tmp_path / "home", profile(tmp_path, "one"), options=("--nats", own_nats_server.url)) as up:
        yield up


def plan(up: Up) -> dict[str, Any]:
    groups = up.json_when(lambda s: s["groups"] and s["groups"][0]["active"], "status")["groups"]
    assert [g["name"] for g in groups] == ["grey"]
    active: dict[str, Any] = groups[0]["active"]
    return active


def test_store_scheduler_and_pipeline_lost_at_once(box: Up, own_nats_server: NatsServer, tmp_path: Path) -> None:
    """Only the agent remembers: the plan it serves carries its group."""
    up = box
    with Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        before = plan(up)
        os.kill(up.pid_of("hams_scheduler"), signal.SIGKILL)
        os.kill(up.pid_of("pipeline"), signal.SIGKILL)
        seen = len(results.received)
        own_nats_server.restart(kill=True, empty=True)
        up.until_answering()
        until_sync(lambda: [g["name"] for g in up.json("status")["groups"]] == ["grey"], 30, "the group")
        results.until(seen + 40)
        assert plan(up)["epoch"] >= before["epoch"]
        up.check_ledger()
