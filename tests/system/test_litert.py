"""Services F and P on OpenVINO and LiteRT: what TFLite networks give is the same on both, frame by frame."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from hams_client import Result
from support import tflite
from support.results import Subscriber
from support.up import ROOT, Up
from support.zoo import real, street

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

STREET = range(0, 240, 30)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    pytest.importorskip("ai_edge_litert", reason=tflite.MISSING)
    first, *others = sorted(os.sched_getaffinity(0))
    with Up(tmp_path / "home", f"openvino:CPU@{first}", f"litert:CPU@{[first, *others][:2][-1]}") as running:
        yield running


def results(up: Up, group: Path, device: str, folder: Path) -> list[Result]:
    """Run the group with its TFLite networks on `device`; return all results, frame by frame."""
    spec: dict[str, Any] = yaml.safe_load(group.read_text())
    pinned = [node for node in spec["nodes"].values() if node["model"].endswith(".tflite")]
    for node in pinned:
        node["pin"] = [device]
    path = folder / f"{device}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    with Subscriber(up.url, spec["name"]) as subscriber:
        served = json.loads(up.ctl("deploy", path, "--json"))
        places = [list(served["active"]["shares"][name]) for name, node in spec["nodes"].items() if node in pinned]
        assert places == [[device]] * len(pinned)
        delivered = up.until_ended()["delivered"]
        subscriber.until(delivered)
    up.ctl("undeploy", spec["name"])
    return sorted(subscriber.received, key=lambda result: result.frame)


def devices(up: Up) -> tuple[str, str]:
    """OpenVINO's and LiteRT's."""
    found = {record["record"]["backend"]: record["record"]["device"] for record in up.json("devices")}
    return found["openvino"], found["litert"]


def test_faces(up: Up, lossless_face: Path, tmp_path: Path) -> None:
    openvino, litert = devices(up)
    expected, found = (results(up, lossless_face, device, tmp_path) for device in (openvino, litert))
    assert len(expected) == len(found) == 120
    faces = 0
    for one, other in zip(expected, found, strict=True):
        assert len(one.objects) == len(other.objects)
        for a, b in zip(one.objects, other.objects, strict=True):
            faces += 1
            np.testing.assert_allclose(b.array("landmarks", "points"), a.array("landmarks", "points"), atol=0.1)
            moods = a["emotion"], b["emotion"]
            assert abs(moods[0]["score"] - moods[1]["score"]) < 0.1  # it computes in int8, rounded by each in its way
            assert moods[0]["label"] == moods[1]["label"] or max(mood["score"] for mood in moods) < 0.6
            for left, right in zip(a["landmarks"]["objects"], b["landmarks"]["objects"], strict=True):
                np.testing.assert_allclose(right["iris"]["points"], left["iris"]["points"], atol=0.1)
    assert faces >= 110

    up.ctl("deploy", lossless_face)
    matrix = up.json_when(lambda matrix: litert in matrix["devices"] and len(matrix["models"]) == 6, "matrix")
    cells = [row[matrix["devices"].index(device)] for device in (openvino, litert) for row in matrix["fps"]]
    assert all(cells[:6])  # OpenVINO runs all of them
    run = {model for model, fps in zip(matrix["models"], cells[6:], strict=True) if fps}
    assert run == {"emotion_model_quantized", "face_landmark", "iris_landmark"}
    reasons = [why for pair, why in matrix["reasons"].items() if litert in pair]
    assert len(reasons) == 3
    assert all("LiteRT does not read .onnx" in why for why in reasons)


def test_people(up: Up, tmp_path: Path) -> None:
    group: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "person.yaml").read_text())
    for node in group["nodes"].values():
        real(node["model"], node["sha256"])
    (tmp_path / "street").mkdir()
    for number in STREET:
        cv2.imwrite(str(tmp_path / "street" / f"{number:03d}.png"), street(number))
    group["streams"] = {"street": {"source": str(tmp_path / "street"), "mode": "lossless", "pace": "max"}}
    path = tmp_path / "person.yaml"
    path.write_text(yaml.safe_dump(group, sort_keys=False))
    openvino, litert = devices(up)
    expected, found = (results(up, path, device, tmp_path) for device in (openvino, litert))
    people = [pair for r, s in zip(expected, found, strict=True) for pair in zip(r.objects, s.objects, strict=True)]
    assert len(expected) == len(STREET)
    assert people
    for a, b in people:
        np.testing.assert_allclose(b.array("pose", "points"), a.array("pose", "points"), atol=0.1)
        np.testing.assert_allclose(b.array("pose", "visibility"), a.array("pose", "visibility"), atol=0.01)
