"""What a candidate did, stream by stream, in bounded memory; and what its rule is judged by. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hams_services.pipeline.comparison import Agreements, Pair
from hams_shared.wire.messages.candidate import ArmView, CandidateStream, CandidateView, Quantiles
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.results import FrameResult

KEPT = 2000
"""Frames whose times are kept, per stream and side."""
OPEN = 64
"""Frames of which one of the two results is still missing, at most; per stream."""
WAITING = 64
"""Pairs of results that wait to be compared, at most; per stream."""
STEPS = ("prepare", "infer", "decode", "crop")
"""What of a node's times is work; the rest is waiting."""


@dataclass
class Arm:
    """How long the newest frames of one side took, ms."""

    latency: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    work: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def take(self, result: FrameResult) -> None:
        """Add a frame."""
        self.latency.append(result["latency_ms"])
        nodes: list[dict[str, Any]] = [{**node} for node in result["nodes"].values()]
        self.work.append(sum(float(node.get(step) or 0.0) for node in nodes for step in STEPS))


@dataclass
class Tally:
    """Of one stream."""

    stream: str
    chosen: int = 0
    skipped: int = 0
    frames: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    unpaired: int = 0
    serving: Arm = field(default_factory=Arm)
    candidate: Arm = field(default_factory=Arm)
    pairs: deque[Pair] = field(default_factory=lambda: deque(maxlen=WAITING))
    """Results that wait to be compared."""
    _open: dict[int, tuple[FrameResult | None, FrameResult | None, bool]] = field(default_factory=dict)
    """By the number of what serves: both results, as far as they are known, and whether they are to be compared."""

    def expect(self, frame: int, *, compared: bool) -> None:
        """The candidate gets a frame, too."""
        self._open[frame] = (None, None, compared)
        while len(self._open) > OPEN:
            del self._open[next(iter(self._open))]
            self.unpaired += 1

    def served(self, frame: int, result: FrameResult | None) -> None:
        """What serves is done with a frame; None: without a result."""
        self._ended(frame, result, 0)

    def tried(self, frame: int, result: FrameResult | None) -> None:
        """The candidate is done with a frame; None: without a result."""
        self._ended(frame, result, 1)

    def _ended(self, frame: int, result: FrameResult | None, side: int) -> None:
        found = self._open.pop(frame, None)
        if found is None:
            return
        if result is None:
            self.unpaired += side == 0
            return
        served, tried = (result, found[1]) if side == 0 else (found[0], result)
        if served is None or tried is None:
            self._open[frame] = served, tried, found[2]
            return
        self.serving.take(served)
        self.candidate.take(tried)
        if found[2]:
            self.pairs.append((_objects(served), _objects(tried)))

    def view(self) -> CandidateStream:
        """As `status` shows it."""
        return CandidateStream(
            stream=self.stream,
            chosen=self.chosen,
            skipped=self.skipped,
            frames=self.frames,
            failed=dict(self.failed),
            dropped=dict(self.dropped),
            unpaired=self.unpaired,
        )


def _objects(result: FrameResult) -> Sequence[Mapping[str, Any]]:
    return result["objects"]


def view(
    record: GroupRecord,
    tallies: Iterable[Tally],
    found: Agreements,
    *,
    waits: str = "",
    not_compared: tuple[str, ...] = (),
) -> CandidateView:
    """All of a candidate; `waits`: why it gets no frames, empty: it does."""
    candidate, all_of = record.candidate, sorted(tallies, key=lambda one: one.stream)
    assert candidate is not None
    return CandidateView(
        group=record.spec.name,
        **candidate.model_dump(include={"of", "mode", "share", "rule", "after", "promote"}),
        state="waiting" if waits else "running",
        text=waits,
        deployed_at=record.deployed_at,
        frames=sum(one.frames + one.failed.total() for one in all_of),
        agreement=None if (least := found.least) is None else round(least, 4),
        nodes={node: round(value, 4) for node, value in found.by_node.items()},
        not_compared=not_compared,
        serving=_arm(one.serving for one in all_of),
        candidate=_arm(one.candidate for one in all_of),
        streams=tuple(one.view() for one in all_of),
    )


def _arm(arms: Iterable[Arm]) -> ArmView:
    arms = [*arms]
    return ArmView(
        latency=_quantiles([one for arm in arms for one in arm.latency]),
        work=_quantiles([one for arm in arms for one in arm.work]),
    )


def _quantiles(values: Sequence[float]) -> Quantiles:
    p50, p95, p99 = (round(float(one), 3) for one in (np.percentile(values, [50, 95, 99]) if values else (0, 0, 0)))
    return Quantiles(p50_ms=p50, p95_ms=p95, p99_ms=p99)


def rule_values(seen: CandidateView) -> dict[str, float | None]:
    """What the names of a rule stand for; None: not known yet. Times are those of the candidate over the other's."""
    chosen = sum(one.chosen for one in seen.streams)
    values: dict[str, float | None] = {
        "frames": float(seen.frames),
        "agreement": seen.agreement,
        "failed": sum(sum(one.failed.values()) for one in seen.streams) / seen.frames if seen.frames else None,
        "skipped": sum(one.skipped for one in seen.streams) / chosen if chosen else None,
    }
    for what in ("latency", "work"):
        ours, other = getattr(seen.candidate, what), getattr(seen.serving, what)
        for part in ("p50", "p95", "p99"):
            base = getattr(other, f"{part}_ms")
            values[f"{what}_{part}"] = getattr(ours, f"{part}_ms") / base if base else None
    return values
