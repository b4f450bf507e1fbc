"""`hams-ctl demo`: one command from a group file to a report and pictures, in a system that ends with it."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import yaml

from support.grey import LENGTH, group_file, video
from support.up import Up

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_from_a_group_file_to_annotated_pictures(tmp_path: Path) -> None:
    profile = tmp_path / "sim.yaml"
    profile.write_text(
        yaml.safe_dump({"name": "sim", "kind": "vpu", "memory_mib": 512, "run": "openvino", "fps": {"*": 50.0}})
    )
    up = Up(tmp_path / "home")
    up.home.mkdir()
    group, out = group_file(tmp_path, video(tmp_path), loop=True), tmp_path / "out"
    said = up.ctl("demo", group, "--out", out, "--device", f"emulated:{profile}")
    for strategy in ("default", "mfs", "hfs", "optimal", "replicated"):
        assert strategy in said
    assert f"frame ledger: {LENGTH} submitted = {LENGTH} delivered + 0 dropped + 0 failed + 0 in flight" in said
    assert "ok: every frame accounted for" in said
    pictures = sorted(out.glob("grey-*.png"))
    assert len(pictures) == 6
    assert all(cv2.imread(str(path)) is not None for path in pictures)
    assert not list((up.home / "logs").glob("*"))  # its system is its own

    cut = tmp_path / "cut.avi"
    whole = (tmp_path / "grey.avi").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    said = up.ctl("demo", group_file(tmp_path, cut), "--out", out, "--device", f"emulated:{profile}", code=7)
    assert "cut.avi is truncated or corrupt" in said
