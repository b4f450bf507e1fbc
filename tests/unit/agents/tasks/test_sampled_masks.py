"""Masks from small maps: traced in one pass or warped, they are what interpolation at each pixel gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hams_agents.tasks.masks import Part, sampled
from support import oracles

TURN = np.array([[0.2, 0.1, -1.0], [-0.1, 0.2, 3.0]])


def check(part: Part, mask: np.ndarray, least: float, outside: float | None) -> None:
    a = part.to_map

    def at(x: float, y: float) -> float:
        return oracles.bilinear(part.values, *(a[:, :2] @ (x, y) + a[:, 2]), outside=outside)

    wanted = oracles.mask(at, part.box, least)
    assert mask.shape == wanted.shape
    # OpenCV's warping rounds places to 32nds of a map's pixel, after rounding two sums to 1024ths: along each axis
    # it is off by 1/64 + 1/1024 of the greatest step between two values, or between one and the 0 outside.
    step = np.ptp(np.append(part.values, 0.0))
    clear = np.abs(wanted) > (1e-4 if a[0, 1] == 0 else step / 30)
    assert (mask == (wanted > 0))[clear].all()


@given(seed=st.integers(0, 10**6), constant=st.booleans(), turned=st.booleans())
@settings(max_examples=30)
def test_each_pixel_is_what_interpolation_gives(seed: int, constant: bool, turned: bool) -> None:
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(rng.integers(1, 5)):
        rows, columns = rng.integers(1, 9, 2)
        values = rng.normal(0, 1, (rows, columns)).astype(np.float32)
        x0, y0 = rng.uniform(-5, 20, 2)
        box = (x0, y0, x0 + rng.uniform(0.2, 25), y0 + rng.uniform(0.2, 25))
        affine = np.array([[rng.uniform(0.05, 3), 0, rng.normal(0, 3)], [0, rng.uniform(0.05, 3), rng.normal(0, 3)]])
        parts.append(Part(values, affine, tuple(map(float, box))))
    if turned:
        parts = [Part(part.values, TURN, part.box) for part in parts]
    border = cv2.BORDER_CONSTANT if constant else cv2.BORDER_REPLICATE
    masks = sampled(parts, 0.25, border)
    assert len(masks) == len(parts)
    for part, mask in zip(parts, masks, strict=True):
        assert int(mask.runs.sum()) == mask.size[0] * mask.size[1]
        assert (mask.runs[1:] > 0).all()
        check(part, mask.bits, 0.25, 0.0 if constant else None)


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_a_flat_map_is_all_or_nothing(value: float) -> None:
    part = Part(np.full((4, 4), value, np.float32), np.array([[0.1, 0, 0], [0, 0.1, 0]]), (3, 3, 20, 12))
    assert sampled([], 0.0) == []
    [mask] = sampled([part], 0.0)
    assert mask.bits.shape == (9, 17)
    assert mask.bits.all() == (value > 0) == mask.bits.any()
