"""The broker comes back with an empty store: everything is there again, from what the parts hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


def test_nothing_is_undeployed_when_the_store_is_lost(box: Up, own_nats_server: NatsServer, tmp_path: Path) -> None:
    up = box
    with Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        before, seen = plan(up), len(results.received)
        own_nats_server.restart(kill=True, empty=True)
        results.until(seen + 40)  # serving goes on under the same plan
        up.until_answering()
        assert plan(up) == before
        assert up.stream()["submitted"] >= seen  # the stream was not begun again
        up.check_ledger()
        frames = results.frames
        assert frames == sorted(set(frames))  # what the broker held when it died is lost to subscribers, never doubled
        # a device that comes now finds the group's model in the store again
        env = {**up.env, "HAMS_NATS_URL": up.url}
        argv = [sys.executable, "-m", "hams_agents", "--device", profile(tmp_path, "two")]
        with (tmp_path / "two.log").open("w") as log:
            late = subprocess.Popen(argv, env=env, stderr=log)
        try:
            until_sync(lambda: len(up.json("devices")) == 2, 60, "the late device")
            spec = yaml.safe_load((tmp_path / "group.yaml").read_text())
            spec["nodes"]["light"]["pin"] = ["box.emulated.two"]
            (tmp_path / "group.yaml").write_text(yaml.safe_dump(spec))
            up.ctl("undeploy", "grey")
            up.json_when(lambda s: s["groups"] == [] and s["streams"] == [], "status")  # and stays so
            up.ctl("deploy", tmp_path / "group.yaml")
            assert plan(up)["epoch"] > before["epoch"]
        finally:
            late.send_signal(signal.SIGTERM)
            late.wait(120)


def test_store_and_scheduler_lost_at_once(box: Up, own_nats_server: NatsServer, tmp_path: Path) -> None:
    """Only agent and pipeline remember."""
    up = box
    with Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        before, seen = plan(up), len(results.received)
        os.kill(up.pid_of("hams_scheduler"), signal.SIGKILL)
        own_nats_server.restart(kill=True, empty=True)
        results.until(seen + 40)
        up.until_answering()
        after = plan(up)
        assert (after["shares"], after["group"]) == (before["shares"], before["group"])
        assert after["epoch"] >= before["epoch"]
        up.check_ledger()


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
