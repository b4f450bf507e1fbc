"""An inference that never returns, in a real agent; quarantine and resumption are in tests/world/test_hung.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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


@pytest.mark.smoke
def test_a_hung_device_is_replaced_and_no_frame_is_lost(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    with Up(tmp_path / "home", *devices(tmp_path, fault)) as up, Subscriber(up.url, "grey") as results:
        assert "made to hang" in up.ctl("devices")
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        until_sync(lambda: results.received[-1].nodes["light"]["device"] == "box.emulated.ill", 40, "it serves")
        fault.touch()
        until_sync(lambda: results.received[-1].nodes["light"]["device"] == "box.emulated.sound", 40, "re-placed")
        fault.unlink()
        until_sync(lambda: len(up.json("devices")) == 2, 30, "its agent is back")
        results.until(len(results.received) + 20)
        frames = results.frames  # read once: they go on coming
        assert frames == list(range(len(frames)))
        up.check_ledger()
    log = (tmp_path / "home" / "logs" / "agent-ill-yaml.log").read_text()
    assert log.count("the agent ends itself") in (1, 2)  # 2: back before the other had loaded, it took the plan again
