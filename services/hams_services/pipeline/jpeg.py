"""Frames as JPEG."""

from __future__ import annotations

import cv2

from hams_shared.errors import MessageError
from hams_shared.wire.frames import Pixels

LONGEST = 65_500
"""Longest side of a JPEG, pixels (libjpeg's JPEG_MAX_DIMENSION); sources give frames with longer ones."""


def jpeg_of_frame(pixels: Pixels, quality: int) -> bytes:
    """Return H×W×3 pixels as JPEG, with `quality` 1 to 100. Raises MessageError: JPEG has no such size."""
    height, width = pixels.shape[:2]
    if not 0 < min(height, width) <= max(height, width) <= LONGEST:
        raise MessageError(f"a JPEG cannot have {width}×{height} pixels: its sides have 1 to {LONGEST}")
    try:
        good, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise MessageError(f"OpenCV cannot write {width}×{height} pixels as JPEG: {error}") from None
    if not good:
        raise MessageError(f"OpenCV cannot write {width}×{height} pixels as JPEG")
    return jpeg.tobytes()
