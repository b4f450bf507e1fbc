"""Services F, P and V at once, as `hams-ctl deploy examples/all.yaml` deploys them, and an application on top."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from support.plates import corners, plate, put
from support.up import ROOT, Up
from support.wait import PATIENCE, until_sync
from support.zoo import parked_car, real

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FRAMES = {"face": 120, "person": 250, "vehicle": 250}
PLATE = "B7K291M"


@pytest.fixture
def all_groups(tmp_path: Path) -> Path:
    """The three services' files with their streams played once, losslessly; a parked car on a second vehicle stream."""
    names = yaml.safe_load((ROOT / "examples" / "all.yaml").read_text())["groups"]
    assert len(names) == 3
    cv2.imwrite(str(tmp_path / "car.png"), put(parked_car(), plate(PLATE), corners((592, 396), 120)))
    for name in names:
        group: dict[str, Any] = yaml.safe_load((ROOT / "examples" / name).read_text())
        for node in group["nodes"].values():
            real(node["model"], node.get("sha256"))
        for stream in group["streams"].values():
            real(stream["source"])
            stream.update(mode="lossless", pace="max", loop=False)
        if name == "vehicle.yaml":
            group["streams"]["gate"] = {"source": str(tmp_path / "car.png"), "mode": "live", "loop": True, "fps": 2}
        (tmp_path / name).write_text(yaml.safe_dump(group, sort_keys=False))
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump({"groups": names}))
    return path


def test_three_services_at_once_and_an_application(up: Up, all_groups: Path, tmp_path: Path) -> None:
    database = tmp_path / "plates.db"
    argv = [sys.executable, ROOT / "examples" / "apps" / "plates.py", database, "--nats", up.url, "--count", "1"]
    [planned] = json.loads(up.ctl("plan", all_groups, "--strategy", "optimal", "--json", timeout=300))
    assert set(planned["group_fps"]) == set(FRAMES)
    assert planned["fps"] == pytest.approx(min(planned["group_fps"].values()), rel=1e-6)
    assert {name.split("/")[0] for name in planned["shares"]} == set(FRAMES)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as app:
        try:
            said = up.ctl("deploy", all_groups, timeout=300)
            assert [line.split()[1] for line in said.splitlines() if line.startswith("group")] == list(FRAMES)
            printed, _ = app.communicate(timeout=120 * PATIENCE)
        finally:
            app.kill()
    assert app.returncode == 0
    assert f" gate {PLATE} " in printed
    with sqlite3.connect(database) as opened:
        assert opened.execute("select stream, plate from plates").fetchall() == [("gate", PLATE)]

    serving = dict.fromkeys(FRAMES, "serving")
    status = up.json_when(lambda s: {g["name"]: g["state"] for g in s["groups"]} == serving, "status")
    groups = {group["name"]: group for group in status["groups"]}
    used = {device for group in groups.values() for shares in group["active"]["shares"].values() for device in shares}
    assert used == {"box.openvino.cpu0", "box.onnxruntime.cpu1"}
    assert len(up.json("matrix")["models"]) == sum(len(group["active"]["shares"]) for group in groups.values())

    def played() -> bool:
        streams = {s["group"]: s for s in up.json("status")["streams"] if s["stream"] != "gate"}
        assert not [s for s in streams.values() if s["failed"]], json.dumps(streams)
        return {group: s["delivered"] for group, s in streams.items()} == FRAMES

    until_sync(played, 150, "the three videos")
    up.ctl("undeploy", "person")
    up.json_when(lambda s: sorted(g["name"] for g in s["groups"]) == ["face", "vehicle"], "status")
