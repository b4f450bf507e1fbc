"""A driver that ends the process while it loads one network: that pair is marked, others serve, and nothing loops."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from hams_agents.runtime.health_rules import ABORTS, PROBATION
from support.grey import group_file, video
from support.results import Subscriber
from support.up import Up
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
ILL, SOUND = "box.emulated.ill", "box.emulated.sound"


def device(folder: Path, name: str, fps: float, **faults: object) -> str:
    path = folder / f"{name}.yaml"
    stated = {"name": name, "kind": "vpu", "memory_mib": 512, "run": "openvino", "fps": {"*": fps}}
    path.write_text(yaml.safe_dump({**stated, **faults}))
    return f"emulated:{path}"


def test_a_load_that_ends_the_process_is_not_tried_again_soon(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    fault.touch()
    abort = {"signal": "SIGSEGV", "while_exists": str(fault)}
    devices = device(tmp_path, "ill", 100, abort=abort), device(tmp_path, "sound", 20)
    began = time.monotonic()

    def tries() -> int:
        """How often it may have been tried: one more a minute, from the first on."""
        return 1 + int((time.monotonic() - began) / PROBATION.first)

    with Up(tmp_path / "home", *devices) as up, Subscriber(up.url, "grey") as results:
        up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        assert {result.nodes["light"]["device"] for result in results.received} == {SOUND}
        marked = up.json_when(lambda found: any(d["health"] and d["health"]["networks"] for d in found), "devices")
        (network,) = next(d for d in marked if d["record"]["device"] == ILL)["health"]["networks"]
        assert network["reason"] == f"loading {network['model']} ended the process by SIGSEGV"
        assert 1 <= network["strikes"] <= tries()  # it is tried again, but not soon
        assert network["until"] > 0 or network["strikes"] >= ABORTS
        shown = up.ctl("devices")
        assert f"{ILL} does not run {network['model']}: {network['reason']}" in shown
        log = (tmp_path / "home" / "logs" / "agent-ill-yaml.log").read_text()
        assert 1 <= log.count("Fatal Python error: Segmentation fault") <= tries()
        fault.unlink()  # the driver is repaired
        assert "SIGSEGV" in up.ctl("devices", "resume", ILL)
        until_sync(lambda: results.received[-1].nodes["light"]["device"] == ILL, 60, "it serves")
        frames = results.frames  # read once: they go on coming
        assert frames == list(range(len(frames)))
        up.check_ledger()
