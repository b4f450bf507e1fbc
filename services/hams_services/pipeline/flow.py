"""Carries the frames of one stream through its group: keeps their pixels, sends work, publishes results.

Work goes into the mailboxes of devices at once, else by the broker. Decisions are
:class:`hams_services.pipeline.core.StreamCore`'s; here is only I/O and time.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time

import numpy as np

from hams_services.pipeline.answers import Answers
from hams_services.pipeline.complaints import Complaints
from hams_services.pipeline.core import HELD, StreamCore
from hams_services.pipeline.dispatch import Dispatch, GroupContext
from hams_services.pipeline.events import Reason
from hams_services.pipeline.flight import Close, Command, Hold, Outcome, Send, Shot
from hams_services.pipeline.gallery import identify
from hams_services.pipeline.gate import StreamGate
from hams_services.pipeline.listeners import OnClose, OnFrame
from hams_services.pipeline.luma import small_luma
from hams_services.pipeline.previews import Previews
from hams_services.pipeline.publishing import Publisher, result_of
from hams_services.pipeline.routing import Reroute, room
from hams_services.pipeline.selection import selection_of
from hams_services.pipeline.selection_rules import SelectionRules, networks_of
from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.taps import Taps
from hams_services.pipeline.timings import Timings
from hams_services.pipeline.traces import FrameTraces
from hams_services.pipeline.tracking.follower import Follower
from hams_services.pipeline.views import StreamState, stream_view
from hams_shared.bus.mailbox import Outgoing
from hams_shared.bus.protocol import Subscription
from hams_shared.errors import FrameUnreachableError, HamsError, RefusedError, as_hams_error
from hams_shared.group.spec import VGA
from hams_shared.wire import codec, subjects
from hams_shared.wire.frame_pool import FrameStore
from hams_shared.wire.frames import Output, Pixels
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.trace import FrameTrace
from hams_shared.wire.results import FrameResult

log = logging.getLogger("hams.pipeline")

TAPPED_LIMIT = 1024
"""What waits to be carried out, from which on tapped outputs are left out."""
QUIET_S = 10.0
"""A camera, or an application, that gives no frame for so long shows nothing of what is there: tracks end, s."""
SPARE = 2
"""Slots in shared memory beyond the window: one frame waits, one is being read."""
Todo = Command | Outgoing | Output | FrameTrace
"""What is carried out in turn: commands, and what clients requested beside the results."""


class Flow:
    """Carries frames of one stream through the group."""

    outputs = 0
    """Taken since the start."""
    on_frame: OnFrame | None = None
    endless = False
    """Whether its source is one that has no end."""
    run_id = ""
    """Of the stream's tracks: their ids begin again with another one."""
    _closed = False
    _follower: Follower | None = None
    """Whose tracks they are."""
    _quiet_at = np.inf
    """When it has given no frame for `QUIET_S`, monotonic s; never: a file, or no frame since its tracks ended."""

    def __init__(
        self, context: GroupContext, stream: str, *, lossless: bool, publish: bool, on_close: OnClose | None = None
    ) -> None:
        self.record = context.record
        """By which frames are read and sent: that of the newest plan, of the group as deployed before the first."""
        spec, source = self.record.spec, self.record.spec.streams.get(stream)
        self._context = context
        self._clock = context.clock
        self.group, self.stream = spec.name, stream
        self.name = f"{spec.name}/{stream}"
        self.log = logging.LoggerAdapter(log, {"group": spec.name, "stream": stream})
        self._complaints = Complaints(self.name, self.log)
        self._room, self._pixels, self._fps = 0, VGA, np.inf
        window = spec.window(lossless=lossless)
        chosen = selection_of(spec, source, networks_of(self.record))
        self.core = StreamCore(stream, lossless, window, spec.deadline_s, replicas=context.replicas, selection=chosen)
        self._gate = StreamGate()
        self.frames, self._reduced = FrameStore(window + SPARE), FrameStore(window + SPARE)
        """Of frames, and of those that have one: the smaller picture."""
        self._publish = publish
        self.taps = Taps(context.bus, context.clock, spec.name, stream, spec.nodes, self.log)
        self.previews = Previews(context.bus, context.clock, spec.name, stream, self.log)
        self.series = secrets.token_hex(4)
        """Frames are counted from 0 again with another one; a restarted pipeline goes on with it."""
        self.publisher = Publisher(context.bus, context.kept, self.core, self.log, self._published)
        self.on_close = on_close
        self._timings = Timings()
        self.traces = FrameTraces(spec, stream, context.tracing, context.clock)
        self._outbox: asyncio.Queue[Todo] = asyncio.Queue()  # bounded by the window and TAPPED_LIMIT
        self._mailbox = context.mailboxes.open()
        self._answers = Answers(context.bus, context.clock, self._mailbox, self._take)
        self._dispatch = Dispatch(context, self._mailbox.address, self.frames, self._reduced, self.traces, stream)
        self._sends: list[Send] = []
        """Frames that wait for others to be sent with them."""
        self.changed = asyncio.Event()
        """Set whenever :attr:`StreamCore.wants_frame` or `idle` may have changed."""
        self._read_by(self.record)

    def _read_by(self, record: GroupRecord) -> None:
        """Take what `record` says of frames before they are sent, and of their results."""
        spec, source, selection = record.spec, record.spec.streams.get(self.stream), self.core.selection
        follower = None if selection is None else selection.follower
        if follower is not None and follower is not self._follower:
            self._follower, self.run_id = follower, secrets.token_hex(4)
        self._looks = selection is not None and selection.looks_at_pixels
        self._gate.change(source)
        self._pack = codec.pack_json if spec.results.format == "json" else codec.pack
        self._context.kept.change(spec.results)
        self.taps.nodes, self.traces.spec = spec.nodes, spec

    def _change(self, record: GroupRecord) -> None:
        """Compute frames by `record` from now on; those under way end by the record that they were sent under."""
        self.carry_out(self.core.set_canary(None, self._clock.now()))  # it goes by the rules of before
        self.record, spec = record, record.spec
        self.core.change(spec.deadline_s, SelectionRules(spec, spec.streams.get(self.stream), networks_of(record)))
        self._read_by(record)

    async def begin_anew(self, *, lossless: bool, tracks: bool) -> None:
        """Another source follows, while no frame is under way; its objects are others unless `tracks` go on."""
        self.core.lossless, self.core.limits = lossless, {}
        self.publisher.change()
        self._set_window()
        if not tracks:
            self._gate.begin_anew()
            await self.end_tracks("stream-ended")

    def drop(self, reason: str) -> None:
        """Drop the frames under way."""
        self.carry_out(self.core.close(reason))

    def submit(self, picture: Picture, media_time_s: float | None, *, more: bool = False) -> int:
        """Start a frame, shown `media_time_s` after its stream's first one; return its number.

        With `more`, another one follows at once, and both are sent in one message.

        Raises:
            RefusedError: the stream is closed.
        """
        if self._closed:
            raise RefusedError(f"stream {self.name} is removed")
        frame = self.core.ledger.submitted
        if self.endless:
            self._quiet_at = self._clock.now() + QUIET_S
        height, width = picture.pixels.shape[:2]
        if width * height > self._pixels:  # of single images of many sizes the largest counts
            self._pixels = width * height
            self._set_window()
        captured = time.time() if picture.captured is None else picture.captured
        notes = self.traces.begin(frame, picture, captured) if self.traces.active else None
        luma = small_luma(picture.pixels) if self._looks or self._gate.there else None
        if not self._gate.take(luma, media_time_s or 0.0):
            self.core.leave_out(media_time_s or 0.0)
            if notes is not None:
                self._show(self.traces.gated(notes))
            return frame
        if notes is not None and self._gate.there:
            notes.gated_at = self._clock.now()
        self.frames.put(frame, picture.pixels)
        if picture.reduced is not None:
            self._reduced.put(frame, picture.reduced)
        shot = Shot(media_time_s, (width, height), luma)
        number, commands = self.core.submit(captured, self._clock.now(), shot)
        assert number == frame
        self.carry_out(commands, more=more)
        if self.on_frame is not None:
            self.on_frame(frame, picture, media_time_s)
        return frame

    async def subscribe(self, group: str = "") -> Subscription:
        """Take the answers of agents, from the mailbox and by the broker; `group`: of frames sent under its plan."""
        return await self._answers.subscribe(subjects.answer(group or self.group, self.stream))

    def _take(self, output: Output, now: float) -> None:
        if self.taps.outputs_until and self.taps.wants(output.node, now) and self._outbox.qsize() < TAPPED_LIMIT:
            self._outbox.put_nowait(output)
        unreachable = output.error is not None and output.error["code"] == FrameUnreachableError.code
        if unreachable and self._context.peers.cannot_map(output.device):
            text = "%s cannot map frames in shared memory: its frames carry their pixels"
            log.warning(text, output.device, extra={"device": output.device})
        self.outputs += 1
        if self.traces.open:
            self.traces.answered(output, now)
        # Without commands the source would be woken before the frames that this completes have left their memory.
        if commands := self.core.output(output, now):
            self.carry_out(commands)

    def reroute(self, command: Reroute, *, streams: int) -> None:
        """The plan to send under changed, or devices lost their work. It is for `streams` of this kind."""
        plan, lanes = command.plan, command.lanes
        if plan is not None and self._publish and self.stream not in plan.group.spec.streams:
            plan = None  # of the record before the stream was added
        if plan is not None:
            if plan.group != self.record:
                self._change(plan.group)
            self._room, self._fps = room(plan.devices, streams, lanes), plan.fps / max(streams, 1)
            self._set_window()
            if not self.core.lossless:
                self.core.limits = {node: room(places, streams, lanes) for node, places in plan.shares.items()}
        self.carry_out(self.core.route(plan, command.broken, self._clock.now()))

    def _set_window(self) -> None:
        spec, core = self.record.spec, self.core
        core.window = window = spec.window(lossless=core.lossless, room=self._room, pixels=self._pixels, fps=self._fps)
        ordered = core.selection is not None and core.selection.in_order
        opened = HELD * window if ordered and not core.lossless else window  # predicted frames wait, too
        self.frames.slots = self._reduced.slots = opened + SPARE

    async def tick(self) -> None:
        """Deadlines, due retries, and the end of tracks of which nothing is seen."""
        now = self._clock.now()
        self.carry_out(self.core.tick(now))
        if now >= self._quiet_at and self.core.idle:
            self._quiet_at = np.inf
            await self.end_tracks("no-frames")

    def give_up(self, frame: int, reason: str) -> None:
        """Drop a frame with `reason`: its application no longer waits."""
        self.carry_out(self.core.give_up(frame, reason, self._clock.now()))

    def close(self, reason: str, *, resumed: bool = False) -> None:
        """The stream is removed, or `resumed` by a later pipeline.

        Complete frames are still delivered by :meth:`flush`, if the broker is there.
        """
        self._closed = True
        self.publisher.close()
        self.previews.close()
        self.carry_out(self.core.close(reason, resumed=resumed))

    async def end_tracks(self, reason: Reason) -> None:
        """End all tracks, once no frame is under way."""
        if self.core.selection is not None:
            self.core.selection.end_tracks()
        await self._context.events.ended(self.stream, reason)

    @property
    def _seen(self) -> bool:
        """Whether the pixels of delivered frames are looked at, for the crops of events."""
        return self._context.events.looks(self.stream)

    def release(self) -> None:
        """Delete the shared memory and the mailbox; the pixels of frames under way are gone."""
        self._mailbox.close()
        self.frames.close()
        self._reduced.close()

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────

    def carry_out(self, commands: list[Command], *, more: bool = False) -> None:
        """Take commands. With `more`, frames wait for others that are sent with them, at the next call."""
        if self.traces.open:
            self.traces.note(commands)
        for command in commands:
            if isinstance(command, Send):
                self._sends.append(command)
            elif isinstance(command, Hold):
                now = self._clock.now()
                if now >= self.taps.pictures_until and not self.previews.wanted(now) and not self._seen:
                    self._drop(command.frame)
            elif command.outcome is not Outcome.DELIVERED:
                self._forget(command)  # at once: while the broker is away a live stream drops frame after frame
            else:
                self._outbox.put_nowait(command)
        if self._sends and not more:
            sends, self._sends = self._sends, []
            for left in self._dispatch.by_mailbox(sends):
                self._outbox.put_nowait(left)
        self.changed.set()

    def _forget(self, command: Close) -> None:
        self._drop(command.frame)
        if command.outcome is Outcome.FAILED:
            self._complaints.take(command.frame, command.detail or command.reason, self.core.ledger.failed.total())
        self._end_trace(command)
        if self.on_close is not None:
            self.on_close(command, None)

    def _end_trace(self, command: Close) -> None:
        if self.traces.open:
            self._show(self.traces.closed(command))

    def _show(self, trace: FrameTrace | None) -> None:
        """Publish a trace, if a client wants it."""
        if trace is not None and self._outbox.qsize() < TAPPED_LIMIT:
            self._outbox.put_nowait(trace)

    def _drop(self, frame: int) -> None:
        self._reduced.drop(frame)
        self.frames.drop(frame)

    async def run(self) -> None:
        """Carry out commands as they come, until cancelled."""
        while True:
            first = await self._outbox.get()
            await self.flush(first)

    async def run_previews(self) -> None:
        """Make previews of delivered frames, until cancelled."""
        await self.previews.run(self._drop)

    async def flush(self, *first: Todo) -> None:
        """Carry out the commands that are queued, those in `first` before them; frames for one device go together."""
        sends: list[Send | Outgoing] = []
        todo = [*first]
        while todo or not self._outbox.empty():
            match todo.pop() if todo else self._outbox.get_nowait():
                case Send() | Outgoing() as command:
                    sends.append(command)
                case Close() as command:
                    await self._deliver(command)
                case Output() as output:
                    await self.taps.publish_output(output)
                case FrameTrace() as trace:
                    await self.taps.publish_trace(trace)
        try:
            await self._dispatch.by_broker(sends)
        except Exception as error:  # the frames' deadlines will send them again; other streams go on
            self.log.warning("stream %s: %s", self.name, error, exc_info=not isinstance(error, HamsError))

    async def _deliver(self, command: Close) -> None:
        result = None
        try:
            result, data, shown = await self._result(command, self._clock.now())
        except Exception as error:  # a task that is not ours may return anything; other frames and streams go on
            self._drop(command.frame)
            self.core.ledger.withdraw("internal")
            text, lost = str(as_hams_error(error)), self.core.ledger.dropped["internal"]
            self._complaints.take(command.frame, text, lost, error)
        if result is not None and self._publish:
            await self.publisher.publish(self.series, command.frame, data)
            if shown is not None:
                self.previews.offer(command.frame, shown, data)
        else:
            self._published()
        self._end_trace(command)
        if self.on_close is not None:
            self.on_close(command, result)

    async def _result(self, command: Close, now: float) -> tuple[FrameResult, bytes, Pixels | None]:
        """Return the result of a frame, packed too, and its pixels where a preview is made of them."""
        assert command.id is not None
        notes = self.traces.open.get(command.frame)
        traceparent = notes.traceparent if notes is not None and notes.context.sampled else ""
        shown = await self._pixels_of(command, now)
        assert command.record is not None
        if galleries := self._context.galleries.serving(command.record):  # single images are recognised, not remembered
            identify(galleries, command.objects, command.id, time.time(), learn=self._publish, run=self.run_id)
        if self._publish:
            await self._context.events.observe(self.stream, self.run_id, command, traceparent)
        latency_ms = (now - command.submitted) * 1e3
        self._timings.delivered(latency_ms, now)
        result = result_of(command, latency_ms, self.run_id, traceparent)
        data = self._pack(result) if self._publish else b""
        if notes is not None:
            notes.delivering, notes.joined = now, self._clock.now()
        return result, data, shown

    def _published(self) -> None:
        self.carry_out(self.core.published(self._clock.now()))

    async def _pixels_of(self, command: Close, now: float) -> Pixels | None:
        """Give a frame's pixels to who wants them; return those that a preview is made of, which drops them."""
        found = self.frames.get(command.frame)
        if found is None:
            self._drop(command.frame)
            return None
        if now < self.taps.pictures_until:
            await self.taps.publish_picture(command.frame, found[0])
        if self._seen:
            self._context.events.see(self.stream, command, found[0])
        if self._publish and self.previews.due(now):
            return found[0]
        del found  # the view of a frame keeps its memory
        self._drop(command.frame)
        return None

    # ── what others are told ───────────────────────────────────────────────────────────────────────────────────

    def view(self, state: StreamState, text: str) -> StreamView:
        """Return counters and timings."""
        places, now = self._context.events.counts(self.stream), self._clock.now()
        text = text or self.publisher.complaint or self._complaints.text
        return stream_view(self.group, self.core, self._timings, places, state, text, now)
