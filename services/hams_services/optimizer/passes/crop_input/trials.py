"""The rectangle on which a network still says what it says on the whole image."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hams_services.optimizer.passes.downscale_input.trials import ShrinkTrials
from hams_services.optimizer.passes.trial import Attempt, Attempts
from hams_shared.errors import UnsupportedModelError
from hams_shared.group.spec import NodeSpec

STEP = 16
"""Sides are multiples of it: networks halve the image several times."""
MARGIN = 1 / 8
"""Of a side of the image: the least of the padding that is looked at. What is seen near the edge reaches that far."""
MOST = 0.85
"""A larger part of the image than this is not worth it."""


def refusal(node: NodeSpec) -> str:
    """Why a network that serves `node` is not put on a rectangle, whatever it is; empty: it may be tried."""
    if node.input.fit != "letterbox":
        return "its images fill all of what it takes"
    return "" if ShrinkTrials.refusal(node) else "its image may be made smaller altogether"


def size_of(whole: tuple[int, int], filled: tuple[int, int], more: int) -> tuple[int, int] | None:
    """The rectangle (width, height) for what is `filled` of the `whole` and `more` pixels; None: too much of it."""
    across, down = (min(side, -(-(part + more) // STEP) * STEP) for side, part in zip(whole, filled, strict=True))
    return (across, down) if across * down <= MOST * whole[0] * whole[1] else None


@dataclass
class RectangleTrials:
    """Tries rectangles, larger ones until one reaches the floor."""

    tries: Attempts
    floor: float

    def run(self, deadline: float) -> Attempt | None:
        """The smallest that reaches the floor; None: none does that is small enough to be worth it.

        None is begun after `deadline`, but for the first.

        Raises:
            UnsupportedModelError: the samples fill all of the image, or the network does not run on a part of it.
        """
        whole, filled = self.tries.node.input.size, self.tries.filled
        if size_of(whole, filled, 0) is None:
            raise UnsupportedModelError(
                f"its images fill {'×'.join(map(str, filled))} of {'×'.join(map(str, whole))}, which is nearly all"
            )
        more = round(min(whole) * MARGIN)
        while (size := size_of(whole, filled, more)) is not None:
            one = self._make(size)
            if one.agreement >= self.floor:
                return one
            if time.monotonic() >= deadline:
                return None
            more += STEP
        return None

    def _make(self, size: tuple[int, int]) -> Attempt:
        tries, given = self.tries, self.tries.node.input
        done = tries.shop.job.call(
            "rectangle",
            source=tries.source,
            out=tries.out,
            size=list(size),
            layout=given.layout,
            tensors=str(tries.tensors),
        )
        words = "×".join(map(str, size))
        settings = {"rectangular": words, "floor": f"{self.floor:g}"}
        takes = given.model_copy(update={"size": size})
        return tries.add(done, f"the part of the image of {words}", settings, input=takes)
