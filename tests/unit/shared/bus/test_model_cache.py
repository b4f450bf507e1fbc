"""The folder of pulled networks keeps to its bound, and deletes nothing that is in use."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import time
from pathlib import Path

import pytest

from hams_shared.bus import model_cache
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.model_cache import Kept, surplus
from hams_shared.bus.model_store import ModelStore
from hams_shared.errors import BadInputError
from hams_shared.wire import subjects
from hams_shared.wire.messages.group import ModelPart, ModelRef

SIZE = 1 << 20
LONG_S = 2 * 3600.0


def kept(name: str, size: int, used: float) -> Kept:
    return Kept(Path(name), size, used)


@pytest.mark.parametrize(
    ("limit", "gone"),
    [(100, []), (60, []), (59, ["old"]), (50, ["old"]), (49, ["old", "older"]), (0, ["old", "older"])],
)
def test_the_longest_unused_go_until_the_rest_fits(limit: int, gone: list[str]) -> None:
    networks = [kept("older", 20, 2.0), kept("old", 10, 1.0), kept("in use", 30, 9_000.0)]
    assert [str(one.path) for one in surplus(networks, limit, 10_000.0)] == gone
    assert surplus(networks, limit, 3_600.0) == []  # all were used within the last hour


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HAMS_CACHE_GIB", text)
    with pytest.raises(BadInputError, match="HAMS_CACHE_GIB is"):
        model_cache.limit()


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, bytes_ in (("", 20 << 30), ("0.5", 1 << 29), ("0", 0)):
        monkeypatch.setenv("HAMS_CACHE_GIB", text)
        assert model_cache.limit() == bytes_


class Cache:
    """A cache in a folder, and networks of 1 MiB each."""

    def __init__(self, bus: InMemoryBus, folder: Path) -> None:
        self.bus, self.folder = bus, folder

    async def pull(self, number: int) -> Path:
        data = bytes([number]) * SIZE
        digest = hashlib.sha256(data).hexdigest()
        objects = await self.bus.objects(subjects.MODEL_STORE)
        await objects.put(digest, data)
        part = ModelPart(digest=digest, size=SIZE, suffix=".onnx")
        return await ModelStore(objects, self.folder).path(ModelRef(name=str(number), digest=digest, parts=(part,)))

    def age(self, path: Path, seconds: float) -> None:
        os.utime(path.parent, (time.time() - seconds,) * 2)

    def numbers(self) -> set[int]:
        return {path.read_bytes()[0] for path in self.folder.glob("*/model.onnx")}


@pytest.fixture
async def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("HAMS_CACHE_GIB", str(3 * SIZE / 2**30))
    return Cache(InMemoryBus(), tmp_path / "models")


async def test_a_pull_deletes_what_was_unused_for_longest(cache: Cache) -> None:
    async with cache.bus:
        for number in range(3):
            cache.age(await cache.pull(number), LONG_S - number)
        await cache.pull(0)  # used again
        others = [cache.folder / "notes", cache.folder / ("ab" * 8)]
        for one in others:  # not networks
            one.mkdir()
            (one / "file").write_bytes(bytes(SIZE))
            os.utime(one, (0, 0))
        await cache.pull(3)
        assert cache.numbers() == {0, 2, 3}
        assert all((one / "file").exists() for one in others)
        for number in (0, 2, 3):
            cache.age(await cache.pull(number), 0.0)
        await cache.pull(4)
        assert cache.numbers() == {0, 2, 3, 4}  # more than the limit: all are in use
        assert not list(cache.folder.glob(".*"))


async def test_what_is_larger_than_the_limit_is_pulled_and_stays(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_CACHE_GIB", "0")
    async with cache.bus:
        old = await cache.pull(1)
        cache.age(old, LONG_S)
        assert (await cache.pull(2)).exists()
        assert not old.exists()
        assert (await cache.pull(1)).exists()  # pulled again


async def test_a_network_that_is_loaded_from_a_deleted_file_goes_on(cache: Cache) -> None:
    async with cache.bus:
        path = await cache.pull(1)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as loaded:
            cache.age(path, LONG_S)
            model_cache.trim(cache.folder, 0, time.time(), Path())
            assert not path.exists()
            assert loaded[:] == bytes([1]) * SIZE


async def test_what_is_used_while_it_is_looked_at_stays(cache: Cache) -> None:
    async with cache.bus:
        path = await cache.pull(1)
        cache.age(path, LONG_S)
        seen = Kept(path.parent, SIZE, path.parent.stat().st_mtime)
        await cache.pull(1)
        assert not model_cache._delete(seen)
        assert path.exists()


async def test_what_cannot_be_deleted_stays(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cache.bus:
        path = await cache.pull(1)
        cache.age(path, LONG_S)

        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(Path, "rename", refuse)
        model_cache.trim(cache.folder, 0, time.time(), Path())
        assert path.exists()
        assert await cache.pull(1) == path
        model_cache.trim(cache.folder / "none", 0, time.time(), Path())  # nothing was ever pulled


async def test_several_processes_share_the_folder(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cache.bus:
        for number in range(12):
            cache.age(await cache.pull(number), LONG_S)
        left = cache.folder / f".gone-{'ab' * 32}-1"  # of one that was killed while it deleted
        left.mkdir()
        await asyncio.gather(
            *(asyncio.to_thread(model_cache.trim, cache.folder, SIZE, time.time(), Path()) for _ in range(4))
        )
        assert len(cache.numbers()) == 1
        assert not left.exists()
        assert not list(cache.folder.glob(".*"))
