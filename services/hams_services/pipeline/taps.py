"""Published of a stream beside its results, while an application asks for it: pictures, outputs of single nodes, and
traces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from hams_services.pipeline.jpeg import jpeg_of_frame
from hams_shared.bus import chunks
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError
from hams_shared.runtime.clock import Clock
from hams_shared.wire import codec, subjects
from hams_shared.wire.frames import Output, Pixels
from hams_shared.wire.messages.pipeline import REQUEST_LEASE_S, FramePicture
from hams_shared.wire.messages.trace import FrameTrace


class Taps:
    """The requests for one stream, and what is published for them."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        group: str,
        stream: str,
        nodes: Collection[str],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._bus, self._clock, self._log = bus, clock, log
        self._group, self._stream, self.nodes = group, stream, nodes
        self.pictures_until = 0.0
        """Monotonic time, s: until then delivered frames are published as JPEG."""
        self.outputs_until: dict[str, float] = {}
        """By node, or ``*``: until when its outputs are published by themselves."""
        self._quality = 90

    def show(self, quality: int) -> None:
        """Publish delivered frames as JPEG for a while: an application asked for them."""
        self.pictures_until = self._clock.now() + REQUEST_LEASE_S
        self._quality = quality

    def tap(self, node: str) -> None:
        """Publish the outputs of `node` (``*``: of all) by themselves for a while: an application requested them."""
        if node == "*" or node in self.nodes:
            self.outputs_until[node] = self._clock.now() + REQUEST_LEASE_S

    def wants(self, node: str, now: float) -> bool:
        """Whether the outputs of `node` are published by themselves."""
        return self.outputs_until.get(node, self.outputs_until.get("*", 0.0)) > now

    async def publish_output(self, output: Output) -> None:
        """Publish the output of one node by itself."""
        try:
            subject = subjects.output(self._group, self._stream, output.node)
            await chunks.publish(self._bus, subject, output.pack())
        except HamsError as error:
            self._log.warning("stream %s/%s: output of %s lost: %s", self._group, self._stream, output.node, error)

    async def publish_trace(self, trace: FrameTrace) -> None:
        """Publish what happened to a frame."""
        try:
            await chunks.publish(self._bus, subjects.trace(self._group, self._stream), codec.encode(trace))
        except HamsError as error:
            self._log.warning("stream %s/%s: a trace is lost: %s", self._group, self._stream, error)

    async def publish_picture(self, frame: int, pixels: Pixels) -> None:
        """Publish a frame as JPEG; one that is too long for that is left out, since boxes are in its own pixels."""
        try:
            jpeg = await asyncio.to_thread(jpeg_of_frame, pixels, self._quality)
            data = codec.encode(FramePicture(stream=self._stream, frame=frame, jpeg=jpeg))
            await chunks.publish(self._bus, subjects.picture(self._group, self._stream), data)
        except HamsError as error:
            self._log.warning("stream %s/%s: picture lost: %s", self._group, self._stream, error)
