"""Measures by the stream's own frames how often its detector must look (``cadence: {max: …}``). Pure.

Until it is done the detector looks at every frame; what it finds in `FRAMES` of them is kept, and then followed with
the cadences that are allowed (:mod:`hams_services.pipeline.tracking.cadence_agreement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hams_services.pipeline.luma import Luma
from hams_shared.group.work_rules import CadenceSpec, TrackSpec

FRAMES = 300
"""Successive frames that are watched; where too little is in them, the next ones are."""


@dataclass
class Trial:
    """The trial of one stream."""

    track: TrackSpec
    cadence: CadenceSpec
    times: list[float] = field(default_factory=list)
    found: list[list[dict[str, Any]]] = field(default_factory=list)
    lumas: list[Luma] = field(default_factory=list)
    size: tuple[int, int] = (1, 1)

    @property
    def full(self) -> bool:
        """Whether enough was watched."""
        return len(self.times) >= FRAMES

    def watch(self, found: Sequence[dict[str, Any]], t: float, size: tuple[int, int], luma: Luma | None) -> None:
        """Keep what the detector found in the next frame."""
        if self.full:
            return
        if self.times and (t <= self.times[-1] or size != self.size):
            self.clear()  # another time, or another picture
        self.times.append(t)
        self.found.append([dict(one) for one in found])
        self.size = size
        if luma is not None:
            self.lumas.append(luma)

    def clear(self) -> None:
        """Watch anew."""
        self.times, self.found, self.lumas = [], [], []
