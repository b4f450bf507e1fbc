from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest

from hams_services.optimizer.importing.formats import Format, recognise
from hams_shared.errors import ModelError, UnsupportedModelError
from support.hostile import ir
from support.networks import means


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


CONTENT = {
    "tflite": (b"\x1c\0\0\0TFL3\0\0\0\0", Format.TFLITE),
    "graph": (b"\x0a\x06\x0a\x01x\x12\x01y", Format.TF_GRAPH),
    "saved": (b"\x08\x01\x12\x02\x0a\x00", Format.TF_SAVED_MODEL),
    "paddle": (b"\x0a\x04\x08\x00\x10\x00", Format.PADDLE),
}


@pytest.mark.parametrize(("content", "format"), CONTENT.values(), ids=CONTENT)
def test_content_tells_not_the_name(tmp_path: Path, content: bytes, format: Format) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert recognise(path) is format


def test_networks(tmp_path: Path) -> None:
    assert recognise(means(tmp_path)) is Format.ONNX
    assert recognise(ir(tmp_path)) is Format.IR
    assert recognise(zipped(tmp_path / "a", "net/constants.pkl", "net/code/x.py", "net/data.pkl")) is Format.TORCHSCRIPT
    assert recognise(zipped(tmp_path / "b", "net/archive_format", "net/models/model.json")) is Format.TORCH_EXPORT
    assert recognise(zipped(tmp_path / "c", "deep/saved_model.pb")) is Format.TF_SAVED_MODEL
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert recognise(tmp_path) is Format.TF_SAVED_MODEL


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (pickle.dumps({"weights": 1}), "a Python pickle, which is not loaded"),
        (b"PK\x03\x04 and no more", "damaged zip"),
        (b"<?xml version='1.0'?><svg/>", "no OpenVINO network"),
    ],
)
def test_no_network(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=text):
        recognise(path)


def test_weights_alone_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds weights of PyTorch.*torch\.export\.save"):
        recognise(zipped(tmp_path / "w.pth", "net/data.pkl", "net/data/0"))


def test_unknown_and_missing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"root:x:0:0\n")
    with pytest.raises(UnsupportedModelError, match="known: onnx"):
        recognise(tmp_path / "a")
    with pytest.raises(ModelError, match="no such file"):
        recognise(tmp_path / "none")
    (tmp_path / "sub").mkdir()
    with pytest.raises(ModelError, match="without saved_model"):
        recognise(tmp_path / "sub")


def test_cut_short_anywhere(tmp_path: Path) -> None:
    """Every beginning of a network is refused, or told to be a network that reading will refuse."""
    data = means(tmp_path).read_bytes()
    path = tmp_path / "short"
    for end in range(1, len(data)):
        path.write_bytes(data[:end])
        try:
            assert recognise(path) is not Format.TFLITE
        except ModelError as error:
            assert error.text
