"""Backup files: what is in them, what is refused, and what a restore leaves alone."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hams_services.ctl.system.backup import MANIFEST, back_up, read, restore
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.protocol import Bus
from hams_shared.bus.variant_registry import register
from hams_shared.errors import BadInputError, HamsError, MessageError, NotFoundError, RefusedError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.group import GroupRecord, ModelPart, ModelRef
from support.build import group_spec, variant


def nothing(what: str, done: int, total: int) -> None: ...


def model(content: bytes) -> ModelRef:
    digest = hashlib.sha256(content).hexdigest()
    return ModelRef(name="m", digest=digest, parts=(ModelPart(suffix=".onnx", digest=digest, size=len(content)),))


DET, AGE, INT8 = b"detector" * 1000, b"age", b"int8"


def record(deployed_at: float = 1.0) -> GroupRecord:
    return GroupRecord(spec=group_spec(), models={"det": model(DET), "age": model(AGE)}, deployed_at=deployed_at)


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    """A store with one group and one variant."""
    async with InMemoryBus() as bus:
        await put(bus, record())
        source = record()
        made = variant(source.models["det"], source.spec.nodes["det"], 0.99)
        await (await bus.objects(subjects.MODEL_STORE)).put(model(INT8).digest, INT8)
        await register(
            await bus.kv(subjects.bucket("variants")),
            source.models["det"],
            made.model_copy(update={"model": model(INT8)}),
        )
        yield bus


async def put(bus: Bus, group: GroupRecord) -> None:
    store = await bus.objects(subjects.MODEL_STORE)
    for content in (DET, AGE):
        await store.put(model(content).digest, content)
    await (await bus.kv(subjects.bucket("groups"))).put(group.spec.name, codec.encode(group))


async def stored(bus: Bus) -> dict[str, bytes | None]:
    """Everything a backup is about."""
    found: dict[str, bytes | None] = {}
    for name in ("groups", "variants"):
        for key, entry in (await (await bus.kv(subjects.bucket(name))).entries()).items():
            found[f"{name}/{key}"] = entry.value
    store = await bus.objects(subjects.MODEL_STORE)
    for content in (DET, AGE, INT8):
        digest = model(content).digest
        found[digest] = await store.get(digest) if await store.exists(digest) else None
    return found


async def test_all_comes_back_into_an_empty_store(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    made = await back_up(bus, path, False, nothing)
    assert str(made) == "1 group, 1 variant, 3 model files"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["b.tar"]
    async with InMemoryBus() as other:
        for _ in range(2):  # doing it again does no harm
            assert await restore(other, read(path), False, False, nothing) == []
            assert await stored(other) == await stored(bus)


async def test_entries_that_differ_are_kept_without_replace(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    await back_up(bus, path, False, nothing)
    before = await stored(bus)
    await put(bus, record(deployed_at=86400.0))
    changed = await stored(bus)
    with pytest.raises(RefusedError, match=r"group face .deployed 1970-01-02 00:00:00, the backup's 1970-01-01") as no:
        await restore(bus, read(path), False, False, nothing)
    assert "--keep" in str(no.value)
    [kept] = await restore(bus, read(path), True, False, nothing)
    assert kept.startswith("group face")
    assert await stored(bus) == changed
    assert await restore(bus, read(path), False, True, nothing) == []
    after = await stored(bus)
    group = codec.decode(GroupRecord, after.pop("groups/face") or b"")
    saved = codec.decode(GroupRecord, before.pop("groups/face") or b"")
    assert group.version > saved.version  # what was replaced is a version of the group, too
    assert group.model_copy(update={"version": saved.version, "by": saved.by}) == saved
    assert after == before


async def test_a_file_is_not_overwritten_without_replace(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    path.write_text("precious")
    with pytest.raises(BadInputError, match="exists"):
        await back_up(bus, path, False, nothing)
    assert path.read_text() == "precious"
    await back_up(bus, path, True, nothing)
    assert read(path).groups == {"face": record()}
    with pytest.raises(BadInputError, match="cannot write"):
        await back_up(bus, tmp_path / "no" / "b.tar", False, nothing)


async def test_what_cannot_be_backed_up_leaves_no_file(bus: Bus, tmp_path: Path) -> None:
    async with InMemoryBus() as empty:
        with pytest.raises(NotFoundError, match="nothing to back up"):
            await back_up(empty, tmp_path / "b.tar", False, nothing)
    await (await bus.objects(subjects.MODEL_STORE)).delete(model(AGE).digest)
    with pytest.raises(NotFoundError, match="is not stored"):
        await back_up(bus, tmp_path / "b.tar", False, nothing)
    await (await bus.objects(subjects.MODEL_STORE)).put(model(AGE).digest, b"something else")
    with pytest.raises(MessageError, match="damaged"):
        await back_up(bus, tmp_path / "b.tar", False, nothing)
    assert os.listdir(tmp_path) == []


async def test_a_file_truncated_anywhere_is_refused(bus: Bus, tmp_path: Path) -> None:
    whole, cut = tmp_path / "b.tar", tmp_path / "cut.tar"
    await back_up(bus, whole, False, nothing)
    data = whole.read_bytes()
    end = len(data.rstrip(b"\0"))  # behind it there is only padding
    for length in {0, 1, 100, 511, 512, 513, *range(1024, end, 512), *range(700, end, 977)}:
        cut.write_bytes(data[:length])
        with pytest.raises(BadInputError, match=r"is damaged|is not a backup"):
            read(cut)


async def test_a_byte_that_changed_is_found(bus: Bus, tmp_path: Path) -> None:
    whole, bad = tmp_path / "b.tar", tmp_path / "bad.tar"
    await back_up(bus, whole, False, nothing)
    data = bytearray(whole.read_bytes())
    at = data.index(DET)
    data[at + 10] ^= 1
    bad.write_bytes(data)
    with pytest.raises(BadInputError, match=f"models/{model(DET).digest} has another size or digest"):
        read(bad)


def tar(path: Path, files: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda info: None) -> Path:
    with tarfile.open(path, "w") as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            out.addfile(info, io.BytesIO(data))
    return path


def manifest(**more: object) -> bytes:
    return json.dumps({"format": 1, "hams": "9.9", "made_at": "then", "files": {}, **more}).encode()


def listed(data: bytes) -> dict[str, object]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def as_link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0


def test_foreign_files_are_named(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(HamsError) as error:
            read(path)
        assert isinstance(error.value, BadInputError)
        return str(error.value)

    path = tmp_path / "f"
    path.write_bytes(b"\x89PNG" + bytes(2000))
    assert "is not a backup of HAMS (`hams-ctl backup FILE` writes one)" in refused(path)
    assert "is not a backup" in refused(tar(path, {"photo.jpg": b"x"}))
    assert "is not a backup" in refused(tar(path, {}))
    assert "is damaged: hams-backup.json cannot be read" in refused(tar(path, {MANIFEST: b"{"}))
    assert "is damaged: hams-backup.json is not a plain file" in refused(tar(path, {MANIFEST: b""}, as_link))
    assert "made by HAMS 9.9, in format 2" in refused(tar(path, {MANIFEST: manifest(format=2)}))
    assert "x has another size or digest" in refused(tar(path, {MANIFEST: manifest(), "x": b""}))
    junk = {"groups/a": b"junk"}
    content = manifest(files={name: listed(data) for name, data in junk.items()})
    assert "it was made by HAMS 9.9" in refused(tar(path, {MANIFEST: content, **junk}))
    group = {"groups/face": codec.encode(record())}
    content = manifest(files={name: listed(data) for name, data in group.items()})
    assert "it lacks the network" in refused(tar(path, {MANIFEST: content, **group}))
    assert "cannot read" in refused(tmp_path / "absent")
    assert "cannot read" in refused(tmp_path)
