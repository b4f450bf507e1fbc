"""A bank of Kalman filters for boxes in image coordinates, with real time steps. Pure.

The state of a box is its centre, width and height (cx, cy, w, h) in pixels, and the velocity of each in pixels/s. The
velocity is disturbed by white noise (the continuous white-noise acceleration model: Bar-Shalom, Li, Kirubarajan,
*Estimation with Applications to Tracking and Navigation*, 2001, section 6.2.2), so that one step of any length equals
many short ones. Frames are dropped and cadences change; a filter per frame, as in SORT, would be wrong then.

All noises are in parts of the box's size: near objects move over more pixels. Position and velocity of one coordinate
are measured and disturbed independently of the other three, so that the 8×8 covariance is four 2×2 blocks, and N
filters are arrays of N×4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hams_services.pipeline.tracking.boxes import SMALLEST, Array, centred, corners

POSITION, VELOCITY, PP, PV, VV = range(5)
PARTS = 5
"""Parts of a filter's state: mean of both, variance of position, covariance, variance of velocity."""


@dataclass(frozen=True)
class Noise:
    """Standard deviations, in parts of the box's size √(w·h), for (cx, cy, w, h)."""

    measured: tuple[float, float, float, float] = (0.06, 0.06, 0.12, 0.12)
    """Of a detector's box: how far the box of an object at rest jumps from frame to frame."""
    acceleration: tuple[float, float, float, float] = (0.7, 0.7, 0.3, 0.3)
    """Change of velocity within one second, sizes/s per √s."""
    start: tuple[float, float, float, float] = (1.5, 1.5, 0.5, 0.5)
    """Velocity of an object that was seen once, sizes/s."""
    flow: float = 0.2
    """Displacement by optical flow from one frame to the next, of each coordinate. Half of its errors are below 0.02,
    but those of hidden objects are large, since their points are on what hides them: with 0.02 tracks broke up there.
    """

    def __post_init__(self) -> None:
        values = (*self.measured, *self.acceleration, *self.start, self.flow)
        if not all(0 < value < np.inf for value in values):
            raise ValueError("noises are positive numbers")


class KalmanBank:
    """N filters, all at the same time. Indices are rows, in the order of :meth:`start`."""

    def __init__(self, noise: Noise | None = None) -> None:
        self._noise = noise or Noise()
        self._measured = np.square(self._noise.measured)
        self._acceleration = np.square(self._noise.acceleration)
        self._start = np.square(self._noise.start)
        self.state: Array = np.empty((PARTS, 0, 4))
        """5×N×4; the first axis is POSITION … VV."""
        self.area: Array = np.empty((0, 1))
        """N×1, w·h in square pixels when a filter was last corrected: the unit of its noises until the next time."""

    def __len__(self) -> int:
        return len(self.area)

    @property
    def boxes(self) -> Array:
        """Return N×4 boxes x0, y0, x1, y1 in pixels; no side is shorter than one pixel."""
        return corners(self.state[POSITION])

    @property
    def velocity(self) -> Array:
        """Return N×4 velocities of cx, cy, w, h in pixels/s."""
        return np.asarray(self.state[VELOCITY])

    def start(self, boxes: Array) -> None:
        """Add M filters at M×4 `boxes`, with unknown velocity."""
        added = np.zeros((PARTS, len(boxes), 4))
        added[POSITION] = centred(boxes)
        area = _area(added[POSITION])
        added[PP] = area * self._measured
        added[VV] = area * self._start
        self.state = np.concatenate((self.state, added), axis=1)
        self.area = np.concatenate((self.area, area))

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Keep the filters for which the N `rows` are true."""
        self.state, self.area = self.state[:, rows], self.area[rows]

    def predict(self, dt: float) -> None:
        """Go on by `dt` ≥ 0 s."""
        if dt == 0 or not len(self.area):
            return
        step = np.eye(PARTS)
        step[POSITION, VELOCITY] = step[PV, VV] = dt
        step[PP, PV], step[PP, VV] = 2 * dt, dt * dt
        self.state = (step @ self.state.reshape(PARTS, -1)).reshape(self.state.shape)
        powers = np.array([dt**3 / 3, dt * dt / 2, dt])
        self.state[PP:] += powers[:, None, None] * (self.area * self._acceleration)

    def correct(self, rows: NDArray[np.intp], boxes: Array) -> None:
        """Take K×4 measured `boxes` of the filters in `rows` (each at most once)."""
        state = self.state.take(rows, axis=1)
        gain = state[PP:VV] / (state[PP] + self.area[rows] * self._measured)
        state[:PP] += gain * (centred(boxes) - state[POSITION])
        state[VV] -= gain[1] * state[PV]
        state[PP:VV] *= 1 - gain[0]
        self.state[:, rows] = state
        self.area[rows] = _area(state[POSITION])

    def move(self, rows: NDArray[np.intp], moved: Array, dt: float) -> None:
        """Take how far the boxes in `rows` move in the `dt` > 0 s that are predicted next: K×4 pixels of cx, cy, w, h.

        It measures the velocity, with the noise of a displacement divided by `dt`. The displacements of several frames
        are independent of each other; positions that follow from them would not be.
        """
        state = self.state.take(rows, axis=1)
        gain = state[PV:] / (state[VV] + self.area[rows] * (self._noise.flow / dt) ** 2)
        state[:PP] += gain * (moved / dt - state[VELOCITY])
        state[PP] -= gain[0] * state[PV]
        state[PV:] *= 1 - gain[1]
        self.state[:, rows] = state

    def validate(self) -> None:
        """Raise AssertionError unless all means are finite and all covariances are positive semidefinite."""
        assert self.state.shape == (PARTS, len(self.area), 4), "state and area differ in length"
        assert np.isfinite(self.state).all(), "a state is not finite"
        _, _, pp, pv, vv = self.state
        assert (pp > 0).all(), "a variance of position is not positive"
        assert (vv > 0).all(), "a variance of velocity is not positive"
        assert (pv * pv <= pp * vv * (1 + 1e-9)).all(), "a covariance is no covariance"


def _area(centres: Array) -> Array:
    """Return w·h of N×4 (cx, cy, w, h) as N×1."""
    sides = np.maximum(centres[:, 2:], SMALLEST)
    return sides[:, :1] * sides[:, 1:]
