"""A video file per stream, with results drawn in; each frame has its own presentation time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from hams_client import Result
from hams_services.sinks.disk import free
from hams_services.sinks.painter import Painter
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels

log = logging.getLogger("hams.sinks")

FLUSHED = {"flush_packets": "1"}
"""Each piece goes to the disk at once. A process that is killed leaves a file that plays, but for its last second."""
FORMATS = {
    ".mp4": {"movflags": "hybrid_fragmented+frag_keyframe", "frag_duration": "1000000", **FLUSHED},
    ".mkv": {"cluster_time_limit": "1000", **FLUSHED},
}
"""The muxer's options by the file's suffix. Closing turns a fragmented MP4 into an ordinary one."""
H264 = {"preset": "veryfast", "tune": "zerolatency"}
"""Fast, and no frame waits in the encoder, where a process that is killed would lose it."""
TICKS = {"libx264": 90_000, "mpeg4": 60_000}
"""Ticks a second by encoder: those of RTP and MPEG; MPEG-4 Part 2 allows at most 65535."""
THREADS = 2
"""Of each encoder, and of the conversion before it: the cores are for inference."""
KEY_FRAME_EACH = 50
LONGEST_GAP_S = 60.0
"""Without new frames the last picture is shown for at most this long, s; longer gaps are shortened."""
ONE_FRAME_S = 0.04
"""The duration of a frame after which none came, where no frame was before it, s."""


class VideoFiles:
    """``OUT.mp4`` for the first stream, ``OUT-STREAM.mp4`` for further ones. `painter` draws the results.

    A recording that is there is kept: then the new one is ``OUT-2.mp4``.

    Raises:
        SourceError: the name does not end in one of `FORMATS`.
    """

    def __init__(self, path: Path, painter: Painter | None = None) -> None:
        if path.suffix.lower() not in FORMATS:
            raise SourceError(f"cannot write a video into {path}", f"use a name that ends in {' or '.join(FORMATS)}")
        self._path = path
        self._painter = painter or Painter()
        self._files: dict[str, VideoFile] = {}

    def write(self, result: Result, image: Pixels) -> None:
        """Write one frame at its time. Raises SourceError when the file cannot be written."""
        time = result.captured if result.media_time_s is None else result.media_time_s
        picture = even(self._painter.paint(result, image))
        file = self._files.get(result.stream)
        if file is None:
            path = self._path.with_stem(f"{self._path.stem}-{result.stream}") if self._files else self._path
            if path.is_file():  # not what is a pipe or device
                path, taken = free(path), path
                log.warning("%s is there already: stream %s goes into %s", taken, result.stream, path)
            height, width = picture.shape[:2]
            file = self._files[result.stream] = VideoFile(path, (width, height), time)
        file.write(picture, time)

    def close(self) -> list[Path]:
        """Finish the files; return their names. Raises SourceError when one cannot be finished; the others are."""
        failure: SourceError | None = None
        for file in self._files.values():
            try:
                file.close()
            except SourceError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return [file.path for file in self._files.values()]


class VideoFile:
    """One video file. `size` is width and height in pixels, both even; the first frame is that of `time`, s.

    It holds the newest packet until the next one, which decides the duration.

    Raises:
        SourceError: the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], time: float) -> None:
        self.path = path
        self._size = size
        self._times = MonotonicTimes(time)
        self._newest = -1
        """Presentation time of the newest frame, ticks."""
        self._held: av.Packet[Any] | None = None
        self._broken = False
        codec: Literal["libx264", "mpeg4"] = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._ticks = TICKS[codec]
        self._time_base = Fraction(1, self._ticks)
        self._duration = round(ONE_FRAME_S * self._ticks)
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = av.open(f"file:{path}", "w", options=FORMATS[path.suffix.lower()])
            self._stream = self._file.add_stream(codec, rate=25, options=H264 if codec == "libx264" else {})
            self._configure()
            self._file.start_encoding()

    def _configure(self) -> None:
        stream, context = self._stream, self._stream.codec_context
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.time_base = context.time_base = self._time_base
        context.gop_size, context.thread_count = KEY_FRAME_EACH, THREADS
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def write(self, picture: Pixels, time: float) -> None:
        """Write one frame, shown from `time` of its stream, s. Raises SourceError."""
        frame = av.VideoFrame.from_ndarray(_fitted(picture, self._size), format="bgr24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=THREADS
        )
        self._newest = max(round(self._times.place(time) * self._ticks), self._newest + 1)
        frame.pts, frame.time_base = self._newest, self._time_base
        with self._errors():
            self._mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file. Raises SourceError, unless :meth:`write` did: then what the disk took is left."""
        if self._broken:
            with suppress(Exception):
                self._file.close()
            return
        with self._errors():
            self._mux(self._stream.encode(None))
            if self._held is not None:
                self._held.duration = self._duration
                self._file.mux(self._held)
            self._file.close()

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            if self._held is not None:
                assert packet.pts is not None
                assert self._held.pts is not None
                self._held.duration = self._duration = packet.pts - self._held.pts
                self._file.mux(self._held)
            self._held = packet

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            self._broken = True
            why = error.strerror or type(error).__name__
            hint = "is the folder writable, and the disk not full?"
            raise SourceError(f"cannot write {self.path}: {why}", hint) from None


class MonotonicTimes:
    """Places of frames in a file, s since its first one, for times that may start over or make long pauses."""

    def __init__(self, first: float) -> None:
        self._begin = self._newest = first
        self._step = ONE_FRAME_S

    def place(self, time: float) -> float:
        """Return where the frame of `time` stands. A stream that goes back goes on after its last step."""
        step = time - self._newest
        if step < 0:
            step = self._step
            self._begin += time - self._newest - step
        elif step > LONGEST_GAP_S:
            self._begin += step - LONGEST_GAP_S
        elif step > 0:
            self._step = step
        self._newest = time
        return time - self._begin


def even(picture: Pixels) -> Pixels:
    """Return `picture` with even sides, as H.264 needs them: its last column and row are repeated where needed."""
    height, width = picture.shape[:2]
    if height % 2 == width % 2 == 0:
        return picture
    return np.asarray(cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)


def _fitted(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Return `picture` at `size` (width, height), with its proportions kept and black borders."""
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    scale = min(size[0] / width, size[1] / height)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    fitted = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - wide) // 2, (size[1] - high) // 2
    fitted[top : top + high, left : left + wide] = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA)
    return fitted
