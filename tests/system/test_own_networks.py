"""Networks of a user's own, from files to results in two commands: `init-group` and `deploy`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.own_networks import classifier, detector, embedder, lister
from support.up import Up, cores
from support.wait import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def init_group(up: Up, folder: Path, *line: object) -> None:
    argv = [sys.executable, "-m", "hams_services.ctl", "init-group", *map(str, line)]
    done = subprocess.run(argv, cwd=folder, env=up.env, capture_output=True, text=True, timeout=240 * PATIENCE)
    assert done.returncode == 0, done.stderr


def test_from_files_to_results(tmp_path: Path) -> None:
    """Each picture has a bright square at (64, 64) to (128, 128) of 256×256, a cell of the detector's."""
    frames = tmp_path / "frames"
    frames.mkdir()
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[64:128, 64:128] = 255
    for number in range(12):
        cv2.imwrite(str(frames / f"{number:02d}.png"), picture)
    red = tmp_path / "red.png"
    cv2.imwrite(str(red), np.full((64, 64, 3), (0, 0, 255), np.uint8))
    (tmp_path / "colours.txt").write_text("red\ngreen\nblue\n")
    with Up(tmp_path / "home", *cores()) as up:
        init_group(up, tmp_path, detector(tmp_path / "net.onnx"), "frames", "--child", embedder(tmp_path / "who.onnx"))
        up.ctl("deploy", tmp_path / "net.yaml", timeout=240)
        lines = up.ctl("results", "net", "--count", 2, "--json").splitlines()
        for line in lines:
            best = max(json.loads(line)["objects"], key=lambda one: one["box"][2] - one["box"][0])
            assert best["label"] == "bright"
            assert best["box"] == pytest.approx([64, 64, 128, 128], abs=1)
            assert len(best["who"]["embedding"]) == 128
        up.ctl("undeploy", "net")

        init_group(up, tmp_path, classifier(tmp_path / "kind.onnx"), "--labels", "colours.txt")
        up.ctl("deploy", tmp_path / "kind.yaml", timeout=240)
        assert "class red" in up.ctl("infer", "kind", red)

        init_group(up, tmp_path, lister(tmp_path / "list.xml"))
        up.ctl("deploy", tmp_path / "list.yaml", timeout=240)
        assert "(64, 64)–(192, 192)  class2 0.90" in up.ctl("infer", "list", frames / "00.png")


def test_a_task_that_does_not_fit_is_refused_with_the_one_that_would(tmp_path: Path) -> None:
    with Up(tmp_path / "home", cores()[0]) as up:
        init_group(up, tmp_path, detector(tmp_path / "net.onnx"))
        text = (tmp_path / "net.yaml").read_text().replace("[dark, bright]", "[person]")
        (tmp_path / "net.yaml").write_text(text)
        argv = [sys.executable, "-m", "hams_services.ctl", "deploy", str(tmp_path / "net.yaml"), "--timeout", "60"]
        done = subprocess.run(argv, env=up.env, capture_output=True, text=True, timeout=120 * PATIENCE)
        assert done.returncode != 0
        assert "these outputs fit yolo (2 labels)" in done.stderr
