"""What decodes a stream: hardware where it was asked for and works, else FFmpeg's own decoder, with the reason.

cuda    NVDEC of an NVIDIA GPU
vaapi   Intel and AMD GPUs; needs an FFmpeg with VAAPI
v4l2    the codec of a board, such as that of a Raspberry Pi
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.frame import VideoFrame

from hams_services.pipeline.sources.base import MAX_PIXELS
from hams_shared.errors import SourceError
from hams_shared.group.stream_spec import Hardware

DEVICES = {"cuda": "/dev/nvidia0", "vaapi": "/dev/dri/renderD128", "v4l2": "/dev/video10"}
"""What exists where the hardware does."""
NATIVE = {"libdav1d": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}
"""FFmpeg's own decoder, which is the one that uses hardware, where another library decodes by default."""


class Decoder:
    """A decoder of one stream. Raises SourceError: FFmpeg cannot decode it."""

    def __init__(self, stream: Any, hardware: Hardware, threads: int, name: str) -> None:
        own = stream.codec_context
        self._stream, self._threads, self._name = stream, threads, name
        self._what = f"{own.name} {own.width}×{own.height}" if own.width else own.name
        self._reasons: list[str] = []
        self._untried = [] if hardware == "none" else [*DEVICES] if hardware == "auto" else [hardware]
        self._works = False
        """Whether it has given a frame: then it stays."""
        self._next()

    def decode(self, packet: Any) -> list[VideoFrame]:
        """Return the frames that come with a packet; None: those still held. Raises av.FFmpegError.

        Hardware that cannot decode the first packets (a codec, a profile or a size that it lacks) is left.
        """
        while True:
            try:
                frames = list(self._context.decode(packet))
            except av.FFmpegError as error:
                if self._works or self.kind == "software":
                    raise
                self._reasons.append(f"no {self.kind}: {error.strerror}")
                self._next()
            else:
                self._works = self._works or bool(frames)
                return frames

    def _next(self) -> None:
        """Open the next decoder that may work."""
        while self._untried:
            self.kind: str = self._untried.pop(0)
            try:
                self._context = _hardware(self._stream, self.kind)
            except (av.FFmpegError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
                self._reasons.append(f"no {self.kind}: {getattr(error, 'strerror', None) or error}")
            else:
                self.text = f"{self._what}, {self.kind}"
                return
        self.kind, self._context = "software", self._stream.codec_context
        self._context.thread_count = self._threads
        self._context.thread_type = "AUTO"
        self._context.options = {"max_pixels": str(MAX_PIXELS)}
        try:
            self._context.open(strict=False)
        except av.FFmpegError as error:
            raise SourceError(f"{self._name} cannot be decoded ({self._what}): {error.strerror}") from None
        self.text = ", ".join([self._what, "software", *self._reasons])


def _hardware(stream: Any, kind: str) -> Any:
    """Return an open codec context on the hardware. Raises one of many errors where it does not work."""
    if not Path(DEVICES[kind]).exists():
        raise OSError(f"there is no {DEVICES[kind]}")
    own = stream.codec_context
    codec = NATIVE.get(own.name, own.name)
    if kind == "v4l2":
        context: Any = av.CodecContext.create(f"{codec}_v4l2m2m", "r")
    elif kind not in hwdevices_available():
        raise OSError("this build of FFmpeg has none")
    else:
        context = av.CodecContext.create(codec, "r", hwaccel=HWAccel(kind, allow_software_fallback=False))
    context.extradata = own.extradata
    context.width, context.height = own.width, own.height
    context.open()
    return context
