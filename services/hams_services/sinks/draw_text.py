"""Text on images: OpenCV 5's built-in outline fonts, or the plain strokes of OpenCV 4.

OpenCV 4 draws only ASCII: other letters become the nearest ASCII letter (é → e), or ``?`` where there is none.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]
"""B, G, R."""

_FACE: Any = cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None
_WEIGHT = 500
_FOLDED = str.maketrans({"·": "|", "…": "...", "–": "-", "—": "-", "°": " deg", "×": "x"})


def printable(text: str) -> str:
    """Return `text` on one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def fold(text: str) -> str:
    """Return `text` in ASCII."""
    plain = unicodedata.normalize("NFKD", text.translate(_FOLDED))
    return "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode()


def text_width(text: str, size: int) -> int:
    """Return the width of a line of text whose letters are `size` pixels high, pixels."""
    if _FACE is not None:
        x, _, width, _ = cv2.getTextSize((1 << 15, 1 << 15), text, (0, 0), _FACE, size, _WEIGHT)
        return int(x + width)
    return int(cv2.getTextSize(fold(text), cv2.FONT_HERSHEY_SIMPLEX, size / 30, 1)[0][0])


def put_text(image: Pixels, text: str, x: int, baseline: int, size: int, color: Color) -> None:
    """Write `text` into `image`, its baseline starting at (x, baseline)."""
    if _FACE is not None:
        cv2.putText(image, text, (x, baseline), color, _FACE, size, _WEIGHT)
        return
    thickness = max(1, size // 14)
    cv2.putText(image, fold(text), (x, baseline), cv2.FONT_HERSHEY_SIMPLEX, size / 30, color, thickness, cv2.LINE_AA)
