"""An inference that never returns, in a real agent: restart, quarantine, resumption. The device is emulated."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hams_agents.health import HANGS
from support.grey import group_file, video
from support.results import Subscriber
from support.up import Up
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def devices(folder: Path, fault: Path) -> list[str]:
    """A fast one that hangs while `fault` exists, and a slow sound one."""
    named = []
    for name, fps, hang in (("ill", 100.0, {"while_exists": str(fault)}), ("sound", 20.0, None)):
        profile = {"name": name, "kind": "vpu", "memory_mib": 512, "run": "openvino", "fps": {"*": fps}}
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(profile | ({"hang": hang} if hang else {})))
        named.append(f"emulated:{path}")
    return named


def test_a_hung_device_is_replaced_and_no_frame_is_lost(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    with Up(tmp_path / "home", *devices(tmp_path, fault)) as up, Subscriber(up.url, "grey") as results:
        assert "made to hang" in up.ctl("devices")
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        assert results.received[-1].nodes["light"]["device"] == "box.emulated.ill"
        fault.touch()
        until_sync(lambda: results.received[-1].nodes["light"]["device"] == "box.emulated.sound", 40, "re-placed")
        fault.unlink()
        until_sync(lambda: len(up.json("devices")) == 2, 30, "its agent is back")
        results.until(len(results.received) + 20)
        assert results.frames == list(range(len(results.frames)))
        up.check_ledger()
    log = (tmp_path / "home" / "logs" / "agent-ill-yaml.log").read_text()
    assert log.count("the agent ends itself") in (1, 2)  # 2: back before the other had loaded, it took the plan again


def test_a_device_that_hangs_again_and_again_is_quarantined_until_it_is_resumed(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    ill, _ = devices(tmp_path, fault)
    with Up(tmp_path / "home", ill) as up, Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        fault.touch()
        until_sync(lambda: [d["state"] for d in up.json("devices")] == ["quarantined"], 130, "quarantine")
        assert "does not end" in up.ctl("status")
        assert "devices resume box.emulated.ill" in up.ctl("devices", "list")
        assert "quarantined" in up.json("status")["groups"][0]["text"]
        fault.unlink()
        up.ctl("devices", "resume", "box.emulated.ill")
        assert "never hung" in up.ctl("devices", "resume", "box.emulated.ill", code=5)
        results.until(len(results.received) + 20)
        assert results.frames == list(range(len(results.frames)))
        up.check_ledger()
    log = (tmp_path / "home" / "logs" / "agent-ill-yaml.log").read_text()
    assert log.count("the agent ends itself") >= HANGS  # more, where the report of one came too late to count
