"""Letterbox-aware input cropping: the network takes the filled part of its image, not the padding.

What it would have output for the padding is nearly constant, and is written into the network.
"""

from __future__ import annotations

from hams_services.optimizer.passes.base import Pass
from hams_services.optimizer.passes.downscale_input import ALONG
from hams_services.optimizer.passes.search import steps
from hams_services.optimizer.passes.trial import Trial, TrialContext
from hams_shared.errors import UnsupportedModelError
from hams_shared.group.node_spec import NodeSpec

STEP = 16
"""Sides are multiples of it: networks halve the image several times."""
LEAST_PADDING = 1 / 8
"""The least padding that stays, of a side of the image: what is seen near the edge reaches that far."""
MOST = 0.85
"""A larger part of the image than this is not worth it."""
FASTER = 1.1
"""It must be so much faster: variants made of it agree as much as it at most."""

Size = tuple[int, int]


def size_of(whole: Size, filled: Size, more: int) -> Size | None:
    """Return the size (width, height) for what is `filled` of `whole` and `more` pixels; None: it is too large."""
    across, down = (min(side, -(-(part + more) // STEP) * STEP) for side, part in zip(whole, filled, strict=True))
    return (across, down) if across * down <= MOST * whole[0] * whole[1] else None


def sizes(whole: Size, filled: Size) -> list[Size]:
    """Return the sizes to try, the smallest first.

    Raises:
        UnsupportedModelError: the samples fill nearly all of the image.
    """
    if size_of(whole, filled, 0) is None:
        text = f"its images fill {'×'.join(map(str, filled))} of {'×'.join(map(str, whole))}, which is nearly all"
        raise UnsupportedModelError(text)
    found: list[Size] = []
    more = round(min(whole) * LEAST_PADDING)
    while (size := size_of(whole, filled, more)) is not None:
        found.append(size)
        more += STEP
    return found


class CropInput(Pass):
    """The setting is the size (width, height) of the part that the network takes."""

    name = "crop-input"
    form = "cropped"
    replaces = True
    nothing = "no part of the image reaches the floor and is faster"

    def why_not(self, node: NodeSpec) -> str:
        """Return why not: no padding, or the image may be down-scaled as a whole."""
        if node.input.fit != "letterbox":
            return "its images fill all of what it takes"
        return "its image may be down-scaled as a whole" if node.task.type in ALONG else ""

    def floor(self, node: NodeSpec) -> float:
        """Return half of what the node's floor allows: the rest is left for what is made of it."""
        return (1 + node.min_agreement) / 2

    def least(self, node: NodeSpec) -> float:
        """Return the node's floor: another runtime rounds otherwise."""
        return node.min_agreement

    def make(self, context: TrialContext, setting: Size) -> Trial:
        """Crop to one size."""
        given, words = context.samples.node.input, "×".join(map(str, setting))
        answer = context.call(
            "hams_services.optimizer.passes.crop_input.axis_crop:crop_input",
            size=list(setting),
            layout=given.layout,
            tensors=str(context.calibration[0]),
        )
        takes = given.model_copy(update={"size": setting})
        settings = {self.form: words, "floor": f"{context.floor:g}"}
        return context.add(answer, f"the part of the image of {words}", settings, input=takes)

    def run(self, context: TrialContext) -> list[Trial]:
        """Try larger and larger parts; none is kept that misses the floor or is not faster."""
        tried = sizes(context.samples.node.input.size, context.calibration[1])
        if not tried:
            return []
        best = context.search(steps(len(tried)), lambda index: self.make(context, tried[index]))
        if best.agreement < context.floor:
            return []
        before, after = context.predict([Trial(context.base, 1.0), best])
        return [best] if after.fps >= FASTER * before.fps else []
