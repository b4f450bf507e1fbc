"""One stream's decisions: what to send, send again, drop, deliver. Pure.

Live streams always work on the newest frame: while the window is full, one frame waits, and a newer one replaces it.
`limits` bounds the frames that wait for each node's devices: a frame in the queue of a busy device grows old there, and
no newer one can replace it.
Lossless streams read no further than the window, and send a frame again when its device is lost, its deadline passes or
an agent refuses it for now. Results leave in frame order, each frame once. A complete frame that waits for an older one
has left the window: devices need other frames meanwhile.

Where a group has tracks, cadences or conditions, its :class:`Selection` says which frames the root looks at and which
objects the other nodes are given. Tracks are made in frame order; what is not computed is answered here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hams_services.pipeline.flight import MAX_ATTEMPTS, UNKNOWN, Close, Command, Flight, Hold, Outcome, Send, Shot
from hams_services.pipeline.join import Join
from hams_services.pipeline.ledger import Ledger
from hams_services.pipeline.routing import Replicas
from hams_services.pipeline.selection import Selection
from hams_shared.errors import MessageError
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire.frames import FrameId, Output
from hams_shared.wire.messages.plan import Plan

RETRYABLE = frozenset({"stale-epoch", "refused", "frame-gone", "frame-unreachable", "inference-failed"})
"""Errors after which a lossless frame is sent again; a live one is dropped."""

RETRY = Backoff(first=0.1, longest=6.4)
"""Pauses before a failed frame is sent again."""

HELD = 3
"""At most so many windows of frames are open, those that are complete and wait for an older one included."""


def retry_pause(code: str, failed_attempts: int, *, lossless: bool) -> float | None:
    """Return the pause in s before a frame that failed with `code` is sent again; None when it ends."""
    if not lossless or not may_pass(code) or failed_attempts >= MAX_ATTEMPTS:
        return None
    return RETRY.pause(failed_attempts)


def may_pass(code: str) -> bool:
    """Whether another attempt may succeed after `code`."""
    return code in RETRYABLE or code == "deadline"


@dataclass
class StreamCore:
    """The state of one stream. `now` is a monotonic time in s throughout."""

    stream: str
    lossless: bool
    window: int
    deadline_s: float
    ledger: Ledger = field(default_factory=Ledger)
    flights: dict[int, Flight] = field(default_factory=dict)
    """In frame order."""
    plan: Plan | None = None
    """The active plan, or None while some device of it is not ready: then nothing is sent."""
    waiting: deque[tuple[int, float, float, Shot]] = field(default_factory=lambda: deque(maxlen=1))
    """Live only: the newest frame, when the window is full."""
    unpublished: int = 0
    """Complete frames whose results are not published yet: they hold their part of the window."""
    held: int = 0
    """Complete frames that wait for an older one."""
    resent: int = 0
    replicas: Replicas = field(default_factory=Replicas)
    """Shared by all streams of the group."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Live only, by node: how many frames may wait for the node's devices."""
    selection: Selection | None = None
    """None: every node runs on every frame, and looks at all its parent's objects."""

    # ── events ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def wants_frame(self) -> bool:
        """Whether the stream takes the next frame now."""
        return not self.lossless or self._window_has_room()

    @property
    def under_way(self) -> int:
        """Frames in the window; of a live stream with predicted ones, those that devices have."""
        if self.selection is None or self.lossless:
            return len(self.flights) - self.held + self.unpublished
        return sum(bool(f.outstanding) or f.retry_at is not None for f in self.flights.values()) + self.unpublished

    @property
    def room(self) -> int:
        """How many frames a lossless stream may read at once; few while few are under way: devices wait for them."""
        return max(1, min(self.window - self.under_way, self.under_way))

    @property
    def idle(self) -> bool:
        """Whether no frame is under way or waiting."""
        return not (self.flights or self.unpublished or self.waiting)

    def submit(self, captured: float, now: float, shot: Shot = UNKNOWN) -> tuple[int, list[Command]]:
        """Take a frame read at Unix time `captured`; return its number and what to do."""
        frame = self.ledger.submit()
        commands: list[Command] = []
        if not self.lossless and not self._has_room():
            while self.waiting:
                commands.append(self._drop(self.waiting.popleft()[0], "newer-frame"))
            if self._needs_devices(shot) or not self._may_open():
                self.waiting.append((frame, captured, now, shot))
                return frame, commands
        return frame, commands + self._launch(frame, captured, now, shot, now)

    def leave_out(self, media_time_s: float) -> None:
        """Take a frame that the gate leaves out: it ends at once."""
        self.ledger.gate(self.ledger.submit())
        if self.selection is not None:
            self.selection.left_out(media_time_s)

    def route(self, plan: Plan | None, broken: Iterable[str], now: float) -> list[Command]:
        """The route changed: `plan` is the plan to send under (None: wait), `broken` the devices whose work is lost."""
        gone = frozenset(broken)
        self.plan = plan
        commands: list[Command] = []
        for flight in list(self.flights.values()):
            if flight.complete or not any(flight.route[node] in gone for node in flight.outstanding):
                continue
            if self.lossless:
                flight.retry_at = now
            else:
                commands += self._end(flight, Outcome.DROPPED, "device-lost")
        return commands + self._go(now)

    def output(self, output: Output, now: float) -> list[Command]:
        """Take a node's output."""
        flight = self.flights.get(output.id.frame)
        if (
            flight is None
            or flight.complete
            or flight.join is None
            or flight.plan is None
            or output.id.attempt != flight.attempt
            or output.id.epoch != flight.plan.epoch
            or output.id.captured != flight.captured  # another run of a stream of this name
        ):
            return []  # late, from an attempt given up
        self._answered(flight, output.node)
        if output.error is not None:
            if flight.retry_at is not None:
                return []  # the attempt has failed, or was lost, already
            return self._failed(flight, output.error["code"], now, f"{output.node}: {output.error.get('text', '')}")
        if self.selection is not None and output.node == flight.plan.group.spec.root:
            flight.root = output
            flight.deadline = math.inf  # it may wait for older frames
            return self._track(now) + self._go(now)
        flight.join.add(output)
        commands = self._give(flight, now)
        if not flight.join.complete:
            return [*commands, *self._go(now)] if commands or output.node == flight.plan.group.spec.root else []
        return [*commands, *self._complete(flight, now), *self._go(now)]

    def published(self, now: float) -> list[Command]:
        """The result of a delivered frame is published: there is room for another frame."""
        self.unpublished -= 1
        return self._go(now)

    def give_up(self, frame: int, reason: str, now: float) -> list[Command]:
        """Drop `frame` with `reason`: its application no longer waits."""
        flight = self.flights.get(frame)
        return [] if flight is None or flight.complete else self._end(flight, Outcome.DROPPED, reason) + self._go(now)

    def tick(self, now: float) -> list[Command]:
        """Time has passed: deadlines and due retries."""
        commands: list[Command] = []
        for flight in list(self.flights.values()):
            if not flight.complete and flight.retry_at is None and now >= flight.deadline:
                commands += self._failed(flight, "deadline", now)
        return commands + self._go(now)

    def close(self, reason: str) -> list[Command]:
        """The stream is removed: drop all frames under way."""
        commands: list[Command] = [self._drop(frame, reason) for frame, *_ in self.waiting]
        self.waiting.clear()
        for flight in list(self.flights.values()):
            if not flight.complete:
                commands += self._end(flight, Outcome.DROPPED, reason)
        return commands

    def validate(self) -> None:
        """Raise AssertionError unless flights, waiting frames and the ledger fit together; for tests."""
        self.ledger.validate()
        waiting = [frame for frame, *_ in self.waiting]
        assert self.ledger.open == set(self.flights) | set(waiting), "the ledger has other frames than the stream"
        assert list(self.flights) == sorted(self.flights), "flights are not in frame order"
        if self.lossless:
            assert not waiting, "a lossless frame waits outside the window"
        else:
            assert all(frame > max(self.flights, default=-1) for frame in waiting), "an older frame waits"
        assert self.held == sum(flight.complete for flight in self.flights.values()), "held frames are miscounted"
        assert not self.flights or not next(iter(self.flights.values())).complete, (
            "a frame is complete and not delivered"
        )
        for frame, flight in self.flights.items():
            assert flight.frame == frame, f"flight {flight.frame} is kept as {frame}"
            flight.validate()

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────

    def _has_room(self) -> bool:
        """Whether a live frame may be sent now."""
        return self._window_has_room() and all(self._waiting_for(node) < most for node, most in self.limits.items())

    def _window_has_room(self) -> bool:
        return self._may_open() and self.under_way < self.window

    def _may_open(self) -> bool:
        """Whether another frame may be open at all, under way or not."""
        return self.plan is not None and len(self.flights) + self.unpublished < HELD * self.window

    def _needs_devices(self, shot: Shot) -> bool:
        """Whether the root is to look at the frame."""
        return self.selection is None or self.selection.detects(shot)

    def _waiting_for(self, node: str) -> int:
        """Frames that the node's devices have, or will have once they are sent again, and have not answered."""
        assert self.plan is not None
        parent = self.plan.group.spec.nodes[node].parent
        return sum(
            (node in f.outstanding and parent not in f.outstanding) or (parent is None and f.retry_at is not None)
            for f in self.flights.values()
        )

    def _release(self, flight: Flight) -> None:
        """The attempt is over: nothing is outstanding for it at any device."""
        for node in flight.reserved:
            self.replicas.release(node, flight.route[node])
        flight.reserved.clear()
        flight.outstanding.clear()

    def _answered(self, flight: Flight, node: str) -> None:
        """The node has answered the attempt, or is not asked."""
        flight.outstanding.discard(node)
        if node in flight.reserved:
            flight.reserved.remove(node)
            self.replicas.release(node, flight.route[node])

    def _launch(self, frame: int, captured: float, submitted: float, shot: Shot, now: float) -> list[Command]:
        detect = self._needs_devices(shot)
        self.flights[frame] = flight = Flight(frame, captured, submitted, retry_at=now, shot=shot, detect=detect)
        if self.selection is not None:
            flight.paused_s = self.selection.launched(shot, detect=detect)
        return self._send(flight, now)

    def _send(self, flight: Flight, now: float) -> list[Command]:
        if self.plan is None:
            return []
        self._release(flight)
        spec = self.plan.group.spec
        flight.route = self.replicas.choose(self.plan, flight.route)
        flight.reserved = set(flight.route)
        flight.attempt += 1
        self.resent += flight.attempt > 0
        flight.plan = self.plan
        flight.id = FrameId(spec.name, self.stream, flight.frame, flight.attempt, self.plan.epoch, flight.captured)
        flight.join, flight.root = Join(spec), None
        flight.retry_at = None
        if flight.chosen is not None or not flight.detect:
            self._answered(flight, spec.root)
            flight.deadline = math.inf
            return self._track(now) if flight.chosen is None else self._resume(flight, flight.chosen, now)
        flight.outstanding = set(flight.route) - (self.selection.left if self.selection is not None else set())
        flight.deadline = now + self.deadline_s
        return [Send(flight.id, self.plan, flight.route, spec.root)]

    # ── what is chosen here ───────────────────────────────────────────────────────────────────────────────────

    def _track(self, now: float) -> list[Command]:
        """Make tracks of the frames whose root has answered, in frame order."""
        commands: list[Command] = []
        if self.selection is None:
            return commands
        for flight in list(self.flights.values()):
            if flight.chosen is None and not flight.seen and self.selection.in_order:
                break
            if flight.chosen is None and flight.seen and flight.retry_at is None:
                try:
                    flight.chosen = self.selection.look(flight)
                except MessageError as error:
                    flight.root = None
                    commands += self._failed(flight, error.code, now, error.text)
                    break
                commands += self._resume(flight, flight.chosen, now)
        return commands

    def _resume(self, flight: Flight, root: Output, now: float) -> list[Command]:
        """Go on with an attempt whose root's answer is known."""
        assert flight.join is not None
        flight.join.add(root)
        commands = self._give(flight, now)
        return [*commands, *self._complete(flight, now)] if flight.join.complete else commands

    def _give(self, flight: Flight, now: float) -> list[Command]:
        """Send the frame to the nodes whose objects can be chosen now; answer for those that have none."""
        commands: list[Command] = []
        if self.selection is None or flight.retry_at is not None:
            return commands
        assert flight.join is not None
        assert flight.plan is not None
        assert flight.id is not None
        for node in self.selection.due(flight):
            objects = self.selection.pick(flight, node)
            nodes = self.selection.below[node]
            if not objects:
                for one in nodes:
                    self._answered(flight, one)
                    flight.join.add(Output(id=flight.id, node=one, device="", items=[]))
                continue
            flight.outstanding |= nodes
            flight.deadline = now + self.deadline_s
            commands.append(Send(flight.id, flight.plan, flight.route, node, objects, flight.picks[node]))
        return commands

    def _complete(self, flight: Flight, now: float) -> list[Command]:
        """Join a frame of which all nodes have answered."""
        assert flight.join is not None
        try:
            flight.objects = flight.join.objects()
        except MessageError as error:
            return self._failed(flight, error.code, now, error.text)
        flight.retry_at = None
        self.held += 1
        return self._deliver_complete() or [Hold(flight.frame)]

    def _go(self, now: float) -> list[Command]:
        """Send frames that are due, and start the one that waits."""
        commands: list[Command] = []
        for flight in list(self.flights.values()):
            if flight.retry_at is not None and now >= flight.retry_at:
                commands += self._send(flight, now)
        while self.waiting and self._has_room():
            commands += self._launch(*self.waiting.popleft(), now)
        return commands + self._track(now)

    def _failed(self, flight: Flight, code: str, now: float, detail: str = "") -> list[Command]:
        flight.failed_attempts += 1
        pause = retry_pause(code, flight.failed_attempts, lossless=self.lossless)
        if pause is not None:
            self._release(flight)
            flight.retry_at = now + pause
            return []
        dropped = not self.lossless and may_pass(code)
        return self._end(flight, Outcome.DROPPED if dropped else Outcome.FAILED, code, detail) + self._go(now)

    def _drop(self, frame: int, reason: str) -> Close:
        """End a frame that was not sent."""
        self.ledger.drop(frame, reason)
        return Close(frame, Outcome.DROPPED, reason)

    def _end(self, flight: Flight, outcome: Outcome, reason: str, detail: str = "") -> list[Command]:
        del self.flights[flight.frame]
        self._release(flight)
        if self.selection is not None:
            self.selection.ended(flight)
        if outcome is Outcome.DROPPED:
            self.ledger.drop(flight.frame, reason)
        else:
            self.ledger.fail(flight.frame, reason)
        return [Close(flight.frame, outcome, reason, detail), *self._deliver_complete()]

    def _deliver_complete(self) -> list[Command]:
        """Deliver complete frames, oldest first, up to the first that is still under way."""
        commands: list[Command] = []
        while self.flights:
            frame, flight = next(iter(self.flights.items()))
            if flight.objects is None:
                break
            del self.flights[frame]
            self.ledger.deliver(frame)
            if self.selection is not None:
                self.selection.delivered(flight)
            self.held -= 1
            self.unpublished += 1
            close = Close(
                frame,
                Outcome.DELIVERED,
                objects=flight.objects,
                id=flight.id,
                join=flight.join,
                submitted=flight.submitted,
                shot=flight.shot,
                tracks=flight.tracks,
            )
            commands.append(close)
        return commands
