"""Video of any kind, by FFmpeg's libraries (PyAV): files, network cameras, cameras at this host.

One thread decodes a stream as large as 1080p at 60 frames/s; larger ones get more. Frames are converted straight from
the decoder's format; the conversion writes 8 bits per channel:

- more than 8 bits (10-bit video, 16-bit grey): the most significant 8;
- grey: three equal channels; transparency is ignored.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from hams_services.pipeline.sources.base import MAX_PIXELS, Picture, Source, check_size
from hams_services.pipeline.sources.hardware import Decoder
from hams_services.pipeline.sources.wall_clock import WallClock
from hams_shared.errors import SourceError
from hams_shared.group.stream_spec import Hardware
from hams_shared.wire.frames import Pixels

LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
"""Titles and the like may be in any encoding; PyAV 19 takes them as they are."""
PIXELS_PER_S = 130e6
"""What one thread decodes; 1080p at 60 frames/s."""
MAX_UNDECODABLE = 750
"""Packets in a row without a frame after which a stream is given up: half a minute of video, since some cameras send
a key frame, from which decoding can begin, that seldom."""
PICTURE_S = 50.0
"""A live source is lost when so long no packet gives a frame, s; less than what the pipeline waits for an answer."""
NO_DATA = "no data in time"
ROTATIONS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
"""How frames are turned upright, by the angle in the file, degrees counterclockwise from 0."""


@dataclass(frozen=True)
class MediaOptions:
    """How a video is opened."""

    name: str
    """For people; without secrets."""
    address: str
    """What FFmpeg opens: a path, or an address with user and password."""
    endless: bool
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    """FFmpeg's, for its protocol and its format."""
    open_s: float | None = None
    """The opening fails after this long, s; None: never."""
    read_s: float | None = None
    """Without data for this long the source is lost, s; None: never."""
    keyframes: bool = False
    """Decode key frames only."""
    hardware: Hardware = "none"


