"""IDF1 and MOTA of HAMS's tracker and of `trackers`' on the same detections."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.tracking.cadence import Video
from benchmarks.tracking.metrics import Score, evaluate
from benchmarks.tracking.sequences import FPS, Sequence
from benchmarks.tracking.simulated import scored
from hams_services.pipeline.tracking.boxes import Array
from hams_services.pipeline.tracking.bytetrack import Detections, Settings, Tracker
from hams_services.pipeline.tracking.identity import Frame
from hams_services.pipeline.tracking.tracks import State

SEEDS = range(10)
OPTIONS: tuple[dict[str, float], ...] = ({}, {"minimum_iou_threshold": 0.2}, {"minimum_iou_threshold": 0.3})
"""The peer's: its defaults, and larger overlaps, of which one is better for it here."""


@dataclass(frozen=True)
class Row:
    """One tracker on one kind of detections."""

    detections: str
    tracker: str
    idf1: float
    mota: float
    switches: float
    tracks: float


def detections(rows: Array) -> Detections:
    """Return K×5 rows x0, y0, x1, y1, score as people."""
    labels = np.full(len(rows), "person", object)
    return Detections(rows[:, :4], rows[:, 4], labels)


def ours(frames: list[Array], settings: Settings, fps: float = FPS) -> list[Frame]:
    """Return the tracks that were detected in each frame."""
    tracker, found = Tracker(settings), []
    for number, rows in enumerate(frames):
        tracks = tracker.update(detections(rows), number / fps)
        shown = [track for track in tracks if track.state is State.CONFIRMED]
        found.append(([track.id for track in shown], np.array([track.box for track in shown]).reshape(-1, 4)))
    return found


def theirs(
    python: Path, many: list[list[Array]], options: dict[str, float], fps: float = FPS
) -> tuple[list[list[Frame]], float]:
    """Return the same of the peer for many sequences, and its CPU time per frame, ms."""
    asked = {"fps": fps, "options": options, "sequences": [[rows.tolist() for rows in frames] for frames in many]}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), str(Path(__file__).with_name("peer.py"))]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=600, env=environment
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    found = [[_frame(tracks) for tracks in frames] for frames in answer["tracks"]]
    return found, answer["cpu_ms"]


def _frame(tracks: list[list[float]]) -> Frame:
    return [int(track[0]) for track in tracks], np.array([track[1:] for track in tracks]).reshape(-1, 4)


def compare(sequences: list[Sequence], python: Path | None) -> tuple[list[Row], float | None]:
    """Return all rows, and the peer's CPU time per frame with its defaults, ms; without `python` ours alone."""
    cases = []
    for one in sequences:
        plain = [np.column_stack((boxes, np.ones(len(boxes)))) for _, boxes in one.found]
        cases.append((f"{one.name}, given", one.reference, [plain]))
        cases.append((f"{one.name}, simulated", one.reference, [scored(one.reference, seed) for seed in SEEDS]))
    rows, spent = [], []
    for name, reference, many in cases:
        rows.append(_row(name, "HAMS", [evaluate(reference, ours(frames, Settings())) for frames in many]))
        for options in OPTIONS if python else ():
            found, cpu = theirs(python, many, options)
            rows.append(_row(name, _label(options), [evaluate(reference, tracks) for tracks in found]))
            spent += [] if options else [cpu]
    return rows, mean(spent) if spent else None


def on_video(video: Video, python: Path) -> list[Row]:
    """Compare both on the detections of a real video, high and low scores, of which no truth is known.

    The tracks of frames that are changed a little (±1 grey level, JPEG 90) are compared with those of the frames
    themselves: by the same tracker, and by the other, so that neither's own way is the only reference.
    """
    fps = 1 / float(np.median(np.diff(video.times)))
    pair = [[_scored(objects) for objects in frames] for frames in (video.found, video.changed)]
    found = {"HAMS": [ours(frames, Settings(), fps) for frames in pair]}
    for options in OPTIONS:
        found[_label(options)] = theirs(python, pair, options, fps)[0]
    return [
        _row(f"vtest.avi, changed, to tracks of {reference}", tracker, [evaluate(original, changed)])
        for reference, (original, _) in found.items()
        for tracker, (_, changed) in found.items()
        if tracker == reference or "HAMS" in (tracker, reference)
    ]


def _scored(objects: list[dict[str, Any]]) -> Array:
    rows = [[*one["box"], one["score"]] for one in objects if one["label"] == "person"]
    return np.array(rows, np.float64).reshape(-1, 5)


def _label(options: dict[str, float]) -> str:
    return "trackers" + "".join(f", IoU {value}" for value in options.values())


def _row(name: str, tracker: str, scores: list[Score]) -> Row:
    means = [mean(getattr(score, key) for score in scores) for key in ("idf1", "mota", "switches", "tracks")]
    return Row(name, tracker, *means)
