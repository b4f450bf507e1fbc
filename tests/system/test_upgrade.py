"""An earlier version is replaced part by part while frames flow: its wheel is built from the commit that it was.

The order is that of docs/operations.md, and the other way round for a part that has to go back.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.grey import group_file, video
from support.nats_server import NatsServer
from support.parts import Parts
from support.results import Subscriber
from support.up import ROOT
from support.wait import until_sync
from system.test_rolling import check, device, host

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]

EARLIER = "7bb923c5ebc419bcd07c90e48098e445cd4da3e6"
"""2026-11-30, before protocols were counted, and before networks with several inputs and masks."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the earlier version's wheel is installed in."""
    folder = tmp_path_factory.mktemp("earlier")
    git = shutil.which("git")
    if git is None or subprocess.run([git, "cat-file", "-e", EARLIER], cwd=ROOT, capture_output=True).returncode:
        pytest.skip(f"UPGRADES ARE NOT TESTED HERE: this checkout has no commit {EARLIER[:8]}")
    tree = subprocess.run([git, "archive", EARLIER], cwd=ROOT, check=True, capture_output=True).stdout
    (folder / "tree").mkdir()
    subprocess.run(["tar", "-x", "-C", folder / "tree"], input=tree, check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "installed"]
    done = subprocess.run([*install, folder / "tree"], capture_output=True, text=True, timeout=600)
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip("UPGRADES ARE NOT TESTED HERE: pip cannot fetch hatchling, which builds the wheel")
    assert done.returncode == 0, done.stderr
    return folder / "installed"


@pytest.fixture
def parts(tmp_path: Path, own_nats_server: NatsServer) -> Iterator[Parts]:
    with Parts(tmp_path / "home", own_nats_server.url) as parts:
        yield parts


def test_each_part_is_replaced_while_frames_flow(parts: Parts, earlier: Path, tmp_path: Path) -> None:
    old = {"PYTHONPATH": str(earlier), "PYTHONSAFEPATH": "1"}
    sim = device(tmp_path, load_ms=200.0)
    parts.start("scheduler-old", **old)
    parts.start("pipeline-old", **old)
    parts.start("agent-old", "--device", sim, HAMS_HOST="box1", **old)
    parts.until_devices(box1="alive")
    with Subscriber(parts.url, "grey") as results:
        parts.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        parts.start("agent-new", "--device", sim, HAMS_HOST="box1b")
        parts.until_devices(box1="alive", box1b="alive")
        assert parts.end("agent-old") == 0
        until_sync(lambda: host(results.received[-1]) == "box1b", 20, f"the new agent serves\n{parts.logs()}")
        parts.start("scheduler-new")
        assert parts.end("scheduler-old") == 0
        results.until(len(results.received) + 20)
        parts.until_devices(box1b="alive")
        check(parts, results)
        assert parts.end("pipeline-old") == 0
        parts.start("pipeline-new")
        results.until(len(results.received) + 20)