class Media(Source):
    """One video. Raises SourceError, with `name` and FFmpeg's reason, when it cannot be opened."""

    def __init__(self, options: MediaOptions) -> None:
        self.endless = options.endless
        self._options = options
        self._reformatter = VideoReformatter()
        self._open()

    def _open(self) -> None:
        given, begun = self._options, time.monotonic()
        try:
            self._container: Any = self._opened()
        except av.FFmpegError as error:
            late = given.open_s is not None and time.monotonic() - begun >= given.open_s
            why = f"no answer within {given.open_s:g} s" if late else reason(error)
            raise SourceError(f"{given.name} cannot be opened: {why}") from None
        try:
            if given.open_s is not None and time.monotonic() - begun >= given.open_s:
                raise SourceError(f"{given.name} cannot be opened: it sends no video within {given.open_s:g} s")
            self._start()
        except BaseException:
            self._container.close()
            raise

    def _opened(self, skip: int = 0) -> Any:
        """Return the container, read from byte `skip` on. Raises av.FFmpegError."""
        given = self._options
        more = {"skip_initial_bytes": str(skip)} if skip else {}
        return av.open(
            given.address,
            format=given.format,
            options={"max_pixels": str(MAX_PIXELS), **given.options, **more},
            timeout=(given.open_s, given.read_s),
            **LENIENT,
        )

    def _start(self) -> None:
        self._take_from(self._container)
        self._clock = WallClock()
        self._ready: deque[VideoFrame] = deque()
        self._silent = 0
        """Packets since the newest frame that could not be decoded."""
        self._taken = 0
        """Where the newest packet that its decoder took stands, byte."""
        self.frames = 0
        """Frames given so far."""
        self.packets = 0
        """Packets read so far that hold data."""
        self.damaged = 0
        self.failure = ""
        """Why reading ended before the end; empty: it did not."""
        self.at: float | None = None
        """Presentation time of the newest frame, s."""

    def _take_from(self, container: Any) -> None:
        """Read the video of `container` from now on. Raises SourceError where it holds none."""
        self._container = container
        self._stream = self._video()
        size = self._stream.codec_context
        check_size(size.width, size.height, self._options.name)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate and 0 < rate <= 1000 else None
        threads = _threads(size.width, size.height, self.fps or 30.0)
        self._decoder = Decoder(self._stream, self._options.hardware, threads, self._options.name)
        self._packets: Iterator[Any] = self._container.demux()
        self._turn: int | None = None
        """How frames are turned upright: as the newest one that states an angle."""
        self._waited = 0.0
        """How long the next packet of the video has been waited for so far, s."""
        self._late = False
        """Whether the newest one came only because FFmpeg gave up waiting for more; it holds back the last one."""

    @property
    def decoder(self) -> str:  # type: ignore[override]  # it may change
        """What decodes it; see :class:`Source`."""
        return self._decoder.text

    def _video(self) -> Any:
        """Return the first stream of pictures that is no cover of an album."""
        found = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not found:
            kinds = sorted({stream.type for stream in self._container.streams}) or ["nothing"]
            raise SourceError(f"{self._options.name} holds no video, only {', '.join(kinds)}", "is it the right one?")
        if found[0].codec_context is None:
            raise SourceError(f"{self._options.name} is of a codec that FFmpeg cannot decode", "H.264 and HEVC can be")
        return found[0]

    def read(self, into: Pixels | None = None) -> Picture | None:
        """Next frame; see :class:`Source`."""
        frame = self._next()
        return None if frame is None else Picture(self._convert(frame, into), self.at, self._clock.at(self.at))

    def _next(self) -> VideoFrame | None:
        """Return the next frame, not converted; None at the end."""
        begun = time.monotonic()
        while not self._ready:
            if not self._advance():
                return None
            if self.endless and not self._ready and time.monotonic() - begun >= PICTURE_S:
                text = f"{self._options.name} is lost: for {PICTURE_S:g} s it has sent data, but no frame to decode"
                raise SourceError(text, "does it send key frames? Set how often in the camera")
        frame = self._ready.popleft()
        check_size(frame.width, frame.height, self._options.name)
        self._silent = 0
        self.frames += 1
        if frame.is_corrupt:
            self.damaged += 1
        stamp = frame.pts if frame.pts is not None else frame.dts
        self.at = float(stamp * frame.time_base) if stamp is not None and frame.time_base else None
        return frame

    def _advance(self) -> bool:
        """Decode the next packet; return whether there was one. Raises SourceError where an endless source is lost."""
        longest, begun = self._options.read_s, time.monotonic()
        if self._late:
            return self._broken(NO_DATA)
        try:
            packet = next(self._packets, None)
        except av.FFmpegError as error:
            return self._broken(reason(error))
        if packet is None:
            return False
        self._waited += time.monotonic() - begun
        late = longest is not None and self._waited >= longest
        if packet.stream.index != self._stream.index:  # sound goes on where the video is lost
            return self._broken("no picture in time") if late else True
        self._waited, self._late = 0.0, late
        if packet.size:
            self.packets += 1
            self._clock.learn(packet)
            if self._options.keyframes and not packet.is_keyframe:
                return True
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError as error:
            self._skipped(packet, reason(error))
            return True
        self._ready.extend(frames)
        self._taken = packet.pos or self._taken
        self.damaged += bool(packet.is_corrupt and packet.size)
        return True

    def _broken(self, why: str) -> bool:
        if self.endless:
            why = "the connection broke" if why == "Input/output error" else why
            raise SourceError(f"{self._options.name} is lost: {why}")
        self.failure = why
        self._packets = iter(())
        self._flush()
        return bool(self._ready)

    def _flush(self) -> None:
        """Take the frames that the decoder still holds."""
        try:
            self._ready.extend(self._decoder.decode(None))
        except av.FFmpegError:  # they were damaged: counted with their packets
            self.damaged += 1

    def _skipped(self, packet: Any, why: str) -> None:
        """Count a packet that cannot be decoded. Before the first frame of a live stream they are no damage."""
        if self.frames or not self.endless:
            self.damaged += 1
        self._silent += 1
        if self.endless and self._silent > MAX_UNDECODABLE:
            raise SourceError(f"{self._options.name} sends nothing that can be decoded any more: {why}")

    def _convert(self, frame: VideoFrame, into: Pixels | None) -> Pixels:
        """Return the pixels, in `into` where they fit: the conversion, and one copy."""
        converted = self._reformatter.reformat(frame, format="bgr24", threads=1)
        plane = converted.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: converted.height]
        image = rows[:, : converted.width * 3].reshape(converted.height, converted.width, 3)
        if frame.rotation:  # within H.264 and HEVC only some frames state it
            self._turn = ROTATIONS.get(round(frame.rotation) % 360)
        turn = self._turn
        shape = image.shape if turn is None or turn == cv2.ROTATE_180 else (image.shape[1], image.shape[0], 3)
        pixels = into if into is not None and into.shape == shape else np.empty(shape, np.uint8)
        if turn is None:
            np.copyto(pixels, image)
        else:
            cv2.rotate(image, turn, pixels)
        return pixels

    def rewind(self) -> None:
        """Open it again, since seeking is not exact in all formats. A live source goes on."""
        if not self.endless:
            self.close()
            self._open()

    def close(self) -> None:
        """Release it, and what its decoder holds."""
        self._packets = iter(())
        self._ready.clear()
        self._container.close()


def _threads(width: int, height: int, fps: float) -> int:
    """Return how many threads decode a stream: each beyond the first costs memory, and a frame of delay."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, 8, math.ceil(width * height * fps / PIXELS_PER_S)))


def reason(error: av.FFmpegError) -> str:
    """Return what went wrong, without the address that the error also holds."""
    if isinstance(error, (av.error.ExitError, TimeoutError)):
        return NO_DATA
    return str(error.strerror or type(error).__name__).strip()
