"""The traces of one stream: which frames are traced, what is known of those under way, and where their traces go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hams_services.pipeline.flight import Close, Command, Outcome, Send
from hams_services.pipeline.frame_trace import End, FrameNotes, build
from hams_services.pipeline.sources.base import Picture
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.clock import Clock
from hams_shared.wire.frames import Output
from hams_shared.wire.messages.pipeline import REQUEST_LEASE_S
from hams_shared.wire.messages.trace import FrameTrace
from hams_shared.wire.trace_context import Sampling, frame_context, parse

NEWER = "newer-frame"
"""Why a frame of a busy live stream is dropped before it was sent."""
MOST_OPEN = 1024
"""Traced frames of a stream under way; of further ones none is traced."""


@dataclass
class Tracing:
    """Traces that are made without being requested."""

    sampling: Sampling
    export: Callable[[FrameTrace], None]


class FrameTraces:
    """Of one stream. While nothing is traced, :attr:`active` is false and :attr:`open` empty."""

    def __init__(self, spec: GroupSpec, stream: str, tracing: Tracing | None, clock: Clock) -> None:
        self.spec, self._stream = spec, stream
        """The group of frames that are read from now on."""
        self._tracing, self._clock = tracing, clock
        self.open: dict[int, FrameNotes] = {}
        """Traced frames under way."""
        self._wanted, self._until = 0, 0.0
        """How many frames clients requested, and until when."""

    @property
    def active(self) -> bool:
        """Whether the next frame may be traced."""
        return self._wanted > 0 or (self._tracing is not None and self._tracing.sampling.any)

    def want(self, count: int) -> None:
        """Trace the next `count` frames, if they come in time: a client requested them.

        Frames that a live stream drops for newer ones are not among them.
        """
        self._wanted = max(self._wanted, count)
        self._until = self._clock.now() + REQUEST_LEASE_S

    def begin(self, frame: int, picture: Picture, captured: float) -> FrameNotes | None:
        """Begin the trace of a frame that was read; None where it is not traced."""
        now = self._clock.now()
        if self._wanted and now > self._until:
            self._wanted = 0
        parent = parse(picture.traceparent)
        context = frame_context(self.spec.name, self._stream, frame, captured, parent)
        sampled = self._tracing is not None and self._tracing.sampling.takes(context.trace, parent)
        wanted = self._wanted > 0 and picture.read_s is not None  # else it was read before the request
        if not (sampled or wanted) or len(self.open) >= MOST_OPEN:
            return None
        self.open[frame] = notes = FrameNotes(
            self.spec,
            self._stream,
            frame,
            captured,
            context._replace(sampled=sampled),
            picture.traceparent if parent is not None else "",
            wanted,
            submitted=now,
            wall=time.time(),
            read_s=picture.read_s or 0.0,
        )
        self._wanted -= wanted
        return notes

    def traceparent(self, frame: int) -> str:
        """Return what the messages of a frame carry: nothing, where it is not traced."""
        notes = self.open.get(frame)
        return "" if notes is None else notes.traceparent

    def note(self, commands: Iterable[Command]) -> None:
        """Take what is done about frames now."""
        now = self._clock.now()
        for command in commands:
            if not isinstance(command, Send) or command.later:  # such an answer comes after the frame's end
                continue
            if (notes := self.open.get(command.id.frame)) is not None:
                notes.sent(command, now)

    def answered(self, output: Output, now: float) -> None:
        """Take a node's answer."""
        if (notes := self.open.get(output.id.frame)) is not None:
            notes.answered(output, now)

    def gated(self, notes: FrameNotes) -> FrameTrace | None:
        """End the trace of a frame that the gate leaves out; return it if a client wants it."""
        now = notes.gated_at = self._clock.now()
        return self._end(notes, End(now, "gated", "nothing moved"))

    def closed(self, close: Close) -> FrameTrace | None:
        """End the trace of a frame that has ended, if it is traced; return it if a client wants it."""
        notes = self.open.get(close.frame)
        if notes is None:
            return None
        now = self._clock.now()
        outcome = close.outcome.value
        if close.outcome is not Outcome.DELIVERED or close.join is None:
            return self._end(notes, End(now, outcome, close.reason, close.detail))
        predicted = not close.join.outputs[close.join.spec.root].device
        return self._end(notes, End(now, outcome, objects=len(close.objects), predicted=predicted))

    def _end(self, notes: FrameNotes, end: End) -> FrameTrace | None:
        del self.open[notes.frame]
        trace = build(notes, end)
        if notes.context.sampled and self._tracing is not None:
            self._tracing.export(trace)
        if notes.wanted and end.reason == NEWER:
            self._wanted += 1  # nothing happened to it: another one will tell more
            return None
        return trace if notes.wanted else None
