"""Animated images: WebP and PNG with more than one frame. (GIF is a video to FFmpeg, which cannot decode such WebP.)"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from hams_services.pipeline.sources.images import image_size
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

PIXELS_AT_ONCE = 1 << 26
"""Pixels decoded at once, 268 MB with transparency. Each batch decodes the frames before it again."""
LEAST_S = 0.01
"""Frames with a duration of 0 are shown for this long, s."""
HEAD = 1 << 12


def is_animated(data: bytes) -> bool:
    """Return whether the header is that of an animated WebP or PNG."""
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        return len(data) > 20 and bool(data[20] & 2)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        control, pixels = data.find(b"acTL", 0, HEAD), data.find(b"IDAT", 0, HEAD)
        return control > 0 and (pixels < 0 or control < pixels)
    return False


def decode_animation(data: bytes, origin: str) -> Iterator[tuple[Pixels, float]]:
    """Yield the frames, H×W×3 B, G, R, and for how long each is shown, s. Raises SourceError where it is damaged."""
    width, height = image_size(data, origin)
    if not hasattr(cv2, "imdecodeanimation"):
        raise SourceError(f"{origin} is animated, which OpenCV {cv2.__version__} cannot play", "convert it to a video")
    packed = np.frombuffer(data, np.uint8)
    batch = max(1, PIXELS_AT_ONCE // (width * height))
    start = 0
    while True:
        try:
            good, animation = cv2.imdecodeanimation(packed, start, batch)
        except cv2.error:
            good = False
        if not good:
            raise SourceError(f"{origin} is truncated or corrupt: it cannot be decoded after {start} frames")
        for frame, duration in zip(animation.frames, animation.durations, strict=False):
            image = np.asarray(frame, np.uint8)
            yield np.ascontiguousarray(image[:, :, :3]), max(LEAST_S, float(duration) / 1e3)
        start += len(animation.frames)
        if len(animation.frames) < batch:
            return
