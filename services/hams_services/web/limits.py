"""How often a client may ask, by one token bucket per client, and how much may be under way at once. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hams_shared.errors import OverloadedError


@dataclass(frozen=True)
class Rate:
    """`burst` requests at once, and `per_s` a second on average."""

    per_s: float
    burst: int


REQUESTS = Rate(per_s=30.0, burst=200)
"""Of one client: a page takes some 30 at its start, and then about two a second."""
LOGINS = Rate(per_s=0.1, burst=5)
"""Of one client: after five, one each 10 s. Credentials cannot be guessed; this bounds what trying costs the broker."""
ALL_LOGINS = Rate(per_s=1.0, burst=20)
"""Of all clients together."""


class Limits:
    """Buckets of tokens by client; the one that was quiet for longest is forgotten beyond `most` clients."""

    def __init__(self, rate: Rate, most: int = 4096) -> None:
        self._rate, self._most = rate, most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens, and when they were counted."""

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str, now: float) -> float:
        """Take a token; return 0, or how many seconds the client has to wait for one."""
        tokens, at = self._buckets.pop(client, (float(self._rate.burst), now))
        tokens = min(float(self._rate.burst), tokens + max(0.0, now - at) * self._rate.per_s)
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate.per_s
        self._buckets[client] = (tokens - 1.0 if wait == 0.0 else tokens, now)
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait


@dataclass
class Work:
    """Counts the groups and networks that are being brought in: each holds networks in memory."""

    most: int = 2
    running: int = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Count one during the block. Raises OverloadedError."""
        if self.running >= self.most:
            raise OverloadedError(
                f"{self.most} groups or networks are being brought in already", "wait until one has ended"
            )
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
