"""Vision language models at deploy: a folder or a zip file becomes one zip file, named by its content."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from hams_services.models.prepare import prepare_model
from hams_services.models.vlm import REQUIRED, is_vlm, packed
from hams_shared.errors import ModelError
from hams_shared.group.spec import GroupSpec, parse_group
from support.build import group_spec

FILES = (*REQUIRED, *(f"{name[:-4]}.bin" for name in REQUIRED if name.endswith(".xml")))


def model(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True)
    for name in files or FILES:
        (folder / name).write_text(f"content of {name}")
    return folder


def spec_of(path: Path, **node: object) -> GroupSpec:
    spec = group_spec().model_dump(mode="json", exclude_unset=True)
    spec["nodes"]["det"]["track"] = {}
    spec["nodes"]["age"] |= {"model": str(path), "task": {"type": "describe"}, **node}
    return parse_group(spec)


def test_the_zip_file_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one"), model(tmp_path / "other", *reversed(FILES))
    os.utime(other / FILES[0], (1e9, 1e9))
    (other / FILES[0]).chmod(0o700)
    (other / "README.md").write_text("not sent")
    (other / ".cache").mkdir()
    assert packed(one) == packed(other)
    (other / FILES[0]).write_text("other weights")
    assert packed(one) != packed(other)


def test_a_zip_file_gives_what_its_folder_gives(tmp_path: Path) -> None:
    folder = model(tmp_path / "one")
    with zipfile.ZipFile(tmp_path / "one.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in reversed(FILES):
            archive.write(folder / name, name)
    assert is_vlm(tmp_path / "one.zip")
    assert packed(tmp_path / "one.zip") == packed(folder)


def test_deploy_takes_a_folder(tmp_path: Path) -> None:
    prepared = prepare_model("age", spec_of(model(tmp_path / "tiny")), tmp_path / "cache", lambda *_: None)
    assert [part.suffix for part in prepared.ref.parts] == [".zip"]
    assert prepared.ref.name == "tiny"
    assert prepared.ref.digest == prepared.ref.parts[0].digest
    assert len(prepared.parts[prepared.ref.digest]) == prepared.ref.parts[0].size


@pytest.mark.parametrize("missing", ["openvino_tokenizer.xml", "openvino_text_embeddings_model.bin", "config.json"])
def test_a_missing_file_is_named(missing: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "tiny", *(name for name in FILES if name != missing))
    with pytest.raises(ModelError, match=f"node age: tiny is no whole vision language model: it lacks {missing}"):
        prepare_model("age", spec_of(folder), tmp_path / "cache", lambda *_: None)


def test_another_folder_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="is a folder, not a network file"):
        prepare_model("age", spec_of(tmp_path / "empty"), tmp_path / "cache", lambda *_: None)


def test_it_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be cut"):
        prepare_model("age", spec_of(model(tmp_path / "tiny"), outputs=["a"]), tmp_path / "cache", lambda *_: None)


def test_a_damaged_zip_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK\5\6" + b"\xff" * 16 + b"\0\0")
    with pytest.raises(ModelError, match=r"node age: bad.zip is a damaged zip file"):
        prepare_model("age", spec_of(tmp_path / "bad.zip"), tmp_path / "cache", lambda *_: None)


def test_a_hostile_zip_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name in (*FILES, "../outside.xml"):
            archive.writestr(name, "x")
    with pytest.raises(ModelError, match="an entry outside of its folder"):
        packed(tmp_path / "bad.zip")
