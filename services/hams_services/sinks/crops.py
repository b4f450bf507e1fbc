"""A folder of images: each object found, cut out of its frame, with a list of what they show and when."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hams_client import Result
from hams_services.sinks.disk import free, moment, write
from hams_services.sinks.retention import KeptList
from hams_shared.wire import codec
from hams_shared.wire.frames import Pixels

LIST = "crops.jsonl"


class CropFolder:
    """Writes ``FOLDER/STREAM/TIME-FRAME-INDEX-LABEL.jpg``, and a line for each into ``FOLDER/STREAM/crops.jsonl``.

    TIME is when the frame was captured, UTC: a stream counts its frames from 0 again after a restart.
    """

    def __init__(self, folder: Path, labels: frozenset[str], least: float) -> None:
        self._folder = folder
        self._labels = labels
        self._least = least
        self.written = 0
        self._lists: dict[Path, KeptList] = {}

    def write(self, result: Result, image: Pixels) -> None:
        """Write the wanted objects of one frame. Raises SourceError when a file cannot be written."""
        lines: list[bytes] = []
        folder = self._folder / result.stream
        height, width = image.shape[:2]
        for index, one in enumerate(result.objects):
            if one.score < self._least or (self._labels and one.label not in self._labels):
                continue
            x0, y0, x1, y1 = np.rint(one.box).astype(int).clip(0, (width, height, width, height)).tolist()
            if x1 <= x0 or y1 <= y0:
                continue
            label = "".join(c if c.isalnum() else "-" for c in one.label)
            path = free(folder / f"{moment(result.captured)}-{result.frame:06d}-{index}-{label}.jpg")
            jpeg = cv2.imencode(".jpg", image[y0:y1, x0:x1])[1].tobytes()
            write(path, jpeg, "xb")
            entry = {"file": path.name, "frame": result.frame, "captured": result.captured}
            entry |= {"media_time_s": result.media_time_s, "object": one.data}
            lines.append(codec.pack_json(entry) + b"\n")
            self.written += 1
        if lines:
            self._lists.setdefault(folder, KeptList(folder / LIST)).append(b"".join(lines))

    def lists(self) -> list[KeptList]:
        """Return the lists of all streams, those of earlier runs, too."""
        for path in self._folder.glob(f"*/{LIST}"):
            self._lists.setdefault(path.parent, KeptList(path))
        return list(self._lists.values())
