"""Model files in the object store that no record needs: found, and deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hams_shared.bus.protocol import Bus
from hams_shared.wire import subjects
from hams_shared.wire.model_garbage import REFERRING, mentioned


@dataclass(frozen=True)
class Stored:
    """What the store holds, and what of it some record needs."""

    sizes: dict[str, int]
    """Bytes by digest."""
    referenced: frozenset[str]
    """Digests."""

    @property
    def unused(self) -> dict[str, int]:
        """Bytes by digest of the files without use."""
        return {name: size for name, size in sorted(self.sizes.items()) if name not in self.referenced}


async def stored(bus: Bus) -> Stored:
    """Look at the store, and then at all records, so that a file that came with its record meanwhile counts as used.

    Raises BrokerError, DeadlineError.
    """
    sizes = await (await bus.objects(subjects.MODEL_STORE)).sizes()
    return Stored(sizes, await _referenced(bus))


async def _referenced(bus: Bus) -> frozenset[str]:
    records: list[bytes] = []
    for bucket in REFERRING:
        for key, entry in (await (await bus.kv(bucket)).entries()).items():
            records += [key.encode(), entry.value or b""]
    return mentioned(records)


async def prune(bus: Bus, names: Collection[str]) -> Sequence[str]:
    """Delete those of `names` that still no record needs; return them. Raises BrokerError, DeadlineError."""
    if not names:
        return ()
    objects, needed = await bus.objects(subjects.MODEL_STORE), await _referenced(bus)
    gone = [name for name in names if name not in needed]
    for name in gone:
        await objects.delete(name)
    return gone
