"""Cameras at this host (USB, CSI): Video for Linux."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.sources.media import Media, MediaOptions
from hams_services.pipeline.sources.v4l2 import DEV, ask, find, settings
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

SILENT_S = 5.0
"""Without a frame for this long a camera is lost, s."""
PAUSE_S = 0.004
"""How long to wait before the driver is asked for a frame again, s; asking takes 14 µs."""
OPTIONS = {"fflags": "+4", "max_ts_probe": "0"}
"""FFmpeg's: AVFMT_FLAG_NONBLOCK, which has no name, and opening without waiting for a frame. FFmpeg waits for a driver
without a deadline: a silent camera would hang its thread."""
OLDEST_S = 10.0
"""A frame's time is that of the system's monotonic clock if it is at most this old, s."""

_known: dict[str, str] = {}
"""By source, the name in /dev/v4l/by-id of the camera that was lost: it may return under another number."""


class Camera(Media):
    """``camera:0``, ``camera:/dev/video2``, ``camera:/dev/v4l/by-id/…``, ``camera:NAME``: see :func:`v4l2.find`.

    ``?size=1280x720&fps=30&format=mjpeg`` may follow: see :func:`v4l2.settings`.
    """

    def __init__(self, wanted: str, dev: Path = DEV) -> None:
        self._wanted, asked = settings(wanted)
        found = find(self._wanted, _known.get(self._wanted, ""), dev)
        name = f"camera {wanted}"
        _check_access(name, found.path)
        options = {**OPTIONS, **asked}
        super().__init__(MediaOptions(name, found.path, True, format="v4l2", options=options, open_s=SILENT_S))
        if found.name:
            _known[self._wanted] = found.name
        self._lost = False

    def read(self, into: Pixels | None = None) -> Picture | None:
        """Next frame; see :class:`Source`."""
        try:
            picture = super().read(into)
        except SourceError as error:
            self._lost = True
            raise SourceError(error.text, error.hint or "was it unplugged?") from None
        if picture is None:
            self._lost = True
            raise SourceError(f"{self._options.name} sends no more frames", "was it unplugged?")
        return Picture(picture.pixels, picture.at, captured(picture.at, time.monotonic(), time.time()))

    def _take_from(self, container: Any) -> None:
        super()._take_from(container)
        self._packets = self._waited_for(container)

    def _waited_for(self, container: Any) -> Iterator[Any]:
        """Yield packets as they come. Raises SourceError when none does."""
        heard = time.monotonic()
        while True:
            try:
                packet = next(container.demux(), None)
            except av.BlockingIOError:
                if time.monotonic() - heard > SILENT_S:
                    raise SourceError(f"{self._options.name} is lost: no picture within {SILENT_S:g} s") from None
                time.sleep(PAUSE_S)
                continue
            if packet is None:
                return
            yield packet
            heard = time.monotonic()

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
    if not ask(Path(path))[1]:
        raise SourceError(
            f"{name} cannot be opened: {path} gives no pictures", "`hams-ctl cameras list` shows which do"
        )
