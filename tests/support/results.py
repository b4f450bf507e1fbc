"""A result of one frame, as an application gets it."""

from __future__ import annotations

from typing import Any

from hams_client import Result
from hams_shared.wire.results import check_result


def result(
    frame: int, time: float | None, *objects: dict[str, Any], captured: float = 0.0, stream: str = "s0"
) -> Result:
    """Frame `frame` of `stream`, shown at `time` s of it, taken at Unix time `captured`, with `objects` found."""
    data = {
        "version": 1, "group": "g", "stream": stream, "frame": frame, "captured": captured, "media_time_s": time,
        "latency_ms": 1.0, "epoch": 1, "width": 640, "height": 480, "objects": list(objects), "nodes": {},
    }  # fmt: skip
    return Result(check_result(data))
