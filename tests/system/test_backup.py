"""A box is lost with all it held; another begins empty and serves again from its backup."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.grey import group_file, video
from support.results import Subscriber
from support.up import Up
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def box(folder: Path, name: str) -> Up:
    """A box with a broker and a cache of its own: nothing of it is found in another's."""
    profile = folder / "one.yaml"
    profile.write_text(
        yaml.safe_dump({"name": "one", "kind": "vpu", "memory_mib": 512, "run": "openvino", "fps": {"*": 50.0}})
    )
    up = Up(folder / name, f"emulated:{profile}")
    up.env["HAMS_CACHE"] = str(folder / f"{name}-cache")
    return up


def group(up: Up) -> dict[str, Any]:
    [found] = up.json_when(lambda s: s["groups"], "status")["groups"]
    return dict(found)


def until_served(up: Up) -> None:
    until_sync(lambda: group(up)["state"] == "serving", 60, f"the group serves\n{up.logs()}")
    with Subscriber(up.url, "grey") as results:
        results.until(20)
    up.check_ledger()


def test_a_box_is_lost_and_its_backup_and_a_copy_of_its_store_serve(tmp_path: Path) -> None:
    path = group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True)
    saved = tmp_path / "hams.tar"
    with box(tmp_path, "first") as up:
        assert "nothing to back up" in up.ctl("backup", saved, code=5)
        up.ctl("deploy", path)
        assert "1 group, 0 variants, 1 model file" in up.ctl("backup", saved)
        before = group(up)
    for model in tmp_path.glob("*.onnx"):
        model.unlink()  # the network is in the backup and in the store only

    shutil.copytree(tmp_path / "first" / "broker", tmp_path / "copied" / "broker")
    with box(tmp_path, "copied") as up:
        until_served(up)
        assert group(up)["deployed_at"] == before["deployed_at"]
        assert group(up)["active"]["epoch"] >= before["active"]["epoch"]

    with box(tmp_path, "second") as up:
        assert up.json("status")["groups"] == []
        cut = tmp_path / "cut.tar"
        cut.write_bytes(saved.read_bytes()[:2000])
        assert "cut.tar is damaged" in up.ctl("restore", cut, code=2)
        assert "1 group" in up.ctl("restore", saved)
        until_served(up)
        assert group(up)["deployed_at"] == before["deployed_at"]
        group_file(tmp_path, tmp_path / "grey.avi", mode="lossless", pace="max", loop=True)
        up.ctl("deploy", path, "--strategy", "mfs")
        assert "--replace" in up.ctl("restore", saved, code=7)
        up.ctl("restore", saved, "--replace")
