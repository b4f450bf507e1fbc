"""Jobs of the optimizer with real processes: a group made faster, a job taken back, an optimizer killed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import openvino
import pytest
import yaml
from onnx import helper

from support.networks import graph, write
from support.small_disk import small_disk
from support.up import Up
from support.wait import PATIENCE, until_sync

CAPABILITIES = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
BF16 = {"openvino bf16"} if "BF16" in CAPABILITIES else set()
"""What is tried on a processor that computes in bf16 only."""

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]


def textures(folder: Path, count: int) -> Path:
    """Images that are smooth and rough in turns; labels.json says which is which."""
    random = np.random.default_rng(0)
    folder.mkdir()
    labels = {}
    for number in range(count):
        noise = random.integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), noise if number % 2 else cv2.GaussianBlur(noise, (0, 0), 6))
        labels[f"{number:03}.png"] = {"label": "rough" if number % 2 else "smooth"}
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


@pytest.fixture
def texture(tmp_path: Path) -> Path:
    """A group of one network that says which of two textures an image shows, and a folder of both."""
    random = np.random.default_rng(0)
    folder = textures(tmp_path / "frames", 30)
    edge = np.zeros((32, 3, 3, 3), np.float32)
    edge[:, :, 1, 1], edge[:, :, 1, 2] = 1.0, -1.0
    mix = (0.05 * random.normal(size=(32, 32, 3, 3))).astype(np.float32)
    mix[np.arange(32), np.arange(32), 1, 1] += 1.0
    last = np.zeros((32, 2), np.float32)
    last[:, 0], last[:, 1] = -1.0, 1.0
    nodes = [
        helper.make_node("Conv", ["x", "edge"], ["a"], pads=[1] * 4),
        helper.make_node("Abs", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "mix"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "last"], ["g"]),
        helper.make_node("Add", ["g", "bias"], ["y"]),
    ]
    network = tmp_path / "texture.onnx"
    bias = 0.0
    for _ in range(2):  # the second time the border lies between one image of each kind
        constants = {"edge": edge, "mix": mix, "last": last, "bias": np.float32([bias, 0.0])}
        write(network, graph(nodes, constants=constants, sides=(64, 64)))
        images = [cv2.imread(str(folder / f"00{number}.png")).astype(np.float32) / 0.1 for number in (0, 1)]
        run = onnxruntime.InferenceSession(str(network)).run
        smooth, rough = (run(None, {"x": image.transpose(2, 0, 1)[None]})[0][0] for image in images)
        bias = float(smooth[1] + rough[1])
    assert (smooth.argmax(), rough.argmax()) == (0, 1)
    group: dict[str, Any] = {
        "name": "texture",
        "nodes": {
            "kind": {
                "model": str(network),
                "input": {"size": [64, 64], "scale": [0.1]},
                "task": {"type": "classification", "labels": ["smooth", "rough"]},
            }
        },
        "streams": {"s": {"source": str(folder / "*.png"), "loop": True, "fps": 20}},
    }
    path = tmp_path / "texture.yaml"
    path.write_text(yaml.safe_dump(group, sort_keys=False))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", "1m") as folder:
        yield folder


def newest(up: Up) -> dict[str, Any]:
    found: dict[str, Any] = up.json("nco", "jobs")[0]
    return found


def test_a_group_is_optimized_and_jobs_survive(tmp_path: Path, texture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_CACHE", str(tmp_path / "cache"))
    with Up(tmp_path / "home", "openvino:CPU@0", "onnxruntime:CPU@1") as up:
        assert "no jobs yet" in up.ctl("nco", "jobs")
        assert "not deployed" in up.ctl("nco", "optimize", "texture", code=5)
        up.ctl("deploy", texture)

        said = up.ctl("nco", "optimize", "texture", "--frames", "24", "--budget", "1800", timeout=1000)
        assert "FPS predicted" in said
        job = newest(up)
        assert (job["state"], job["attempts"], job["host"]) == ("done", 1, "box")
        report = up.ctl("nco", "report", "texture")
        assert "# Group texture, optimized" in report
        assert "16 samples" not in report  # a third is held back, the others calibrate
        rows = up.json("matrix", "--variants")["variants"]
        found = {row["label"]: row for row in rows if row["node"] == "texture/kind"}
        assert {"source", "onnx int8", "openvino int8", "onnx pruned", *BF16} <= set(found), report
        served = [row for row in found.values() if row["agreement"] is not None and not row["excluded"]]
        assert served
        assert all(row["agreement"] >= row["floor"] for row in served)
        assert any(any(fps for fps in row["fps"]) for row in served)
        assert (tmp_path / "cache" / "nco" / "reports" / f"texture-{job['id']}" / "report.png").stat().st_size > 10_000
        frames = tmp_path / "cache" / "nco" / "texture" / "frames"
        assert len(list(frames.glob("*.png"))) == 24

        # Again: what is known is not made again.
        made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "variants").glob("*/model.*")}
        up.ctl("nco", "optimize", "texture", "--frames", "24", timeout=600)
        assert {path: path.stat().st_mtime_ns for path in made} == made

        # A killed optimizer goes on with its job; a job that is taken back ends.
        up.ctl("nco", "calibrate", "texture", "--frames", "400", "--no-wait")
        until_sync(lambda: newest(up)["state"] == "running", 180, "the job is taken")
        up.kill("hams_services.optimizer")
        until_sync(lambda: newest(up)["attempts"] == 2, 180, "the job is gone on with")
        up.ctl("nco", "cancel", newest(up)["id"])
        assert newest(up)["state"] == "cancelled"
        assert "is cancelled already" in up.ctl("nco", "cancel", newest(up)["id"], code=7)
        up.ctl("nco", "calibrate", "texture", "--frames", "3", timeout=600)
        assert newest(up)["state"] == "done"

        # What cannot be done ends the job with its reason, and nothing else.
        assert "no folder" in up.ctl("nco", "optimize", "texture", "--samples", tmp_path / "none", code=5)
        empty = tmp_path / "empty"
        empty.mkdir()
        assert "holds no images" in up.ctl("nco", "optimize", "texture", "--samples", empty, code=2)
        assert newest(up)["state"] == "failed"
        up.json_when(lambda s: s["groups"][0]["state"] == "serving", "status")
        argv = [sys.executable, "-m", "hams_services.ctl", "nco", "train", "texture", "kind"]
        done = subprocess.run(argv, env=up.env, capture_output=True, text=True, timeout=180 * PATIENCE)
        assert done.returncode == 2
        assert "--gflops" in done.stderr


@pytest.mark.train
def test_a_student_is_trained_though_its_optimizer_is_killed(
    tmp_path: Path, texture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAMS_CACHE", str(tmp_path / "cache"))
    many = textures(tmp_path / "many", 90)
    train = ("nco", "train", "texture", "kind", "--gflops", "0.01", "--epochs")
    with Up(tmp_path / "home", "openvino:CPU@0", "onnxruntime:CPU@1") as up:
        up.ctl("deploy", texture)
        up.ctl(*train, 6, "--samples", many, "--no-wait")
        until_sync(lambda: "epoch" in newest(up)["text"], 300, "training has begun")
        up.kill("hams_services.optimizer")
        until_sync(lambda: newest(up)["attempts"] == 2, 180, "the job is gone on with")
        until_sync(lambda: newest(up)["state"] not in ("waiting", "running"), 600, "the student is trained")
        job = newest(up)
        assert job["state"] == "done", job
        assert "it may serve" in job["text"], job
        assert list((tmp_path / "cache" / "nco" / "texture" / "train").glob("kind-*/checkpoint.pt"))

        # What it says is measured on both devices, and the scheduler may choose it.
        rows = up.json("plan", texture) and up.json("matrix", "--variants")["variants"]
        found = {row["label"]: row for row in rows}
        assert {"openvino student", "onnx student", *(label.replace("bf16", "student bf16") for label in BF16)} <= set(
            found
        )
        for label in ("openvino student", "onnx student"):
            assert found[label]["agreement"] >= 0.98
            assert any(found[label]["fps"])

        # From labels, too; and what cannot be learned from is said.
        said = up.ctl(*train, 6, "--labels", many, timeout=600)
        assert "it may serve" in said
        assert re.search(r"right on 0\.\d+ of the labels|right on 1\.0000 of the labels", said), said
        (many / "labels.json").write_text(json.dumps({"000.png": {"label": "striped"}}))
        assert "the label of 000.png does not fit node kind" in up.ctl(*train, 6, "--labels", many, code=2)
        up.json_when(lambda s: s["groups"][0]["state"] == "serving", "status")


def test_a_full_disk_ends_the_job_and_nothing_else(
    tmp_path: Path, texture: Path, monkeypatch: pytest.MonkeyPatch, small: Path
) -> None:
    monkeypatch.setenv("HAMS_CACHE", str(small))
    with Up(tmp_path / "home", "openvino:CPU@0") as up:
        up.ctl("deploy", texture)
        assert "disk is full" in up.ctl("nco", "calibrate", "texture", "--frames", "300", code=3)
        assert newest(up)["state"] == "failed"
        up.json_when(lambda s: s["groups"][0]["state"] == "serving", "status")
        for left in small.glob("nco/*/*"):
            shutil.rmtree(left)
        up.ctl("nco", "calibrate", "texture", "--frames", "3")
        assert newest(up)["state"] == "done"
