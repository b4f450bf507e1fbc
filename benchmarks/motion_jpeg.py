"""Videos that benchmarks play: Motion JPEG, which is cheap to decode."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray


def write(path: Path, frames: Iterable[NDArray[np.uint8]], size: tuple[int, int]) -> None:
    """Write frames, H×W×3 B, G, R, of `size` (width, height), as an AVI file with 25 frames/s."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=25, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p"
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            file.mux(stream.encode(frame.reformat(format="yuvj420p", dst_color_range=ColorRange.JPEG)))
        file.mux(stream.encode(None))
