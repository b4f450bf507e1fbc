"""Files that are not what they should be: one clear line, nothing printed, the device stays of use."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from onnx import helper

from hams_agents.backends.base import Backend
from hams_shared.errors import ModelError, UnsupportedModelError
from support.networks import graph, images, means, model_file, write

GARBAGE = random.Random(3).randbytes(5000)
CONTENTS = {"empty": b"", "garbage": GARBAGE, "text": b"hello world\n" * 40, "html": b"<!DOCTYPE html><html>404</html>"}


def refused(backend: Backend, path: Path, capfd: pytest.CaptureFixture[str]) -> ModelError:
    capfd.readouterr()
    with pytest.raises(ModelError) as caught:
        backend.load(model_file(path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"model {path.stem}")
    assert str(path.parent) not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    return caught.value


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".xml", ".pb", ".pdmodel"])
@pytest.mark.parametrize("content", CONTENTS)
def test_wrong_content_in_openvino(
    openvino: Backend, tmp_path: Path, suffix: str, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{content}{suffix}"
    path.write_bytes(CONTENTS[content])
    assert not isinstance(refused(openvino, path, capfd), UnsupportedModelError)


@pytest.mark.parametrize("content", CONTENTS)
def test_wrong_content_in_onnxruntime(
    onnxruntime: Backend, tmp_path: Path, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{content}.onnx"
    path.write_bytes(CONTENTS[content])
    assert not isinstance(refused(onnxruntime, path, capfd), UnsupportedModelError)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_truncated_onnx(
    request: pytest.FixtureRequest, tmp_path: Path, share: float, runtime: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = means(tmp_path).read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    backend = request.getfixturevalue(runtime)
    refused(backend, path, capfd)
    assert backend.load(model_file(means(tmp_path))).infer(images(1))["y"].shape == (1, 3, 1, 1)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_flipped_bytes_raise_or_work(
    request: pytest.FixtureRequest, tmp_path: Path, runtime: str, capfd: pytest.CaptureFixture[str]
) -> None:
    backend: Backend = request.getfixturevalue(runtime)
    whole = means(tmp_path).read_bytes()
    path = tmp_path / "flipped.onnx"
    for seed in range(60):
        generator = random.Random(seed)
        content = bytearray(whole)
        for _ in range(generator.choice([1, 3, 10])):
            content[generator.randrange(len(content))] = generator.randrange(256)
        path.write_bytes(content)
        with contextlib.suppress(ModelError):
            backend.load(model_file(path)).close()
    assert capfd.readouterr() == ("", "")


def test_missing_file(openvino: Backend, onnxruntime: Backend, tmp_path: Path) -> None:
    for backend in (openvino, onnxruntime):
        with pytest.raises(ModelError, match=r"^model gone: no such file or directory$"):
            backend.load(model_file(tmp_path / "gone.onnx"))


@pytest.mark.parametrize("suffix", [".tflite", ".xml", ".pb", ".pt", ""])
def test_formats_onnxruntime_does_not_read(onnxruntime: Backend, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(UnsupportedModelError, match=r"ONNX Runtime does not read .*\(it reads .onnx\)"):
        onnxruntime.load(model_file(path))


def test_formats_openvino_does_not_read(openvino: Backend, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(b"x")
    with pytest.raises(UnsupportedModelError, match=r"OpenVINO does not read \.pt"):
        openvino.load(model_file(path))


def test_a_fixed_batch(openvino: Backend, onnxruntime: Backend, tmp_path: Path) -> None:
    path = means(tmp_path, batch=10)
    assert openvino.load(model_file(path)).infer(images(3))["y"].shape == (3, 3, 1, 1)
    with pytest.raises(UnsupportedModelError, match="takes 10 images at once"):
        onnxruntime.load(model_file(path))


def test_a_newer_format_than_the_runtime(onnxruntime: Backend, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(UnsupportedModelError, match="IR version"):
        onnxruntime.load(model_file(write(tmp_path / "new.onnx", graph([node]), ir_version=90)))


@pytest.fixture
def ir(tmp_path: Path) -> Path:
    """An OpenVINO IR: ir.xml and ir.bin."""
    constants = {"two": np.full((1, 3, 8, 8), 2, np.float32)}
    source = write(tmp_path / "s.onnx", graph([helper.make_node("Mul", ["x", "two"], ["y"])], constants=constants))
    ov.save_model(ov.convert_model(str(source)), tmp_path / "ir.xml", compress_to_fp16=False)
    return tmp_path / "ir.xml"


def test_ir(openvino: Backend, ir: Path) -> None:
    pictures = images(2)
    assert (openvino.load(model_file(ir)).infer(pictures)["y"] == 2 * pictures).all()


def test_ir_without_its_weights(openvino: Backend, ir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ir.with_suffix(".bin").unlink()
    assert "bin file" in str(refused(openvino, ir, capfd))


def test_ir_with_cut_weights(openvino: Backend, ir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ir.with_suffix(".bin").write_bytes(b"\0" * 5)
    assert "weights" in str(refused(openvino, ir, capfd))


def test_cut_ir(openvino: Backend, ir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = ir.read_bytes()
    ir.write_bytes(content[: len(content) // 2])
    refused(openvino, ir, capfd)
