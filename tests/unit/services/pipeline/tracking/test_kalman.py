"""The bank of filters against the textbook's matrices, and its steps in time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.tracking.kalman import KalmanBank, Noise

NOISE = Noise((0.06, 0.05, 0.12, 0.1), (1.0, 0.8, 0.3, 0.2), (1.5, 1.4, 0.5, 0.4), 0.1)


class Textbook:
    """One box: the state (cx, cy, w, h, their velocities) with its 8×8 covariance, all written out."""

    def __init__(self, centre: list[float]) -> None:
        self.x = np.array([*centre, 0, 0, 0, 0])
        self.area = centre[2] * centre[3]
        self.p = np.diag([*np.square(NOISE.measured), *np.square(NOISE.start)]) * self.area

    def predict(self, dt: float) -> None:
        f = np.eye(8)
        f[:4, 4:] = np.eye(4) * dt
        a = np.diag(np.square(NOISE.acceleration)) * self.area
        q = np.block([[a * dt**3 / 3, a * dt**2 / 2], [a * dt**2 / 2, a * dt]])
        self.x, self.p = f @ self.x, f @ self.p @ f.T + q

    def measure(self, z: np.ndarray, h: np.ndarray, r: np.ndarray) -> None:
        k = self.p @ h.T @ np.linalg.inv(h @ self.p @ h.T + r)
        self.x = self.x + k @ (z - h @ self.x)
        self.p = (np.eye(8) - k @ h) @ self.p

    def correct(self, centre: np.ndarray) -> None:
        self.measure(centre, np.eye(4, 8), np.diag(np.square(NOISE.measured)) * self.area)
        self.area = self.x[2] * self.x[3]

    def move(self, moved: np.ndarray, dt: float) -> None:
        self.measure(moved / dt, np.eye(4, 8, 4), np.eye(4) * self.area * (NOISE.flow / dt) ** 2)


def around(*centres: list[float]) -> np.ndarray:
    """Boxes (x0, y0, x1, y1) of centres (cx, cy, w, h)."""
    c = np.array(centres, np.float64)
    return np.concatenate((c[:, :2] - c[:, 2:] / 2, c[:, :2] + c[:, 2:] / 2), axis=1)


def test_it_is_the_textbooks_filter() -> None:
    random = np.random.default_rng(3)
    starts = [[100.0, 200.0, 30.0, 80.0], [500.0, 90.0, 60.0, 40.0]]
    bank, books = KalmanBank(NOISE), [Textbook(start) for start in starts]
    bank.start(around(*starts))
    for step in range(60):
        dt = float(random.choice([0.04, 0.08, 0.5]))
        if step % 3 == 0:
            moved = random.normal(0, 3, (1, 4))
            bank.move(np.array([1]), moved, dt)
            books[1].move(moved[0], dt)
        bank.predict(dt)
        for book in books:
            book.predict(dt)
        rows = [[0, 1], [0], [1], []][step % 4]
        centres = np.array([starts[row] for row in rows]).reshape(-1, 4) + random.normal(0, 2, (len(rows), 4))
        if rows:
            bank.correct(np.array(rows), around(*centres))
        for row, centre in zip(rows, centres, strict=True):
            books[row].correct(centre)
        bank.validate()
        for row, book in enumerate(books):
            np.testing.assert_allclose(bank.state[:2, row].ravel(), book.x, rtol=1e-8, atol=1e-8)
            for one in range(4):
                expected = book.p[one, one], book.p[one, one + 4], book.p[one + 4, one + 4]
                np.testing.assert_allclose(bank.state[2:, row, one], expected, rtol=1e-8, atol=1e-8)


def test_constant_velocity_is_found() -> None:
    bank = KalmanBank()
    for step in range(40):
        box = around([100 + 6.0 * step, 200 - 2.0 * step, 40, 100])
        if step == 0:
            bank.start(box)
        else:
            bank.predict(0.1)
            bank.correct(np.array([0]), box)
    assert bank.velocity[0] == pytest.approx([60, -20, 0, 0], abs=0.5)
    bank.predict(0.5)
    assert bank.boxes[0] == pytest.approx(around([100 + 6.0 * 44, 200 - 2.0 * 44, 40, 100])[0], abs=1)


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=20))
def test_one_long_step_is_many_short_ones(steps: list[float]) -> None:
    """Dropped frames change nothing about where an object is expected."""
    one, many = KalmanBank(), KalmanBank()
    for bank in (one, many):
        bank.start(around([50, 60, 20, 30], [10, 10, 5, 5]))
        bank.state[1] = [[30, -10, 1, 2], [0, 5, 0, 0]]
    one.predict(sum(steps))
    for dt in steps:
        many.predict(dt)
    np.testing.assert_allclose(one.state, many.state, rtol=1e-9, atol=1e-9)


def test_no_time_changes_nothing() -> None:
    bank = KalmanBank()
    bank.predict(1.0)
    bank.start(around([50, 60, 20, 30]))
    before = bank.state.copy()
    bank.predict(0.0)
    assert np.array_equal(bank.state, before)


def test_a_box_that_shrinks_keeps_a_side_of_one_pixel() -> None:
    bank = KalmanBank()
    bank.start(around([50, 60, 4, 4]))
    bank.state[1, 0, 2:] = -100
    bank.predict(1.0)
    assert bank.boxes[0].tolist() == [49.5, 59.5, 50.5, 60.5]


def test_noises_are_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        Noise(flow=0)
    with pytest.raises(ValueError, match="positive"):
        Noise(measured=(0.1, 0.1, float("nan"), 0.1))
