"""What must hold after each fault, of what was observed. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

WINDOW_S = 0.5
"""Frames flow where each such time has at least half of the frames that it had before the fault."""
BAR_S = 2.0
LATE_S = 1.0
"""How long results of a plan may come after the first of a newer one."""


@dataclass(frozen=True)
class Seen:
    """One result, as an independent subscriber got it."""

    at: float
    """When, s, monotonic."""
    stream: str
    frame: int
    epoch: int
    device: str


@dataclass(frozen=True)
class Violation:
    """Something that must not be."""

    what: str
    """One word to count by."""
    text: str

    def __str__(self) -> str:
        return f"{self.what}: {self.text}"


def recovery(times: Sequence[float], since: float, until: float, per_s: float) -> float | None:
    """Return how long after `since` frames flow at half of `per_s` and do so until `until`, s; None: they do not.

    `times` are those of the results, ascending; windows of WINDOW_S are looked at that begin at `since` or with a
    result.
    """
    least = WINDOW_S * per_s / 2
    good_from: float | None = None
    for start in (since, *times[bisect_left(times, since) : bisect_right(times, until)]):
        if start + WINDOW_S > until:
            break
        if bisect_right(times, start + WINDOW_S) - bisect_left(times, start) < least:
            good_from = None
        elif good_from is None:
            good_from = start
    return None if good_from is None else good_from - since


@dataclass
class Frames:
    """Frame numbers of one lossless stream: each once, none left out."""

    expected: int | None = None
    missing: set[int] = field(default_factory=set)

    def take(self, frame: int) -> Violation | None:
        """Take the next result."""
        if self.expected is None or frame == self.expected:
            self.expected = frame + 1
            return None
        if frame > self.expected:
            gap = range(self.expected, frame)
            self.missing.update(gap)
            self.expected = frame + 1
            return Violation("lost", f"frames {gap.start} to {gap.stop - 1} did not come ({len(gap)})")
        if frame in self.missing:
            self.missing.discard(frame)
            return Violation("order", f"frame {frame} came late")
        before, self.expected = self.expected, frame + 1 if frame == 0 else self.expected
        if frame == 0:
            self.missing.clear()
            return Violation("restarted", f"the stream began again from frame 0 after frame {before - 1}")
        return Violation("doubled", f"frame {frame} came twice")


def frames_of(seen: Iterable[Seen], lossless: Mapping[str, Frames]) -> list[Violation]:
    """Take new results of lossless streams; return what is wrong."""
    found = []
    for one in seen:
        account = lossless.get(one.stream)
        wrong = account.take(one.frame) if account is not None else None
        if wrong is not None:
            found.append(Violation(wrong.what, f"{one.stream}: {wrong.text}"))
    return found


def epochs_of(seen: Sequence[Seen], newest: dict[str, tuple[int, float]], owners: dict[int, str]) -> list[Violation]:
    """Epochs of a stream only grow from `newest` on; an epoch has one owner (a single node is served whole).

    A frame that failed is done again under a newer plan, the ones after it were done under the older one: so an older
    epoch may come for `LATE_S` after a newer one. `newest` has each stream's epoch and when it came first.
    """
    found = []
    for one in seen:
        epoch, since = newest.get(one.stream, (0, 0.0))
        if one.epoch > epoch:
            newest[one.stream] = one.epoch, one.at
        elif one.epoch < epoch and one.at > since + LATE_S:
            found.append(Violation("epoch", f"{one.stream}: epoch {one.epoch} after {epoch}"))
        owner = owners.setdefault(one.epoch, one.device)
        if owner != one.device:
            found.append(Violation("owner", f"epoch {one.epoch} has two owners: {owner} and {one.device}"))
    return found


@dataclass(frozen=True)
class Account:
    """A stream's frame ledger."""

    stream: str
    submitted: int
    closed: int
    in_flight: int
    lost: int
    """Dropped or failed."""
    lossless: bool


def ledger_of(accounts: Iterable[Account]) -> list[Violation]:
    """Frames are conserved; a lossless stream loses none."""
    found = []
    for one in accounts:
        if one.submitted != one.closed + one.in_flight:
            found.append(
                Violation(
                    "ledger", f"{one.stream}: {one.submitted} submitted, {one.closed} ended, {one.in_flight} in flight"
                )
            )
        if one.lossless and one.lost:
            found.append(Violation("lost", f"{one.stream}: {one.lost} frames were dropped or failed"))
    return found


@dataclass(frozen=True)
class Part:
    """What one process holds."""

    rss_mib: float
    fds: int
    threads: int


GROWTH = {"rss_mib": (1.25, 24.0), "fds": (1.0, 8.0), "threads": (1.0, 6.0)}
"""By figure: the factor and the addition that are no growth."""


def growth(early: Mapping[str, Sequence[Part]], late: Mapping[str, Sequence[Part]]) -> list[Violation]:
    """Compare the smallest of each figure over some checkpoints: what is held for good cannot get smaller."""
    found = []
    for name in early.keys() & late.keys():
        for figure, (factor, more) in GROWTH.items():
            before = min(getattr(part, figure) for part in early[name])
            after = min(getattr(part, figure) for part in late[name])
            if after > before * factor + more:
                found.append(Violation("growth", f"{name}: {figure} {before:g} → {after:g}"))
    return found


@dataclass
class Tally:
    """Figures of one kind of fault."""

    recoveries: list[float] = field(default_factory=list)
    allowed: list[float] = field(default_factory=list)
    violations: Counter[str] = field(default_factory=Counter)

    @property
    def in_time(self) -> int:
        """Faults after which frames flowed within what is allowed."""
        return sum(took <= allowed for took, allowed in zip(self.recoveries, self.allowed, strict=True))


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which `part` of them lie; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
