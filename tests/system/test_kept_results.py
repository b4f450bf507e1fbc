"""A batch whose broker, pipeline and reader are killed: each of its frames has one result, read once and in order."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support import grey
from support.media import every, video
from support.up import Up, cores
from support.wait import PATIENCE, until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

COUNT, FPS = 1000, 20
"""The batch lasts 50 s: two readers start, and a broker and a pipeline are killed, before its end."""


def group_file(folder: Path) -> Path:
    """A group that keeps the brightness of a video's frames, played losslessly by its clock."""
    node = {"model": str(grey.network(folder)), "input": {"size": [8, 8]}, "task": {"type": "regression"}}
    source = video(folder / "batch.mp4", every(1 / FPS, COUNT))
    stream = {"source": str(source), "mode": "lossless", "fps": FPS}
    path = folder / "group.yaml"
    group = {"name": "grey", "results": {"keep": "1h"}, "nodes": {"light": node}, "streams": {"s": stream}}
    path.write_text(yaml.safe_dump(group))
    return path


class Reader:
    """`hams-ctl results` in a process of its own."""

    def __init__(self, up: Up, out: Path, *args: str) -> None:
        argv = [sys.executable, "-m", "hams_services.ctl", "results", "grey", "--json", "--durable", "app", *args]
        self._out = out
        with out.open("ab") as file:
            self.process = subprocess.Popen(argv, env=up.env, stdout=file)

    def frames(self) -> list[int]:
        lines = self._out.read_text().rpartition("\n")[0].splitlines()
        return [json.loads(line)["frame"] for line in lines]


def test_a_batch_goes_on_and_its_results_are_read_once(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with Up(tmp_path / "home", cores()[0]) as up:
        up.ctl("deploy", group_file(tmp_path))
        first = Reader(up, out, "--follow", "--since", "1h", "-n", "60")
        assert first.process.wait(60 * PATIENCE) == 0
        assert first.frames() == list(range(60))
        reader = Reader(up, out, "--follow", "-n", str(COUNT - 60))
        try:
            until_sync(lambda: len(reader.frames()) > 80, 60, "results")
            up.kill("nats-server")
            wanted = min(len(reader.frames()) + 30, COUNT)
            until_sync(lambda: len(reader.frames()) >= wanted, 60, "results of the next broker")
            up.kill("hams_services.pipeline")
            assert reader.process.wait(90 * PATIENCE) == 0
        finally:
            reader.process.kill()
        assert reader.frames() == list(range(COUNT))
        assert up.until_ended()["delivered"] == COUNT
        assert up.ctl("results", "grey", "--since", "1h").count("\n") == COUNT
