"""The other ByteTrack, of `trackers` (Apache-2.0), in an environment of its own: JSON from stdin, JSON to stdout.

In: ``{"fps", "options", "sequences"}``, a sequence is a list of frames, a frame a list of [x0, y0, x1, y1, score].
Out: ``{"tracks", "cpu_ms"}``, the same with [id, x0, y0, x1, y1], and ms per frame. It needs nothing of HAMS.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker


def follow(frames: list[list[list[float]]], fps: float, options: dict[str, float]) -> list[list[list[float]]]:
    """Return the confirmed tracks of each frame."""
    tracker, found = ByteTrackTracker(frame_rate=fps, **options), []
    for frame in frames:
        rows = np.array(frame, np.float64).reshape(-1, 5)
        boxes = sv.Detections(xyxy=rows[:, :4], confidence=rows[:, 4], class_id=np.zeros(len(rows), int))
        out = tracker.update(boxes)
        pairs = zip(out.tracker_id.tolist(), out.xyxy.tolist(), strict=True)
        found.append([[id, *box] for id, box in pairs if id >= 0])
    return found


def main() -> None:
    """Answer one question."""
    asked = json.load(sys.stdin)
    begun = time.process_time()
    tracks = [follow(frames, asked["fps"], asked["options"]) for frames in asked["sequences"]]
    spent = time.process_time() - begun
    count = sum(map(len, asked["sequences"]))
    json.dump({"tracks": tracks, "cpu_ms": spent / max(count, 1) * 1e3}, sys.stdout)


if __name__ == "__main__":
    main()
