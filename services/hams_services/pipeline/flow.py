"""Carries the frames of one stream through its group: keeps their pixels, sends work, publishes results.

Work goes into the mailboxes of devices at once, else by the broker. Decisions are
:class:`hams_services.pipeline.core.StreamCore`'s; here is only I/O and time.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from hams_services.pipeline.core import HELD, StreamCore
from hams_services.pipeline.dispatch import Dispatch, GroupContext
from hams_services.pipeline.flight import Close, Command, Hold, Outcome, Send, Shot
from hams_services.pipeline.gallery import identify
from hams_services.pipeline.gate import MotionGate
from hams_services.pipeline.join import frame_result
from hams_services.pipeline.luma import small_luma
from hams_services.pipeline.routing import Reroute, room
from hams_services.pipeline.selection import selection_of
from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.taps import Taps
from hams_services.pipeline.timings import Timings
from hams_services.pipeline.tracking.cadence_agreement import tried
from hams_shared.bus import chunks
from hams_shared.bus.protocol import Message, Subscription
from hams_shared.errors import FrameUnreachableError, HamsError, RefusedError
from hams_shared.group.spec import VGA
from hams_shared.wire import codec, subjects
from hams_shared.wire.frame_pool import FrameStore
from hams_shared.wire.frames import Output, unpack_outputs
from hams_shared.wire.messages.events import PlaceCounts
from hams_shared.wire.messages.pipeline import StreamLoad, StreamView
from hams_shared.wire.results import FrameResult

log = logging.getLogger("hams.pipeline")

TAPPED_LIMIT = 1024
"""What waits to be carried out, from which on tapped outputs are left out."""
TRIAL_S = 1.0
"""How often it is asked whether a trial is full, s."""
SPARE = 2
"""Slots in shared memory beyond the window: one frame waits, one is being read."""
StreamState = Literal["waiting", "playing", "reconnecting", "ended", "failed"]

OnClose = Callable[[Close, FrameResult | None], None]
"""Called with every frame that ends; with its result when it was delivered."""


class Flow:
    """Carries frames of one stream through the group."""

    def __init__(
        self, context: GroupContext, stream: str, *, lossless: bool, publish: bool, on_close: OnClose | None = None
    ) -> None:
        spec = context.spec
        self._room, self._pixels, self._fps = 0, VGA, np.inf
        window = spec.window(lossless=lossless)
        chosen = selection_of(spec, spec.streams.get(stream))
        self.core = StreamCore(stream, lossless, window, spec.deadline_s, replicas=context.replicas, selection=chosen)
        self._looks = chosen is not None and chosen.looks_at_pixels
        self.run_id = secrets.token_hex(4) if chosen is not None and chosen.follower is not None else ""
        """Of the stream's tracks: their ids begin again with another one."""
        source = spec.streams.get(stream)
        self._gate = None if source is None or source.gate is None else MotionGate(source.gate, source.mask)
        self.frames = FrameStore(window + SPARE)
        self._reduced = FrameStore(window + SPARE)
        """Of the frames that have one: the smaller picture."""
        self._context = context
        self._bus, self._clock = context.bus, context.clock
        self.group, self.stream = spec.name, stream
        self.name = f"{spec.name}/{stream}"
        self.log = logging.LoggerAdapter(log, {"group": spec.name, "stream": stream})
        self._publish = publish
        self._pack = codec.pack_json if spec.results == "json" else codec.pack
        self.taps = Taps(context.bus, context.clock, spec.name, stream, spec.nodes, self.log)
        self.outputs = 0
        """Taken since the start."""
        self._on_close = on_close
        self._timings = Timings()
        self.complaint = ""
        """Why the newest failed frame failed."""
        self._outbox: asyncio.Queue[Command | Output] = asyncio.Queue()  # bounded by the window and TAPPED_LIMIT
        self._parts = chunks.Assembler()
        self._mailbox = context.mailboxes.open()
        self._dispatch = Dispatch(context, self._mailbox.address, self.frames, self._reduced, spec.streams.get(stream))
        self._closed = False
        self._sends: list[Send] = []
        """Frames that wait for others to be sent with them."""
        self.changed = asyncio.Event()
        """Set whenever :attr:`StreamCore.wants_frame` or `idle` may have changed."""

    # ── events ────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, picture: Picture, media_time_s: float | None, *, more: bool = False) -> int:
        """Start a frame, shown `media_time_s` after its stream's first one; return its number.

        With `more`, another one follows at once, and both are sent in one message.

        Raises:
            RefusedError: the stream is closed.
        """
        if self._closed:
            raise RefusedError(f"stream {self.name} is removed")
        frame = self.core.ledger.submitted
        height, width = picture.pixels.shape[:2]
        if width * height > self._pixels:  # of single images of many sizes the largest counts
            self._pixels = width * height
            self._set_window()
        luma = small_luma(picture.pixels) if self._looks or self._gate is not None else None
        if self._gate is not None and luma is not None and not self._gate.take(luma, media_time_s or 0.0):
            self.core.leave_out(media_time_s or 0.0)
            return frame
        self.frames.put(frame, picture.pixels)
        if picture.reduced is not None:
            self._reduced.put(frame, picture.reduced)
        captured = time.time() if picture.captured is None else picture.captured
        shot = Shot(media_time_s, (width, height), luma)
        number, commands = self.core.submit(captured, self._clock.now(), shot)
        assert number == frame
        self._queue(commands, more=more)
        return frame

    async def subscribe(self) -> Subscription:
        """Take the answers of agents: from the mailbox, and by the broker."""
        self._mailbox.listen(self._take_answer)
        return await self._bus.subscribe(subjects.answer(self.group, self.stream), self._on_answer, limit=4096)

    async def _on_answer(self, message: Message) -> None:
        self._take_answer(message.data)

    def _take_answer(self, part: bytes) -> None:
        now = self._clock.now()
        data = self._parts.take(part, now)
        if data is None:
            return
        for output in unpack_outputs(data):
            if self.taps.outputs_until and self.taps.wants(output.node, now) and self._outbox.qsize() < TAPPED_LIMIT:
                self._outbox.put_nowait(output)
            self._take(output, now)

    def _take(self, output: Output, now: float) -> None:
        unreachable = output.error is not None and output.error["code"] == FrameUnreachableError.code
        if unreachable and self._context.peers.cannot_map(output.device):
            text = "%s cannot map frames in shared memory: its frames carry their pixels"
            log.warning(text, output.device, extra={"device": output.device})
        self.outputs += 1
        # Without commands the source would be woken before the frames that this completes have left their memory.
        if commands := self.core.output(output, now):
            self._queue(commands)

    def reroute(self, command: Reroute, *, streams: int) -> None:
        """The plan to send under changed, or devices lost their work. It is for `streams` of this kind."""
        plan, lanes = command.plan, command.lanes
        if plan is not None:
            self._room, self._fps = room(plan.devices, streams, lanes), plan.fps / max(streams, 1)
            self._set_window()
            if not self.core.lossless:
                self.core.limits = {node: room(places, streams, lanes) for node, places in plan.shares.items()}
        self._queue(self.core.route(command.plan, command.broken, self._clock.now()))

    def _set_window(self) -> None:
        spec, core = self._context.spec, self.core
        core.window = window = spec.window(lossless=core.lossless, room=self._room, pixels=self._pixels, fps=self._fps)
        ordered = core.selection is not None and core.selection.in_order
        opened = HELD * window if ordered and not core.lossless else window  # predicted frames wait, too
        self.frames.slots = self._reduced.slots = opened + SPARE

    def tick(self) -> None:
        """Deadlines and due retries."""
        self._queue(self.core.tick(self._clock.now()))

    def give_up(self, frame: int, reason: str) -> None:
        """Drop a frame with `reason`: its application no longer waits."""
        self._queue(self.core.give_up(frame, reason, self._clock.now()))

    def close(self, reason: str) -> None:
        """The stream is removed; complete frames are still delivered by :meth:`flush`, if the broker is there."""
        self._closed = True
        self._queue(self.core.close(reason))

    def end_tracks(self) -> None:
        """The stream has ended: so have its tracks."""
        if self._context.events is not None:
            self._context.events.ended(self.stream, "stream-ended")

    def release(self) -> None:
        """Delete the shared memory and the mailbox; the pixels of frames under way are gone."""
        self._mailbox.close()
        self.frames.close()
        self._reduced.close()

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────

    def _queue(self, commands: list[Command], *, more: bool = False) -> None:
        """Take commands. With `more`, frames wait for others that are sent with them, at the next call."""
        for command in commands:
            if isinstance(command, Send):
                self._sends.append(command)
            elif isinstance(command, Hold):
                if self._clock.now() >= self.taps.pictures_until:
                    self._drop(command.frame)
            elif command.outcome is not Outcome.DELIVERED:
                self._forget(command)  # at once: while the broker is away a live stream drops frame after frame
            else:
                self._outbox.put_nowait(command)
        if self._sends and not more:
            for command in self._dispatch.by_mailbox(self._sends):
                self._outbox.put_nowait(command)
            self._sends.clear()
        self.changed.set()

    def _forget(self, command: Close) -> None:
        self._drop(command.frame)
        if command.outcome is Outcome.FAILED:
            self.complaint = f"frame {command.frame} failed: {command.detail or command.reason}"
            failures = self.core.ledger.failed.total()
            if failures & (failures - 1) == 0:  # 1, 2, 4, 8 …: a broken node does not fill the log
                self.log.warning("stream %s: %s (%d so far)", self.name, self.complaint, failures)
        if self._on_close is not None:
            self._on_close(command, None)

    def _drop(self, frame: int) -> None:
        self._reduced.drop(frame)
        self.frames.drop(frame)

    async def tune(self) -> None:
        """Find out how often the detector must look, where HAMS is to choose; until that is known, or cancelled."""
        follower = None if self.core.selection is None else self.core.selection.follower
        while follower is not None and (trial := follower.trial) is not None:
            await asyncio.sleep(TRIAL_S)
            if trial.full:
                follower.tried(await asyncio.to_thread(tried, trial))
                if follower.agreement:
                    found = ", ".join(f"{n}: {value:.2f}" for n, value in follower.agreement.items())
                    text = "stream %s: the detector looks at every %d. frame (agreement by cadence: %s)"
                    self.log.info(text, self.name, follower.cadence.frames, found)

    async def run(self) -> None:
        """Carry out commands as they come, until cancelled."""
        while True:
            first = await self._outbox.get()
            await self.flush(first)

    async def flush(self, *first: Command | Output) -> None:
        """Carry out the commands that are queued, those in `first` before them; frames for one device go together."""
        sends: list[Send] = []
        todo = [*first]
        while todo or not self._outbox.empty():
            match todo.pop() if todo else self._outbox.get_nowait():
                case Send() as command:
                    sends.append(command)
                case Close() as command:
                    await self._deliver(command)
                case Output() as output:
                    await self.taps.publish_output(output)
        try:
            await self._dispatch.by_broker(sends)
        except HamsError as error:  # the frames' deadlines will send them again
            self.log.warning("stream %s: %s", self.name, error)

    async def _deliver(self, command: Close) -> None:
        assert command.id is not None
        assert command.join is not None
        now = self._clock.now()  # the wall clock may be set meanwhile
        if now < self.taps.pictures_until and (found := self.frames.get(command.frame)) is not None:
            await self.taps.publish_picture(command.frame, found[0])
        self._drop(command.frame)
        if self._context.galleries:  # single images are recognised, not remembered
            identify(self._context.galleries, command.objects, command.id, time.time(), learn=self._publish)
        if self._context.events is not None:
            self._context.events.observe(self.stream, command)
        latency_ms = (now - command.submitted) * 1e3
        self._timings.delivered(latency_ms, now)
        shot = command.shot
        result = frame_result(
            command.id, command.join, command.objects, shot.size, shot.media_time_s, latency_ms, self.run_id
        )
        if self._publish:
            await self._publish_result(self._pack(result))
        self._queue(self.core.published(self._clock.now()))
        if self._on_close is not None:
            self._on_close(command, result)

    async def _publish_result(self, data: bytes) -> None:
        """Publish a result; while the broker is away it waits, and the full window stops the source.

        Once the stream is closed it is lost then.
        """
        while True:
            try:
                await chunks.publish(self._bus, subjects.result(self.group, self.stream), data)
                return
            except HamsError as error:
                what = "lost" if self._closed else "waits"
                self.log.warning("stream %s: result %s: %s", self.name, what, error)
                if self._closed:
                    return
                await asyncio.sleep(0.25)

    # ── what others are told ───────────────────────────────────────────────────────────────────────────────────

    def load(self, read_cpu_s: float = 0.0) -> StreamLoad:
        """What the frames have cost so far; `read_cpu_s`: CPU time of reading them."""
        ledger, selection = self.core.ledger, self.core.selection
        follower = None if selection is None else selection.follower
        return StreamLoad(
            group=self.group,
            stream=self.stream,
            frames=ledger.submitted,
            read_cpu_s=round(read_cpu_s, 6),
            completed=ledger.delivered + ledger.gated,
            lost=ledger.dropped.total() + ledger.failed.total(),
            agreement=() if follower is None else tuple(follower.agreement.items()),
        )

    def view(self, state: StreamState, text: str) -> StreamView:
        """Return counters and timings."""
        ledger = self.core.ledger
        ledger.validate()
        fps = self._timings.fps(ledger.delivered, self._clock.now(), playing=state == "playing")
        p50, p99 = self._timings.percentiles_ms
        return StreamView(
            group=self.group,
            stream=self.stream,
            state=state,
            text=text or self.complaint,
            submitted=ledger.submitted,
            delivered=ledger.delivered,
            in_flight=len(ledger.open),
            gated=ledger.gated,
            places=PlaceCounts() if self._context.events is None else self._context.events.counts(self.stream),
            dropped=dict(ledger.dropped),
            failed=dict(ledger.failed),
            resent=self.core.resent,
            fps=round(fps, 3),
            p50_ms=round(p50, 3),
            p99_ms=round(p99, 3),
        )
