"""Which stored model files nothing needs any more. Pure.

A file is needed while its digest occurs anywhere in a record of a deployed group, a kept version of one, a plan, a
variant or an upload. Records are searched as bytes, so that one of a later version, or of a kind that this version
cannot read, keeps its files, too. Measurements do not need files: a profile stays when its network is gone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from hams_shared.wire import subjects

REFERRING = (*(subjects.bucket(name) for name in ("groups", "plans", "variants", subjects.VERSIONS, subjects.UPLOADS)),)
"""KV buckets whose records name the files that they need."""
GRACE_S = 3600.0
"""How long a file must have been without use before it is deleted, s: an upload comes before the record it is for."""

_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def mentioned(records: Iterable[bytes]) -> frozenset[str]:
    """Return the digests that occur in `records`, keys or values."""
    return frozenset(found.decode() for record in records for found in _DIGEST.findall(record))


@dataclass
class Unused:
    """Since when each file has been without use, as one who looks now and then has seen it."""

    _since: dict[str, float] = field(default_factory=dict)

    def garbage(self, objects: Collection[str], referenced: Collection[str], now: float) -> tuple[str, ...]:
        """Return the files that have been without use for GRACE_S; `now` is any monotonic clock, s."""
        unused = set(objects) - set(referenced)
        self._since = {name: self._since.get(name, now) for name in unused}
        return tuple(sorted(name for name, since in self._since.items() if now - since >= GRACE_S))
