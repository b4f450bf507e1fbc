"""Tracks as objects of results."""

from __future__ import annotations

from hams_services.pipeline.tracking.follower import Follower
from hams_shared.group.work_rules import CadenceSpec, TrackSpec
from hams_shared.wire.results import check_result


def test_what_is_not_detected_is_left_out_of_a_predicted_object() -> None:
    """A mask, key points and an angle are of the frame in which they were seen: a predicted object has its box only."""
    follower = Follower(TrackSpec(), CadenceSpec(frames=3))
    mask = {"size": [100, 50], "counts": "01", "offset": [100, 100]}
    shape = {"points": [[110.0, 110.0]] * 4, "visibility": [0.9] * 4, "angle": 12.0, "mask": mask, "skeleton": [[0, 1]]}
    shown = []
    for frame in range(6):
        x = 100.0 + 2 * frame
        one = {"box": [x, 100.0, x + 50, 200.0], "score": 0.9, "label": "ship", **shape}
        shown.append(follower.follow([one] if frame % 3 == 0 else None, frame / 25, (640, 480)))
    detected, predicted = shown[3][0], shown[4][0]
    assert {key: detected[key] for key in shape} == shape
    assert predicted["predicted"] is True
    assert predicted["track"] == detected["track"]
    assert not shape.keys() & predicted.keys()
    head = {
        "version": 1, "group": "g", "stream": "s", "frame": 0, "captured": 0.0, "media_time_s": 0.0, "latency_ms": 1.0,
        "epoch": 1, "width": 640, "height": 480, "nodes": {},
    }  # fmt: skip
    check_result({**head, "objects": [detected, predicted]})
