"""Model files by digest: pulled from the broker's object store, verified, kept in a bounded cache folder.

Reading, hashing and writing run in threads: a model of 268 MiB takes seconds, in which heartbeats must go on.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path

from hams_shared.bus import model_cache
from hams_shared.bus.protocol import ObjectStore
from hams_shared.errors import DigestError
from hams_shared.runtime.files import write
from hams_shared.wire.messages.group import ModelPart, ModelRef


class ModelStore:
    """Cache of model files in `folder`, filled from `objects`; several processes may share the folder.

    After a pull, what was unused for the longest time is deleted beyond HAMS_CACHE_GIB. On Linux a network that is
    loaded from a deleted file goes on. Raises BadInputError: that variable is no number.
    """

    def __init__(self, objects: ObjectStore, folder: Path) -> None:
        self._objects = objects
        self._folder = folder
        self._limit = model_cache.limit()

    async def path(self, model: ModelRef) -> Path:
        """Return the path of the model's main file, pulling what is missing; it counts as used now.

        Raises:
            NotFoundError: the object store does not hold it.
            DigestError: what it holds is not what the digest promises.
        """
        folder, pulled = self._folder / model.digest, False
        model_cache.mark_used(folder)  # first: from now on no other process deletes it
        for part in model.parts:
            path = folder / f"model{part.suffix}"
            if not await asyncio.to_thread(_intact, path, part):
                data, pulled = await self._pull(model, part), True
                folder.mkdir(parents=True, exist_ok=True)
                await asyncio.to_thread(write, path, data, 0o600)
        if pulled:
            await asyncio.to_thread(model_cache.trim, self._folder, self._limit, time.time(), folder)
        return folder / f"model{model.parts[0].suffix}"

    async def give_back(self, model: ModelRef) -> int:
        """Upload what the object store lacks of `model` and the cache has; return how many files it was."""
        given = 0
        model_cache.mark_used(self._folder / model.digest)
        for part in model.parts:
            path = self._folder / model.digest / f"model{part.suffix}"
            if await self._objects.exists(part.digest) or not await asyncio.to_thread(_intact, path, part):
                continue
            await self._objects.put(part.digest, await asyncio.to_thread(path.read_bytes))
            given += 1
        return given

    async def _pull(self, model: ModelRef, part: ModelPart) -> bytes | bytearray:
        data = await self._objects.get(part.digest)
        found = await asyncio.to_thread(_digest, data)
        if found != part.digest:
            raise DigestError(
                f"model {model.name}: the object store holds {found[:12]}… under {part.digest[:12]}…",
                "deploy the group again to store the right file",
            )
        return data


def _digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


def _intact(path: Path, part: ModelPart) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return len(data) == part.size and _digest(data) == part.digest
