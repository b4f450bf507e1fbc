"""A reader of results that is not ours: Node with the packages npm has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from support.up import ROOT, Up

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/node with its packages."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no node and npm here")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "results.mjs"):
        shutil.copy(ROOT / "examples" / "node" / name, folder)
    try:
        done = subprocess.run([npm, "install", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not get the packages within two minutes here")
    if done.returncode:
        pytest.skip(f"npm cannot fetch the packages here: {done.stderr.decode()[-200:]}")
    return folder / "results.mjs"


@pytest.mark.parametrize("written", ["msgpack", "json"])
def test_results_in_node(reader: Path, tmp_path: Path, lossless_face: Path, written: str) -> None:
    group = yaml.safe_load(lossless_face.read_text())
    group["results"] = written
    next(iter(group["streams"].values())).update(loop=True)
    lossless_face.write_text(yaml.safe_dump(group))
    with Up(tmp_path / "home", "openvino:CPU") as up:
        up.ctl("deploy", lossless_face)
        argv = ["node", str(reader), up.url, "face", "3"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 3
        assert all(line.startswith("carphone #") and "face 0." in line for line in lines), lines
        assert "face" in up.ctl("results", "face")  # ours reads both
