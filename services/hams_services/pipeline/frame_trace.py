"""From what the pipeline saw of one frame to its trace. Pure.

The pipeline knows by its own clock when it read a frame, sent it, and got each answer. What happened on a device is in
the answers, by the clock of the device's host. That clock is believed as far as cause and effect allow: work comes
after it was sent, and is done before its answer is here. Where the clocks of two boxes contradict that, the steps of
the node are shifted by the least that sets it right; how long each took is never changed.

    frame ─┬─ read ─ (gate) ─ (wait) ─┬─ ROOT: queue, prepare, infer, decode, crop
           │                          └─ CHILD after its parent, or after `choose`: the pipeline chooses its objects
           └─ join (with `hold`: it waits for an older frame) ─ publish

Each span lies within its parent, and begins after the one that it follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from hams_services.pipeline.flight import Send
from hams_services.pipeline.trace_clock import Placed, Served, placed
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.frames import Output
from hams_shared.wire.messages.trace import FrameTrace, TraceSpan
from hams_shared.wire.trace_context import Context

MOST = 256
"""Messages of one frame that are kept: of a frame that is sent again and again, the first."""
LEAST_MS = 0.001
"""Shorter waits are none."""


@dataclass(slots=True)
class FrameNotes:
    """What the pipeline saw of a frame. All times are monotonic, s."""

    spec: GroupSpec
    stream: str
    frame: int
    captured: float
    """Unix time, s."""
    context: Context
    parent: str
    """The traceparent that the frame came with."""
    wanted: bool
    """Whether a client requested the trace."""
    submitted: float
    wall: float
    """Unix time at `submitted`, s."""
    read_s: float = 0.0
    """How long its source took to read it, s."""
    gated_at: float | None = None
    """When the gate had looked at it."""
    sends: list[tuple[float, Send]] = field(default_factory=list)
    answers: list[tuple[float, Output]] = field(default_factory=list)
    delivering: float | None = None
    """When its turn had come."""
    joined: float | None = None
    """When its result was ready."""

    @property
    def traceparent(self) -> str:
        """As its messages carry it."""
        return self.context.traceparent

    def sent(self, send: Send, now: float) -> None:
        """It goes to a device."""
        self.spec = send.plan.group.spec
        if len(self.sends) < MOST:
            self.sends.append((now, send))

    def answered(self, output: Output, now: float) -> None:
        """A node has answered."""
        if len(self.answers) < MOST and output.id.captured == self.captured:
            self.answers.append((now, output))


@dataclass(frozen=True)
class End:
    """How a frame ended."""

    at: float
    """Monotonic time, s."""
    outcome: str
    """As of :class:`FrameTrace`."""
    reason: str = ""
    detail: str = ""
    objects: int = 0
    predicted: bool = False


def build(notes: FrameNotes, end: End) -> FrameTrace:
    """Return the trace of a frame that has ended."""
    trace = _Builder(notes, end)
    spans = trace.build()
    last = notes.sends[-1][1].id if notes.sends else None
    return FrameTrace.model_construct(
        version=1,
        group=notes.spec.name,
        stream=notes.stream,
        frame=notes.frame,
        attempts=0 if last is None else last.attempt + 1,
        epoch=0 if last is None else last.epoch,
        captured=notes.captured,
        began=notes.wall - notes.read_s,
        traceparent=notes.context.traceparent,
        parent=notes.parent,
        sampled=notes.context.sampled,
        outcome=cast(Any, end.outcome),
        reason=end.reason,
        detail=end.detail,
        objects=end.objects,
        predicted=end.predicted,
        spans=tuple(spans),
    )


class _Builder:
    """Makes the spans of one frame, in order."""

    def __init__(self, notes: FrameNotes, end: End) -> None:
        self._notes, self._end = notes, end
        self._zero = notes.submitted - notes.read_s
        self._last = self._ms(end.at)
        self._spans: list[TraceSpan] = []
        self._shift = (notes.submitted - notes.wall - self._zero) * 1e3
        """From Unix time, ms, to ms since the trace began."""

    def build(self) -> list[TraceSpan]:
        """Return all spans."""
        notes, end = self._notes, self._end
        error = "" if end.outcome in ("delivered", "gated") else _why(end.reason, end.detail)
        self._add("frame", None, 0.0, self._last, error=error)
        before, at = None, 0.0
        if notes.read_s > 0:
            before, at = self._add("read", 0, 0.0, self._ms(notes.submitted)), self._ms(notes.submitted)
        if notes.gated_at is not None:
            before, at = self._add("gate", 0, at, self._ms(notes.gated_at), follows=before), self._ms(notes.gated_at)
        if end.outcome == "gated":
            return self._spans
        attempts = sorted({send.id.attempt for _, send in notes.sends})
        for attempt in attempts:
            before, at = self._attempt(attempt, before, at, last=attempt == attempts[-1])
        if not attempts:
            until = self._ms(notes.delivering) if notes.delivering is not None else self._last
            before, at = self._gap("wait", before, at, until), until
        if notes.delivering is not None and notes.joined is not None:
            self._ended(before, at, self._ms(notes.delivering), self._ms(notes.joined))
        return self._spans

    # ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _attempt(self, attempt: int, before: int | None, at: float, *, last: bool) -> tuple[int | None, float]:
        """Add what one attempt did; return what ended last of it, and when."""
        sends = [(self._ms(when), send) for when, send in self._notes.sends if send.id.attempt == attempt]
        answers = [(self._ms(when), one) for when, one in self._notes.answers if one.id.attempt == attempt]
        before = self._gap("wait", before, at, sends[0][0])
        over = self._last
        if not last:
            later = [self._ms(when) for when, send in self._notes.sends if send.id.attempt > attempt]
            failed = [when for when, one in answers if one.error is not None]
            over = min(later + failed)
        spec = self._notes.spec
        by_pipeline = {send.node: when for when, send in sends}
        served = [
            Served(one.node, when, one, None if one.node in by_pipeline else spec.nodes[one.node].parent)
            for when, one in answers
            if one.node in spec.nodes and one.device
        ]
        found = placed(served, by_pipeline, sends[0][0], self._shift)
        index: dict[str, int] = {}
        latest: tuple[float, float, int | None] = (sends[0][0], sends[0][0], before)
        for one in sorted(found, key=lambda one: (one.start, spec.depth(one.node))):
            if one.parent is not None and one.parent in index:
                follows: int | None = index[one.parent]
            else:
                follows = self._chosen(one, answers, index, before, by_pipeline, sends[0][1].node)
            index[one.node] = self._node(one, follows)
            if last or one.received <= over:  # a later one is of an attempt that was given up
                latest = max((one.received, one.end, index[one.node]), latest, key=lambda found: found[:2])
        if not (last and self._end.outcome == "delivered"):
            self._unanswered(sends, index, before, over)
        return latest[2], latest[0]

    def _chosen(
        self,
        one: Placed,
        answers: list[tuple[float, Output]],
        index: dict[str, int],
        before: int | None,
        by_pipeline: dict[str, float],
        first: str,
    ) -> int | None:
        """Add how the pipeline chose what a child is to look at; return what the child follows."""
        sent = by_pipeline.get(one.node)
        if sent is None or one.node == first:
            return before
        sent = min(sent, one.start)
        known = [(when, output.node) for when, output in answers if when <= sent and output.node in index]
        if not known:
            return before
        when, node = max(known)
        return self._gap("choose", index[node], when, sent, node=one.node)

    def _node(self, one: Placed, follows: int | None) -> int:
        output = one.output
        error = "" if output.error is None else _why(output.error["code"], output.error.get("text", ""))
        images = None if output.error is not None else len(output.items)
        where = one.node, output.device
        index = self._add(
            one.node, 0, one.start, one.end, where, follows=follows, error=error, images=images, shifted=one.shifted
        )
        for name, start, end in one.steps:
            self._add(name, index, start, end, where)
        return index

    def _unanswered(
        self, sends: list[tuple[float, Send]], index: dict[str, int], before: int | None, over: float
    ) -> None:
        """Add the nodes that had the frame, and did not answer."""
        spec = self._notes.spec
        for when, send in sends:
            todo = [(send.node, min(when, over), before)]
            while todo:
                node, start, follows = todo.pop()
                if node in index:
                    done = self._spans[index[node]]
                    if not done.error:
                        todo += [(c, done.end_ms, index[node]) for c in spec.children(node) if c not in spec.chosen]
                    continue
                where = node, send.route.get(node, "")
                index[node] = self._add(node, 0, start, over, where, follows=follows, error="no answer")

    def _ended(self, before: int | None, at: float, delivering: float, joined: float) -> None:
        """Add the end of a frame that is delivered."""
        start = min(at, delivering)
        join = self._add("join", 0, start, joined, follows=before)
        if delivering - start > LEAST_MS:
            self._add("hold", join, start, delivering)
        self._add("publish", 0, joined, self._last, follows=join)

    def _gap(self, name: str, before: int | None, start: float, end: float, node: str = "") -> int | None:
        """Add a span where something was waited for; return what comes next follows."""
        return self._add(name, 0, start, end, (node, ""), follows=before) if end - start > LEAST_MS else before

    def _add(
        self,
        name: str,
        parent: int | None,
        start: float,
        end: float,
        where: tuple[str, str] = ("", ""),
        *,
        follows: int | None = None,
        images: int | None = None,
        shifted: float = 0.0,
        error: str = "",
    ) -> int:
        begin = min(max(start, 0.0), self._last)
        self._spans.append(
            TraceSpan.model_construct(
                name=name,
                parent=parent,
                start_ms=round(begin, 3),
                end_ms=round(min(max(end, begin), self._last), 3),
                follows=follows,
                node=where[0],
                device=where[1],
                images=images,
                shifted_ms=round(shifted, 3),
                error=error,
            )
        )
        return len(self._spans) - 1

    def _ms(self, at: float) -> float:
        return max(0.0, (at - self._zero) * 1e3)


def _why(reason: str, detail: str) -> str:
    return f"{reason}: {detail}" if detail else reason or "unknown"
