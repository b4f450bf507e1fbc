"""Sequences with a reference: TUD-Campus and TUD-Stadtmitte, from the wheel of motmetrics (MIT), which is not run.

Andriluka, Roth, Schiele, *People-Tracking-by-Detection and People-Detection-by-Tracking*, CVPR 2008, as the
MOTChallenge 2015 annotated them: people in a street, 25 frames/s. ``gt.txt`` is the reference. ``test.txt`` is what
some tracker found: without its ids it is what a detector may find, without scores.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hams_services.pipeline.tracking.identity import Frame

WHEEL = "motmetrics==1.4.0"
NAMES = ("TUD-Campus", "TUD-Stadtmitte")
FPS = 25


@dataclass(frozen=True)
class Sequence:
    """One of them: what is there, and what some tracker found, by frame."""

    name: str
    reference: list[Frame]
    found: list[Frame]


def sequences(folder: Path) -> list[Sequence]:
    """Return both; the wheel is downloaded into `folder` where it is not yet there, without its dependencies."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (wheels := list(folder.glob("motmetrics-1.4.0-*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(command, check=True, timeout=300)
        wheels = list(folder.glob("motmetrics-1.4.0-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        return [_sequence(wheel, name) for name in NAMES]


def _sequence(wheel: zipfile.ZipFile, name: str) -> Sequence:
    texts = [wheel.read(f"motmetrics/data/{name}/{file}.txt").decode() for file in ("gt", "test")]
    tables = [np.array([line.split(",")[:6] for line in text.split()], np.float64) for text in texts]
    last = int(max(table[:, 0].max() for table in tables))
    reference, found = (frames(table, last) for table in tables)
    return Sequence(name, reference, found)


def frames(table: np.ndarray, last: int) -> list[Frame]:
    """Return frames 1 … `last` of rows (frame, id, left, top, width, height), the format of the MOTChallenge."""
    found = []
    for number in range(1, last + 1):
        rows = table[table[:, 0] == number]
        boxes = np.concatenate((rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]), axis=1)
        found.append(([int(row[1]) for row in rows], boxes))
    return found
