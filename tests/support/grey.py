"""A group that says how bright each frame is, and media to feed it: which picture came through can be told exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml
from onnx import helper

from support.networks import graph, write

SIZE = (640, 480)
STEP = 4
"""Frame n is grey of value STEP × n."""
LENGTH = 60


def network(folder: Path) -> Path:
    """A network that says how bright an image is."""
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0)
    one = helper.make_node("ReduceMean", ["m"], ["y"], axes=[1], keepdims=1)
    return write(folder / "brightness.onnx", graph([mean, one]))


def picture(number: int) -> np.ndarray:
    return np.full((SIZE[1], SIZE[0], 3), number * STEP, np.uint8)


def video(folder: Path, length: int = LENGTH) -> Path:
    path = folder / "grey.avi"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=25, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p"
        for number in range(length):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number)[:, :, 0], format="gray")))
        file.mux(stream.encode(None))
    return path


def group_file(folder: Path, source: str | Path, streams: int = 1, **stream: Any) -> Path:
    """A group of one node with streams ``s0``, ``s1`` …"""
    spec = {
        "name": "grey",
        "nodes": {
            "light": {
                "model": str(network(folder)),
                "input": {"size": [8, 8]},
                "task": {"type": "regression", "unit": "grey"},
            }
        },
        "streams": {f"s{i}": {"source": str(source), **stream} for i in range(streams)},
    }
    path = folder / "group.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path
