"""Video files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame

from hams_services.pipeline.sources.base import MAX_PIXELS, identity_of, os_errors_named
from hams_services.pipeline.sources.media import Media, MediaOptions
from hams_services.pipeline.sources.truncated import container, cut_off
from hams_shared.errors import SourceError
from hams_shared.group.stream_spec import Hardware

UNKNOWN_PACKETS = 8
"""After so many packets that cannot be decoded, one after the other, the codec may be another one."""
TS_PACKET = 188
"""Bytes. The next codec begins behind the last packet that the decoder took."""
NO_FRAME = f"is it encrypted, or has it frames of more than {MAX_PIXELS / 1e6:.0f} million pixels?"
STATE_THE_END = ("matroska,webm", "nut", "asf")
"""Containers that state when the video ends; others state how long it is. It need not begin at 0."""
SEEK_FROM = 300
"""From so many frames on seeking is quicker than decoding them."""
SEEK_BEFORE_S = 2.0
"""How far before a frame decoding begins, s."""
MATROSKA_TIME = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)$")


class Video(Media):
    """A video file; each frame has its time in the file."""

    def __init__(self, path: Path, *, keyframes: bool = False, hardware: Hardware = "none") -> None:
        self._path = path
        self.identity = identity_of([path]) + (":keyframes" if keyframes else "")
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty: it has 0 bytes", "was it copied whole?")
        name = str(path)
        try:
            super().__init__(MediaOptions(name, f"file:{path}", endless=False, keyframes=keyframes, hardware=hardware))
        except SourceError as error:
            if error.hint:
                raise
            if why := cut_off(path):
                raise SourceError(f"{error.text}: {why}", "was it copied whole?") from None
            raise SourceError(error.text, "is it a video, and do other players show it?") from None

    def _start(self) -> None:
        super()._start()
        self._begin: float | None = None
        self._step = 0.0
        """The longest time between two frames so far, s."""
        self._sought = False
        """Whether packets were passed over: they cannot be counted."""

    def _next(self) -> VideoFrame | None:
        before = self.at
        frame = super()._next()
        if frame is None:
            self._check_end()
        elif self.at is not None:
            self._begin = self.at if self._begin is None else self._begin
            self._step = max(self._step, self.at - (self.at if before is None else before))
        if self.damaged:
            self.note = f"packets damaged: {self.damaged} of {self.packets}; what could not be decoded was skipped"
        return frame

    def skip(self, count: int, at: float | None = None) -> None:
        """Leave out frames; see :class:`Source`. Far from the beginning it seeks, else it decodes them."""
        if count >= SEEK_FROM and at is not None and self._decoder.kind == "software":
            try:
                if self._seek(at):
                    self.frames, self._sought = count, True
                    return
            except (SourceError, av.FFmpegError):
                pass
            self.rewind()
        while self.frames < count:
            if self._next() is None:
                raise SourceError(f"{self._path} has ended before frame {count}", "has it changed?")

    def _seek(self, at: float) -> bool:
        """Go behind the frame whose time is `at`, exactly; return whether that is certain.

        Decoding begins at a key frame well before: frames that follow it in the file and are shown before it may need
        others. It is certain when that frame was decoded, and one before it.
        """
        first = self._next()
        begin = self.at
        if first is None or begin is None or at - SEEK_BEFORE_S <= begin:
            return False
        self._ready.clear()
        base = self._stream.time_base
        self._container.seek(int((at - SEEK_BEFORE_S) / base), backward=True, any_frame=False, stream=self._stream)
        self._packets = _from_key_frame(self._container.demux(), self._stream.index)
        earlier = False
        while self._next() is not None and self.at is not None and self.at <= at:
            if self.at == at:
                self._begin = begin
                return earlier
            earlier = True
        return False

    def _skipped(self, packet: Any, why: str) -> None:
        super()._skipped(packet, why)
        if self._silent == UNKNOWN_PACKETS and self._container.format.name == "mpegts":
            self._take_another_codec(self._taken + TS_PACKET)

    def _take_another_codec(self, start: int) -> None:
        """Go on at byte `start` with another decoder if the codec changes there; FFmpeg does not report that."""
        try:
            container = self._opened(skip=start)
        except av.FFmpegError:
            return
        old, codec = self._container, self._stream.codec_context.name
        if [stream.codec_context.name for stream in container.streams.video[:1]] in ([], [codec]):
            container.close()
            return
        self._flush()
        self.damaged -= self._silent
        self.packets -= self._silent
        self._silent = 0
        self._take_from(container)
        old.close()

    @os_errors_named()
    def _check_end(self) -> None:
        """Raise SourceError if the file is certainly truncated; note what may be damage.

        Its own count of frames alone proves nothing, but in MP4, which lists each: other containers estimate it from
        the sound, or include empty chunks. An MP4 that was trimmed without coding it anew lists those left out, too: it
        is whole if it was shown for as long as it states.
        """
        if self.frames == 0:
            why = self.failure and f": {self.failure}"
            raise SourceError(f"{self._path} holds no frame that can be decoded{why}", NO_FRAME)
        kind = container(self._path)
        listed = self._stream.frames if kind == "mp4" else 0
        why = cut_off(self._path) or self.failure
        length = self._length()
        begin = 0.0 if self._container.format.name in STATE_THE_END else self._start_time()
        shown = (self.at or 0.0) - begin + self._step
        whole = self._step > 0 and 0 < length <= shown + self._step
        if why or (self.packets < listed and not self._sought and not whole):
            of = f" of {listed}" if self.frames < listed else ""
            raise SourceError(
                f"{self._path} is truncated or corrupt: it ends after {self.frames}{of} frames{why and ': '}{why}"
            )
        if kind == "avi" and not self._sought:  # its index lists the chunks that could not be found
            lost = max(0, sum(1 for entry in self._stream.index_entries if entry.size) - self.packets)
            self.damaged += lost
            self.packets += lost
        if self._step and kind != "gif" and length - shown > max(length / 50, self._step):
            self.note = f"pictures end at {shown:.1f} s of {length:.1f} s: is its sound longer, or is it damaged?"

    def _start_time(self) -> float:
        """Return when the video begins, s: before its first frame where it begins within a group of pictures."""
        stated = self._stream.start_time
        first = self._begin or 0.0
        return first if stated is None else min(first, float(stated * self._stream.time_base))

    def _length(self) -> float:
        """Return how long the video is, or when it ends, as its container states, s; 0: unknown."""
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        found = MATROSKA_TIME.match(self._stream.metadata.get("DURATION", ""))
        if found:
            return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
        return (self._container.duration or 0) / av.time_base


def _from_key_frame(packets: Iterable[Any], stream: int) -> Iterator[Any]:
    """Yield packets, if the first one of the video is a key frame. Raises SourceError: it is not."""
    begun = False
    for packet in packets:
        if packet.stream.index == stream and packet.size and not begun:
            if not packet.is_keyframe:
                raise SourceError("no key frame there")
            begun = True
        yield packet
