"""Cameras at this host (USB, CSI): Video for Linux."""

from __future__ import annotations

import os
import time

from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.sources.media import Media, MediaOptions
from hams_services.pipeline.sources.v4l2 import find
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

OPEN_S = READ_S = 5.0
"""Deadlines for opening, and without data, s."""
OLDEST_S = 10.0
"""A frame's time is that of the system's monotonic clock if it is at most this old, s."""

_known: dict[str, str] = {}
"""By source, the name in /dev/v4l/by-id of the camera that was lost: it may return under another number."""


class Camera(Media):
    """``camera:0``, ``camera:/dev/video2``, ``camera:/dev/v4l/by-id/…``, ``camera:NAME``: see :func:`v4l2.find`."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        found = find(wanted, _known.get(wanted, ""))
        name = f"camera {wanted}"
        _check_access(name, found.path)
        super().__init__(
            MediaOptions(name, found.path, endless=True, format="v4l2", open_s=OPEN_S, read_s=READ_S),
        )
        if found.name:
            _known[wanted] = found.name
        self._lost = False

    def read(self, into: Pixels | None = None) -> Picture | None:
        """Next frame; see :class:`Source`."""
        try:
            picture = super().read(into)
        except SourceError as error:
            self._lost = True
            raise SourceError(error.text, "was it unplugged?") from None
        if picture is None:
            self._lost = True
            raise SourceError(f"{self._options.name} sends no more frames", "was it unplugged?")
        return Picture(picture.pixels, picture.at, captured(picture.at, time.monotonic(), time.time()))

    def close(self) -> None:
        """Release it. One that was not lost is forgotten: its number then means what is plugged in."""
        super().close()
        if not self._lost:
            _known.pop(self._wanted, None)


def captured(at: float | None, monotonic: float, now: float) -> float | None:
    """Return the Unix time, s, of a frame with time `at`, which drivers take from the monotonic clock; None: unknown.

    `monotonic` and `now` are the times of both clocks, s.
    """
    return now - (monotonic - at) if at is not None and 0 <= monotonic - at <= OLDEST_S else None


def _check_access(name: str, path: str) -> None:
    if not os.path.exists(path):
        raise SourceError(f"{name} cannot be opened: there is no {path}", "is it plugged in?")
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceError(f"{name} cannot be opened: no permission", f"see `ls -l {path}`: its group")
