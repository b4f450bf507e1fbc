"""The motion gate: which frames of a stream are computed, by what changes in its small grey image. Pure.

A frame differs from the reference where its grey level, blurred by 3×3, is `threshold` levels off. Before that, mean
and deviation of the reference are made those of the frame, so that a change of the light or of the exposure that is
the same everywhere is none. The reference is a running average. While the gate is open it follows within 1 s, so that
what has changed for good (a light switched on, a car that has parked) closes the gate soon; while it is closed it
follows within 5 s, so that noise is averaged out and slow motion adds up until it is seen.

Measured by benchmarks/gate.py on 50 s each of a real background at 1080p, 10 frames/s, defaults, part of frames
computed: sensor noise of 16 grey levels, dusk, a step of the exposure, flicker of 4 %: none; a lamp switched on at one
side 5 %; a cloud's shadow that passes in 15 s 50 %; people of 60 and 100 pixels that walk 60 or 8 pixels/s: all, of 40
pixels: none. A camera that shakes by a pixel holds the gate open. Noise of 8 grey levels in H.264 of 0.3 and 1 Mbit/s
with a key frame every 4 s, at 720p and 1080p: none.

Other references, measured before the threshold grew with noise: the last computed frame was held open by noise of 16
grey levels, and missed 4 to 24 % of those people's frames; one that always follows within 5 s stayed open 2.5 times as
long after the lamp.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_services.pipeline.luma import Luma
from hams_shared.group.regions import GateSpec, Polygon, Regions

OPEN_S, CLOSED_S = 1.0, 5.0
"""Within these times the reference follows the image, s, while the gate is open, and while it is closed."""
BLUR = (3, 3)
GAIN = 2.0
"""The reference's contrast is changed by this factor at most: that of a frame without contrast is noise."""
NOISE, MOST = 6.5, 2.0
"""A change counts from so many times the mean one on (5 deviations), where that is more than the threshold, and up to
so many thresholds. What moves adds little to the mean, since no pixel counts there for more than the threshold."""
ROUNDING = 1e-6
"""Of media times, s."""


class MotionGate:
    """The gate of one stream; it holds the reference."""

    def __init__(self, spec: GateSpec, masks: Sequence[Polygon] = ()) -> None:
        self._spec = spec
        self._masks = (*spec.mask, *masks)
        self._period = 1 / spec.min_fps if spec.min_fps else math.inf
        self._seen: NDArray[np.uint8] | None = None
        """H×W, 255 where motion counts; None: everywhere."""
        self._pixels = 0
        """That count."""
        self._reference: NDArray[np.float32] | None = None
        self._at = self._moved = self._due = -math.inf
        """Media time of the newest frame, of the last motion, and at which one is computed anyway, s."""
        self.changed = 0.0
        """Part of the pixels that count that changed in the newest frame."""

    def take(self, luma: Luma, t: float) -> bool:
        """Whether the frame shown at media time `t`, s, is computed; `luma` is its small image, H×W.

        Computed are the first frame, one whose image has another size, those with motion and for `hold_s` after it,
        and, of the others, `min_fps` a second. A clock that is set back starts anew.
        """
        reference = self._reference
        if reference is None or reference.shape != luma.shape or t < self._at:
            self._see(luma.shape)
            blurred = self._blurred(luma)
            reference = self._reference = blurred.astype(np.float32)
            self._at, self.changed = t, 1.0
        else:
            blurred = self._blurred(luma)
            self.changed = self._compare(blurred, reference)
        if self.changed >= self._spec.area:
            self._moved = t
        hold = t - self._moved <= self._spec.hold_s + ROUNDING
        part = 1 - math.exp((self._at - t) / (OPEN_S if hold else CLOSED_S))
        if part > 0:
            cv2.accumulateWeighted(blurred, reference, part)
        self._at = t
        return self._computed(t, hold)

    def _computed(self, t: float, hold: bool) -> bool:
        """Keep the least rate: where frames do not come at its times, the next one does not come later for it."""
        if hold:
            self._due = t + self._period
            return True
        if t < self._due - ROUNDING:
            return False
        self._due = self._due + self._period if self._due + self._period > t else t + self._period
        return True

    def _see(self, shape: tuple[int, ...]) -> None:
        """From now on images have this `shape` (H, W)."""
        self._seen, self._pixels = None, math.prod(shape)
        if self._masks:
            self._seen = np.full(shape, 255, np.uint8)
            for mask in self._masks:  # each by itself: where two overlap, both count
                corners = np.round(np.array(mask) * shape[::-1] - 0.5).astype(np.int32)
                cv2.fillPoly(self._seen, [corners], 0)
            self._pixels = cv2.countNonZero(self._seen)

    def _blurred(self, luma: Luma) -> NDArray[np.uint8]:
        """Return the image that is compared, 0 where motion does not count."""
        blurred = cv2.blur(luma, BLUR)
        return np.asarray(blurred if self._seen is None else cv2.bitwise_and(blurred, self._seen), np.uint8)

    def _compare(self, image: NDArray[np.uint8], reference: NDArray[np.float32]) -> float:
        """Return the part of the pixels that count that changed."""
        if not self._pixels:
            return 0.0
        expected = np.asarray(cv2.convertScaleAbs(reference), np.uint8)
        mean, deviation = self._moments(image)
        old_mean, old_deviation = self._moments(expected)
        gain = min(max(deviation / max(old_deviation, 1.0), 1 / GAIN), GAIN)
        expected = cv2.addWeighted(expected, gain, expected, 0.0, mean - gain * old_mean)
        off = cv2.absdiff(image, expected)
        if self._seen is not None:
            off = cv2.bitwise_and(off, self._seen)
        least = self._spec.threshold - 1.0
        noise = cv2.mean(cv2.threshold(off, least, 0, cv2.THRESH_TRUNC)[1])[0] * image.size / self._pixels
        least = min(max(least, NOISE * noise), MOST * least)
        moved = cv2.threshold(off, least, 255, cv2.THRESH_BINARY)[1]
        return cv2.countNonZero(moved) / self._pixels

    def _moments(self, image: NDArray[np.uint8]) -> tuple[float, float]:
        """Return mean and deviation of the pixels that count, where the others are 0: OpenCV takes 50 µs for a mask."""
        found = cv2.meanStdDev(image)
        mean, deviation = float(found[0][0, 0]), float(found[1][0, 0])
        more = image.size / self._pixels
        return mean * more, math.sqrt(max(more * (deviation**2 + mean**2) - (mean * more) ** 2, 0.0))


class StreamGate:
    """The gate of a stream, which may be given one, another one, or none."""

    def __init__(self) -> None:
        self._by: tuple[GateSpec, tuple[Polygon, ...]] | None = None
        self._gate: MotionGate | None = None

    def change(self, regions: Regions | None) -> None:
        """Have the gate of these regions from the next frame on; where it is the same, it goes on."""
        by = None if regions is None or regions.gate is None else (regions.gate, regions.mask)
        if by != self._by:
            self._by = by
            self.begin_anew()

    def begin_anew(self) -> None:
        """The next frame is of another picture."""
        self._gate = None if self._by is None else MotionGate(*self._by)

    @property
    def there(self) -> bool:
        """Whether there is one."""
        return self._gate is not None

    def take(self, luma: Luma | None, t: float) -> bool:
        """Whether a frame is computed; see :meth:`MotionGate.take`."""
        return self._gate is None or luma is None or self._gate.take(luma, t)
