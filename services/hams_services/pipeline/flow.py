"""Carries the frames of one stream through its group: keeps their pixels, sends work, publishes results.

Decisions are :class:`hams_services.pipeline.core.StreamCore`'s; here is only I/O and time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from hams_services.pipeline.core import Close, Command, Outcome, Send, StreamCore
from hams_services.pipeline.frame_store import SPARE, FrameStore
from hams_services.pipeline.gallery import Galleries
from hams_services.pipeline.routing import Replicas
from hams_shared.bus import chunks
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BrokerError, FrameUnreachableError
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.clock import Clock
from hams_shared.wire import codec, subjects
from hams_shared.wire.frame_pool import memory_domain
from hams_shared.wire.frames import Output, Pixels, Work
from hams_shared.wire.messages import PICTURES_LEASE_S, FramePicture, Plan, StreamView

log = logging.getLogger("hams.pipeline")

IDENTITY = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
RECENT_S = 5.0
"""Span over which a playing stream's FPS is taken, s."""

OnClose = Callable[[Close, dict[str, Any] | None], None]
"""Told of every frame that ends; with its result when it was delivered."""


def whole_frame(size: tuple[int, int]) -> dict[str, Any]:
    """The object that a describing first node speaks of."""
    return {"box": [0, 0, *size], "score": 1.0, "label": "frame"}


@dataclass
class Peers:
    """Which devices can map our frames: those whose agents see the same memory file system, unless they say no."""

    _domain: str = field(default_factory=memory_domain)
    _near: set[str] = field(default_factory=set)
    _refusing: set[str] = field(default_factory=set)

    def heard(self, device: str, domain: str, *, restarted: bool) -> None:
        """A device's heartbeat came."""
        if restarted:
            self._refusing.discard(device)
        if domain and domain == self._domain:
            self._near.add(device)
        else:
            self._near.discard(device)

    def cannot_map(self, device: str) -> None:
        """A device said so: it gets its frames inline until it restarts."""
        if device not in self._refusing:
            log.warning("%s cannot map our frames: they go to it inline", device, extra={"device": device})
        self._refusing.add(device)

    def maps(self, device: str) -> bool:
        """Whether frames go to `device` by pointer."""
        return device in self._near and device not in self._refusing


