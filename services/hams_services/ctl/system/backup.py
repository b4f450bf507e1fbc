"""Backup and restore of groups, variants, and the networks of both, in one tar file.

It begins with `hams-backup.json`, which lists every other file with its size and SHA-256. `groups/NAME` and
`variants/KEY` follow as in KV (msgpack), then `models/DIGEST`. The whole file is checked before anything is restored;
nothing is unpacked onto the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel, ValidationError

import hams_shared
from hams_shared.bus.audit import login
from hams_shared.bus.control import Progress
from hams_shared.bus.deployments import Deployments, conflict
from hams_shared.bus.protocol import Bus, Entry, KeyValue
from hams_shared.errors import DISK_FULL, BadInputError, MessageError, NotFoundError, RefusedError
from hams_shared.runtime.files import replaced
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.variants import VariantRecord

FORMAT = 1
MANIFEST = "hams-backup.json"

R = TypeVar("R", GroupRecord, VariantRecord)


class Listed(BaseModel):
    """One file of a backup."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """The contents of a backup."""

    format: int
    hams: str
    made_at: str
    files: dict[str, Listed]


@dataclass(frozen=True)
class Backup:
    """A backup that was read and is complete."""

    path: Path
    made_at: str
    groups: dict[str, GroupRecord]
    variants: dict[str, VariantRecord]
    """By their keys in KV."""
    models: tuple[str, ...]
    """Digests."""

    def __str__(self) -> str:
        parts = ((self.groups, "group"), (self.variants, "variant"), (self.models, "model file"))
        return ", ".join(f"{len(of)} {what}{'s' * (len(of) != 1)}" for of, what in parts)


async def back_up(bus: Bus, path: Path, replace: bool, progress: Progress) -> Backup:
    """Write all groups and variants and their networks to `path`, completely or not at all.

    Raises:
        BadInputError: the file exists and `replace` is not set, or it cannot be written.
        NotFoundError: nothing is deployed, or the store lacks a network.
        MessageError: a record in the store is damaged.
    """
    raw: dict[str, bytes] = {}
    groups = await _records(bus, "groups", GroupRecord, raw)
    variants = await _records(bus, "variants", VariantRecord, raw)
    if not groups:
        raise NotFoundError("no group is deployed: there is nothing to back up")
    sizes = _needed(groups, variants)
    files = {name: Listed(size=len(data), sha256=_digest(data)) for name, data in raw.items()}
    files |= {f"models/{digest}": Listed(size=size, sha256=digest) for digest, size in sizes.items()}
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = Manifest(format=FORMAT, hams=hams_shared.__version__, made_at=made_at, files=files)
    store = await bus.objects(subjects.MODEL_STORE)
    total = sum(sizes.values())
    with _written(path, replace) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, MANIFEST, manifest.model_dump_json(indent=1).encode())
        for name, data in raw.items():
            _add(tar, name, data)
        done = 0
        for digest, size in sizes.items():
            progress("back up networks", done, total)
            network = await store.get(digest)
            if _digest(network) != digest:
                raise MessageError(f"network {digest[:12]}… is damaged in the store", "deploy its group again")
            await asyncio.to_thread(_add, tar, f"models/{digest}", network)
            done += size
        progress("back up networks", total, total)
    return Backup(path, made_at, groups, variants, tuple(sizes))


def read(path: Path) -> Backup:
    """Read a backup and check every byte of it.

    Raises:
        BadInputError: it is not a backup, is truncated or damaged, or is of a later HAMS.
    """
    groups: dict[str, GroupRecord] = {}
    variants: dict[str, VariantRecord] = {}
    models: list[str] = []
    with _opened(path) as tar:
        manifest = _manifest(path, tar)
        missing = dict(manifest.files)
        while (member := tar.next()) is not None:
            listed = missing.pop(member.name, None)
            data = _content(tar, member)
            if listed is None or len(data) != listed.size or _digest(data) != listed.sha256:
                raise _damaged(path, f"{member.name} has another size or digest than listed")
            kind, _, key = member.name.partition("/")
            try:
                if kind == "groups":
                    groups[key] = codec.decode(GroupRecord, data)
                elif kind == "variants":
                    variants[key] = codec.decode(VariantRecord, data)
                else:
                    models.append(key)
            except MessageError as error:
                raise BadInputError(
                    f"{path}: {member.name} cannot be read: {error.text}",
                    f"it was made by HAMS {manifest.hams}; this is {hams_shared.__version__}",
                ) from None
    if missing:
        raise _damaged(path, f"it is truncated: {len(missing)} of {len(manifest.files)} files are missing")
    if lacking := _needed(groups, variants).keys() - set(models):
        raise _damaged(path, f"it lacks the network {min(lacking)[:12]}…")
    return Backup(path, manifest.made_at, groups, variants, tuple(models))


async def restore(bus: Bus, backup: Backup, keep: bool, replace: bool, progress: Progress) -> list[str]:
    """Restore what the store lacks; return entries that differ and were kept. A repeated call changes nothing.

    Raises:
        RefusedError: groups or variants in the store differ from the backup's, and neither `keep` nor `replace` is set.
    """
    buckets = {name: await bus.kv(subjects.bucket(name)) for name in ("groups", "variants")}
    there = {name: await bucket.entries() for name, bucket in buckets.items()}
    others = [
        *(
            f"group {name}{_ages(entry, backup.groups[name])}"
            for name, entry in _others(there["groups"], backup.groups)
        ),
        *(f"variant {key[:12]}…" for key, _ in _others(there["variants"], backup.variants)),
    ]
    if others and not keep and not replace:
        raise RefusedError(
            f"the store differs from the backup: {'; '.join(others)}",
            "--keep keeps the store's and restores the rest; --replace replaces them with the backup's",
        )
    store = await bus.objects(subjects.MODEL_STORE)
    with _opened(backup.path) as tar:
        for done, digest in enumerate(backup.models):
            progress("restore networks", done, len(backup.models))
            await store.put(digest, _content(tar, tar.getmember(f"models/{digest}")))
        progress("restore networks", len(backup.models), len(backup.models))
    await _put(buckets["variants"], there["variants"], backup.variants, replace)
    await _put_groups(bus, there["groups"], backup.groups, replace)  # last: their networks are there by now
    return [] if replace else others


async def _put(bucket: KeyValue, there: Mapping[str, Entry], records: Mapping[str, R], replace: bool) -> None:
    for key, record in records.items():
        entry = there.get(key)
        if entry is None:
            await bucket.create(key, codec.encode(record))
        elif replace and not _same(entry, record):
            await bucket.update(key, codec.encode(record), entry.revision)


async def _put_groups(bus: Bus, there: Mapping[str, Entry], records: Mapping[str, GroupRecord], replace: bool) -> None:
    """Restore groups; one that is replaced stays among the versions of its group."""
    groups, deployments = await bus.kv(subjects.bucket("groups")), Deployments(bus)
    for name, record in records.items():
        entry = there.get(name)
        if entry is None:
            await groups.create(name, codec.encode(record))
        elif replace and not _same(entry, record):
            base = await deployments.running(name)
            if base.revision != entry.revision:
                raise conflict(name, base)
            await deployments.write(record, base, login(), time.time())


def _others(there: Mapping[str, Entry], records: Mapping[str, R]) -> Iterator[tuple[str, Entry]]:
    """Yield the keys with another record in the store."""
    for key, record in records.items():
        if key in there and not _same(there[key], record):
            yield key, there[key]


def _same(entry: Entry, record: R) -> bool:
    try:
        return _content_of(codec.decode(type(record), entry.value or b"")) == _content_of(record)
    except MessageError:
        return False


def _content_of(record: R) -> BaseModel:
    """A record without what says which version of its group it is, and who made it."""
    return record.model_copy(update={"version": 0, "by": ""}) if isinstance(record, GroupRecord) else record


def _ages(entry: Entry, record: GroupRecord) -> str:
    """Return when both were deployed, so that a person can choose; clocks may differ, so HAMS does not."""
    try:
        there = codec.decode(GroupRecord, entry.value or b"")
    except MessageError:
        return " (damaged)"
    there_at, backup_at = (datetime.fromtimestamp(one.deployed_at, UTC) for one in (there, record))
    return f" (deployed {there_at:%Y-%m-%d %H:%M:%S}, the backup's {backup_at:%Y-%m-%d %H:%M:%S} UTC)"


async def _records(bus: Bus, name: str, kind: type[R], raw: dict[str, bytes]) -> dict[str, R]:
    """Return all records of a bucket; put their bytes into `raw`."""
    records: dict[str, R] = {}
    for key, entry in sorted((await (await bus.kv(subjects.bucket(name))).entries()).items()):
        assert entry.value is not None
        try:
            records[key] = codec.decode(kind, entry.value)
        except MessageError as error:
            raise MessageError(
                f"{name}/{key} in the store is damaged: {error.text}", "deploy or create it again"
            ) from None
        raw[f"{name}/{key}"] = entry.value
    return records


def _needed(groups: Mapping[str, GroupRecord], variants: Mapping[str, VariantRecord]) -> dict[str, int]:
    """Return the digest and size of each model file."""
    models = [model for group in groups.values() for model in group.models.values()]
    models += [variant.model for variant in variants.values()]
    return {part.digest: part.size for model in models for part in model.parts}


def _digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _written(path: Path, replace: bool) -> Iterator[IO[bytes]]:
    """A file that appears under its name when it is whole and on the disk. Only its owner may read it: sources of
    streams may hold passwords."""
    if path.exists() and not replace:
        raise BadInputError(f"{path} exists", "choose another name, or --replace it")
    try:
        with replaced(path, 0o600) as file:
            yield file
    except OSError as error:
        if error.errno in DISK_FULL:
            raise  # it has a name of its own
        raise BadInputError(f"cannot write {path}: {error.strerror}") from None


def _add(tar: tarfile.TarFile, name: str, data: bytes | bytearray) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    tar.addfile(info, io.BytesIO(data))


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, mode="r:") as tar:
            yield tar
    except tarfile.TarError as error:
        if path.stat().st_size and _begins_as_backup(path):
            raise _damaged(path, str(error)) from None
        raise _foreign(path) from None
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None


def _begins_as_backup(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MANIFEST)) == MANIFEST.encode()


def _manifest(path: Path, tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    if first is None or first.name != MANIFEST:
        raise _foreign(path)
    try:
        manifest = Manifest.model_validate_json(_content(tar, first))
    except ValidationError:
        raise _damaged(path, f"{MANIFEST} cannot be read") from None
    if manifest.format != FORMAT:
        raise BadInputError(
            f"{path} was made by HAMS {manifest.hams}, in format {manifest.format}; this HAMS reads {FORMAT}",
            "restore it with that version",
        )
    return manifest


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isreg() or member.issparse():  # a sparse file of a few bytes may claim any size
        raise tarfile.ReadError(f"{member.name} is not a plain file")
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _foreign(path: Path) -> BadInputError:
    return BadInputError(f"{path} is not a backup of HAMS", "`hams-ctl backup FILE` writes one")


def _damaged(path: Path, what: str) -> BadInputError:
    return BadInputError(f"{path} is damaged: {what}", "nothing was restored; take another copy of it")
