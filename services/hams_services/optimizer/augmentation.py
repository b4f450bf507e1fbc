"""Changes images a little in light, place, size and angle, so that what is fitted to few holds for others. Pure."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SCALE, TURN, SHIFT = 0.15, 0.12, 0.05
"""Largest change of size (its logarithm), turn in radians, shift as a share of the image."""
CONTRAST, LIGHT = 0.2, 0.15
"""Largest change of contrast, as a share, and of light, in standard deviations."""


def varied(image: NDArray[np.generic], layout: str, random: np.random.Generator) -> NDArray[np.generic]:
    """Return one C×H×W or H×W×C image changed, of the same type and within the range of its values."""
    plain = image.transpose(1, 2, 0) if layout == "nchw" else image
    values = plain.astype(np.float32)
    height, width = values.shape[:2]
    turn, scale = np.degrees(random.uniform(-TURN, TURN)), np.exp(random.uniform(-SCALE, SCALE))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale)
    matrix[:, 2] += random.uniform(-SHIFT, SHIFT, 2) * (width, height)
    contrast, light = 1 + random.uniform(-CONTRAST, CONTRAST), random.uniform(-LIGHT, LIGHT)
    moved = cv2.warpAffine(values, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    moved = moved.reshape(values.shape)
    lit = (moved - moved.mean()) * contrast + moved.mean() + light * moved.std()
    within = np.clip(lit, float(plain.min()), float(plain.max())).astype(image.dtype)
    return np.ascontiguousarray(within.transpose(2, 0, 1) if layout == "nchw" else within)