class Flow:
    """Carries frames of one stream through the group."""

    def __init__(
        self,
        bus: Bus,
        group: GroupSpec,
        stream: str,
        *,
        lossless: bool,
        publish: bool,
        clock: Clock,
        peers: Peers,
        replicas: Replicas,
        galleries: Galleries,
        on_close: OnClose | None = None,
    ) -> None:
        window = group.window(lossless=lossless)
        self.core = StreamCore(stream, lossless, window, group.deadline_s, replicas=replicas)
        self.frames = FrameStore(window + SPARE)
        self._clock = clock
        self._peers = peers
        self._bus = bus
        self._group = group.name
        self._stream = stream
        self.name = f"{group.name}/{stream}"
        self.log = logging.LoggerAdapter(log, {"group": group.name, "stream": stream})
        self._publish = publish
        self._json = group.results == "json"
        self._galleries = galleries
        self._shown_until = 0.0
        self._quality = 90
        self._on_close = on_close
        self._latency: deque[float] = deque(maxlen=2000)
        self._recent: deque[float] = deque(maxlen=2000)
        self.complaint = ""
        """Why the newest failed frame failed."""
        self._times: dict[int, float | None] = {}  # of the frames under way
        self._first: float | None = None
        self._last: float | None = None
        self._outbox: asyncio.Queue[Command] = asyncio.Queue()  # holds frames in the window only, so it is bounded
        self.changed = asyncio.Event()
        """Set whenever :attr:`StreamCore.wants_frame` or `idle` may have changed."""

    def submit(self, image: Pixels, time_s: float | None = None) -> int:
        """Start a frame, shown at `time_s` of its stream; its number."""
        captured = time.time()
        frame = self.core.ledger.submitted
        self.frames.put(frame, image)
        self._times[frame] = time_s
        number, commands = self.core.submit(captured, self._clock.now())
        assert number == frame
        self._queue(commands)
        return frame

    def output(self, output: Output) -> None:
        """A node answered."""
        if output.error is not None and output.error["code"] == FrameUnreachableError.code:
            self._peers.cannot_map(output.device)
        self._queue(self.core.output(output, self._clock.now()))

    def route(self, plan: Plan | None, broken: Iterable[str]) -> None:
        """The plan to send under changed, or devices lost their work."""
        self._queue(self.core.route(plan, broken, self._clock.now()))

    def tick(self) -> None:
        """Deadlines and due retries."""
        self._queue(self.core.tick(self._clock.now()))

    def give_up(self, frame: int, reason: str) -> None:
        """Nobody waits for the frame any more."""
        self._queue(self.core.give_up(frame, reason, self._clock.now()))

    def close(self, reason: str) -> None:
        """The stream is removed; what is complete is still delivered by :meth:`flush`."""
        self._queue(self.core.close(reason))

    def _queue(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Close) and command.outcome is not Outcome.DELIVERED:
                self._forget(command)  # at once: while the broker is away a live stream drops frame after frame
            else:
                self._outbox.put_nowait(command)
        self.changed.set()

    def _forget(self, command: Close) -> None:
        """A frame was dropped or failed."""
        self.frames.drop(command.frame)
        self._times.pop(command.frame)
        if command.outcome is Outcome.FAILED:
            self.complaint = f"frame {command.frame} failed: {command.detail or command.reason}"
            failures = self.core.ledger.failed.total()
            if failures & (failures - 1) == 0:  # 1, 2, 4, 8 …: a broken node does not fill the log
                self.log.warning("stream %s: %s (%d so far)", self.name, self.complaint, failures)
        if self._on_close is not None:
            self._on_close(command, None)

    async def flush(self) -> None:
        """Carry out what is queued already."""
        while not self._outbox.empty():
            await self._do(self._outbox.get_nowait())

    async def run(self) -> None:
        """Carry out commands as they come, until cancelled."""
        while True:
            await self._do(await self._outbox.get())

    async def _do(self, command: Command) -> None:
        match command:
            case Send():
                try:
                    await self._send(command)
                except BrokerError as error:  # the frame's deadline will send it again
                    self.log.warning("stream %s: %s", self.name, error)
            case Close():
                await self._close(command)

    async def _send(self, command: Send) -> None:
        found = self.frames.get(command.id.frame)
        if found is None:
            return  # closed in the meantime
        image, pointer = found
        root = command.plan.group.spec.root
        device = command.route[root]
        work = Work(
            command.id,
            root,
            image[None],
            IDENTITY,
            [0],
            (image.shape[1], image.shape[0]),
            {node: to for node, to in command.route.items() if len(command.plan.shares[node]) > 1},
            pointer if self._peers.maps(device) else None,
            near=tuple(d for d in command.plan.devices if self._peers.maps(d)) if pointer else (),
        )
        await chunks.publish(self._bus, subjects.work(device), work.pack())

    async def _close(self, command: Close) -> None:
        """A frame was delivered."""
        if self._clock.now() < self._shown_until:
            await self._show(command.frame)
        result = self._result(command, self.frames.drop(command.frame))
        if self._publish:
            await self._publish_result(codec.pack_json(result) if self._json else codec.pack(result))
        if self._on_close is not None:
            self._on_close(command, result)

    def show(self, quality: int) -> None:
        """Somebody wants to see delivered frames, for a while."""
        self._shown_until = self._clock.now() + PICTURES_LEASE_S
        self._quality = quality

    async def _show(self, frame: int) -> None:
        """Publish a frame as JPEG."""
        found = self.frames.get(frame)
        if found is None:
            return
        options = [cv2.IMWRITE_JPEG_QUALITY, self._quality]
        _, jpeg = await asyncio.to_thread(cv2.imencode, ".jpg", found[0], options)
        data = codec.encode(FramePicture(stream=self._stream, frame=frame, jpeg=jpeg.tobytes()))
        try:
            await chunks.publish(self._bus, subjects.picture(self._group, self._stream), data)
        except BrokerError as error:
            self.log.warning("stream %s: picture lost: %s", self.name, error)

    async def _publish_result(self, data: bytes) -> None:
        """A joined result is not given up while the broker is away: the stream waits, its window holds the source."""
        while True:
            try:
                await chunks.publish(self._bus, subjects.result(self._group, self._stream), data)
                return
            except BrokerError as error:
                self.log.warning("stream %s: result waits: %s", self.name, error)
                await asyncio.sleep(0.25)

    def _result(self, command: Close, size: tuple[int, int]) -> dict[str, Any]:
        """The joined result, as docs/messages.md describes it."""
        assert command.join is not None
        assert command.plan is not None
        self._galleries.identify(command.objects, learn=self._publish)  # single images are recognised, not remembered
        now = self._clock.now()  # the wall clock may be set meanwhile
        latency_ms = (now - command.submitted) * 1e3
        self._latency.append(latency_ms)
        self._recent.append(now)
        self._first = self._first or now
        self._last = now
        return {
            "version": 1,
            "group": self._group,
            "stream": self._stream,
            "frame": command.frame,
            "captured": command.captured,
            "time": self._times.pop(command.frame),
            "latency_ms": round(latency_ms, 3),
            "epoch": command.plan.epoch,
            "width": size[0],
            "height": size[1],
            "objects": [one if "box" in one else {**whole_frame(size), **one} for one in command.objects],
            "nodes": command.join.nodes(),
        }

    def view(self, state: str, text: str) -> StreamView:
        """Counters and timings as `status` shows them."""
        ledger = self.core.ledger
        ledger.validate()
        now = self._clock.now()
        span = (self._last or 0.0) - (self._first or 0.0)
        fps = (ledger.delivered - 1) / span if span > 0 else 0.0
        if state == "playing":
            recent = sum(1 for at in self._recent if now - at <= RECENT_S)
            fps = recent / min(RECENT_S, max(now - (self._first or now), 0.2))
        p50, p99 = np.percentile(self._latency, [50, 99]) if self._latency else (0.0, 0.0)
        return StreamView.model_validate(
            {
                "group": self._group,
                "stream": self._stream,
                "state": state,
                "text": text or self.complaint,
                "submitted": ledger.submitted,
                "delivered": ledger.delivered,
                "in_flight": len(ledger.open),
                "dropped": dict(ledger.dropped),
                "failed": dict(ledger.failed),
                "resent": self.core.resent,
                "fps": round(fps, 3),
                "p50_ms": round(float(p50), 3),
                "p99_ms": round(float(p99), 3),
            }
        )
