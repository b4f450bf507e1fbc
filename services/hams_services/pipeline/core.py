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

from msgspec.structs import replace

from hams_services.pipeline.canary import Canary
from hams_services.pipeline.core_check import check
from hams_services.pipeline.flight import UNKNOWN, Close, Command, Flight, Hold, Outcome, Send, Shot
from hams_services.pipeline.handing_out import hand_out
from hams_services.pipeline.ledger import Ledger
from hams_services.pipeline.retries import OF_DEVICE, may_pass, retry_pause
from hams_services.pipeline.routing import Replicas
from hams_services.pipeline.selection import Selection
from hams_services.pipeline.selection_rules import SelectionRules
from hams_shared.errors import as_hams_error
from hams_shared.wire.frames import Output
from hams_shared.wire.messages.plan import Plan

HELD = 3
"""At most so many windows of frames are open, those that are complete and wait for an older one included."""


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
    to_publish: deque[int] = field(default_factory=deque)
    """Complete frames whose results are not published yet: they hold their part of the window."""
    stopped_at: int | None = None
    """The first frame that did not end before the stream was stopped."""
    held: int = 0
    """Complete frames that wait for an older one."""
    resent: int = 0
    replicas: Replicas = field(default_factory=Replicas)
    """Shared by all streams of the group."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Live only, by node: how many frames may wait for the node's devices."""
    selection: Selection | None = None
    """None: every node runs on every frame, and looks at all its parent's objects."""
    ordered: bool = True
    """Whether results leave in frame order; single images do not wait for each other."""
    canary: Canary | None = None
    """The candidate that gets a share of the frames, where there is one."""

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
    def unpublished(self) -> int:
        """Complete frames whose results are not published yet."""
        return len(self.to_publish)

    @property
    def goes_on_at(self) -> int:
        """The first frame that has not ended, or whose result is not published."""
        begun = min(self.ledger.open, default=self.ledger.submitted) if self.stopped_at is None else self.stopped_at
        return min(begun, self.to_publish[0]) if self.to_publish else begun

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
        if not self.lossless and not self.has_room:
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

    def change(self, deadline_s: float, rules: SelectionRules) -> None:
        """Have a deadline and rules count for the frames that are sent from now on."""
        self.deadline_s = deadline_s
        if self.selection is not None:
            self.selection.change(rules)
        elif rules.needed:
            self.selection = Selection(rules)

    def route(self, plan: Plan | None, broken: Iterable[str], now: float) -> list[Command]:
        """The route changed: `plan` is the plan to send under (None: wait), `broken` the devices whose work is lost."""
        if plan is not None and (self.plan is None or plan.epoch != self.plan.epoch):
            for flight in self.flights.values():  # what failed may be another device's work now
                flight.retry_at = None if flight.retry_at is None else min(flight.retry_at, now)
        self.plan = plan
        return self._lose(frozenset(broken), now) + self._go(now)

    def route_canary(self, plan: Plan | None, broken: Iterable[str], now: float) -> list[Command]:
        """The same of the candidate; while it has no plan its frames go to what serves."""
        if self.canary is not None:
            self.canary.route(plan, self.flights.values(), now)
        return self._lose(frozenset(broken), now) + self._go(now)

    def set_canary(self, canary: Canary | None, now: float) -> list[Command]:
        """From now on another candidate, or none, gets frames; those of the old one go to what serves."""
        if self.canary is not None:
            self.canary.return_all(self.flights.values(), "ended", now)
        self.canary = canary
        return self._go(now)

    def output(self, output: Output, now: float) -> list[Command]:
        """Take a node's output."""
        flight = self.flights.get(output.id.frame)
        if self.selection is not None and self.selection.take(output, flight):
            return []
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
        flight.answered(output.node)
        if output.error is not None:
            return self._erred(flight, output.node, output.error, now)
        flight.served(output.node)
        if flight.rules is not None and output.node == flight.plan.group.spec.root:
            flight.root = output
            flight.deadline = math.inf  # it may wait for older frames
            return self._track(now) + self._go(now)
        flight.join.add(output)
        commands = hand_out(self.selection, flight, self.deadline_s, now)
        if not flight.join.complete:
            return [*commands, *self._go(now)] if commands or output.node == flight.plan.group.spec.root else []
        return [*commands, *self._complete(flight, now), *self._go(now)]

    def published(self, now: float) -> list[Command]:
        """The result of a delivered frame is published: there is room for another frame."""
        self.to_publish.popleft()
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

    def close(self, reason: str, *, resumed: bool = False) -> list[Command]:
        """The stream is removed: drop all frames under way; where it is `resumed` later, complete ones behind, too."""
        if resumed:
            self.stopped_at = min(self.ledger.open, default=self.ledger.submitted)
        commands: list[Command] = [self._drop(frame, reason) for frame, *_ in self.waiting]
        self.waiting.clear()
        flights = list(self.flights.values())
        for flight in reversed(flights) if resumed else flights:
            if resumed or not flight.complete:
                self.held -= flight.complete
                commands += self._end(flight, Outcome.DROPPED, reason)
        return commands

    def validate(self) -> None:
        """Raise AssertionError unless flights, waiting frames and the ledger fit together; for tests."""
        check(self.ledger, self.flights, [frame for frame, *_ in self.waiting], self.held, lossless=self.lossless)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────

    def _lose(self, gone: frozenset[str], now: float) -> list[Command]:
        """The work that these devices had is lost."""
        commands: list[Command] = []
        for flight in list(self.flights.values()):
            if flight.complete or not flight.needs(gone):
                continue
            if flight.canary and self.canary is not None:
                self.canary.fall_back(flight, "device-lost", now)
            elif self.lossless:
                flight.retry_at = now
            else:
                commands += self._end(flight, Outcome.DROPPED, "device-lost")
        return commands

    @property
    def has_room(self) -> bool:
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
        return sum(flight.waits_for(node, parent) for flight in self.flights.values())

    def _launch(self, frame: int, captured: float, submitted: float, shot: Shot, now: float) -> list[Command]:
        detect = self._needs_devices(shot)
        self.flights[frame] = flight = Flight(frame, captured, submitted, retry_at=now, shot=shot, detect=detect)
        flight.canary = self.canary is not None and self.canary.takes(frame, now)
        if self.selection is not None:
            flight.paused_s = self.selection.launched(shot, detect=detect)
        return self._send(flight, now)

    def _send(self, flight: Flight, now: float) -> list[Command]:
        if self.plan is None:
            return []
        flight.release()
        plan, flight.replicas, flight.record = self.plan, self.replicas, self.plan.group
        if flight.canary and self.canary is not None and self.canary.plan is not None:
            plan, flight.replicas = self.canary.plan, self.canary.replicas
        rules, spec = self.selection.rules if self.selection is not None else None, plan.group.spec
        sent = flight.begin(self.stream, plan, flight.replicas, rules)
        self.resent += flight.attempt > 0
        if flight.chosen is not None or not flight.detect:
            flight.answered(spec.root)
            flight.deadline = math.inf
            return self._track(now) if flight.chosen is None else self._resume(flight, flight.chosen, now)
        flight.outstanding = set(flight.route) - (rules.left if rules is not None else set())
        flight.deadline = now + flight.patience_s(self.deadline_s)
        return [Send(sent, plan, flight.route, spec.root)]

    # ── what is chosen here ───────────────────────────────────────────────────────────────────────────────────

    def _track(self, now: float) -> list[Command]:
        """Make tracks of the frames whose root has answered, in frame order."""
        commands: list[Command] = []
        if self.selection is None:
            return commands
        for flight in self.selection.to_look_at(list(self.flights.values())):
            try:
                flight.chosen = self.selection.look(flight)
                commands += self._resume(flight, flight.chosen, now)
            except Exception as error:  # a task that is not ours may return anything
                if flight.frame not in self.flights:
                    raise
                flight.root = flight.chosen = None
                found = as_hams_error(error)
                return commands + self._failed(flight, found.code, now, found.text)
        return commands

    def _resume(self, flight: Flight, root: Output, now: float) -> list[Command]:
        """Go on with an attempt whose root's answer is known."""
        assert flight.join is not None
        flight.join.add(root if root.node == flight.join.spec.root else replace(root, node=flight.join.spec.root))
        commands = hand_out(self.selection, flight, self.deadline_s, now)
        if flight.join.complete:
            return [*commands, *self._complete(flight, now)]
        if flight.deadline == math.inf:  # it waits for nodes that the root's agent feeds
            flight.deadline = now + flight.patience_s(self.deadline_s)
        return commands

    def _complete(self, flight: Flight, now: float) -> list[Command]:
        """Join a frame of which all nodes have answered."""
        assert flight.join is not None
        try:
            flight.objects = flight.join.objects()
        except Exception as error:  # as in `_track`
            found = as_hams_error(error)
            return self._failed(flight, found.code, now, found.text)
        flight.retry_at = None
        if flight.canary and self.canary is not None:
            self.canary.serves()
        self.held += 1
        if not self.ordered:
            return [self._deliver(flight)]
        return self._deliver_complete() or [Hold(flight.frame)]

    def _go(self, now: float) -> list[Command]:
        """Send frames that are due, and start the one that waits."""
        commands: list[Command] = []
        if self.selection is not None:
            self.selection.give_up(self.plan, now)
        for flight in list(self.flights.values()):
            if flight.retry_at is not None and now >= flight.retry_at:
                commands += self._send(flight, now)
        while self.waiting and self.has_room:
            commands += self._launch(*self.waiting.popleft(), now)
        return commands + self._track(now)

    def _erred(self, flight: Flight, node: str, error: Mapping[str, str], now: float) -> list[Command]:
        """Take an error of a node. One that may be its device's fault is tried at once on another, if there is one."""
        code = error["code"]
        if code in OF_DEVICE:
            flight.erred(node)
        if flight.retry_at is not None:
            return []  # the attempt has failed, or was lost, already
        if code in OF_DEVICE and self.lossless and not flight.canary and flight.another_may_do(node):
            flight.release()
            flight.failed_attempts += 1
            flight.retry_at = now
            return self._go(now)
        return self._failed(flight, code, now, f"{node}: {error.get('text', '')}")

    def _failed(self, flight: Flight, code: str, now: float, detail: str = "") -> list[Command]:
        if flight.canary and self.canary is not None:
            self.canary.fails(flight, code, now)
            return self._go(now)
        flight.failed_attempts += 1
        pause = retry_pause(code, flight.failed_attempts, lossless=self.lossless)
        if pause is not None:
            flight.release()
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
        flight.release()
        if self.selection is not None:
            self.selection.ended(flight)
        count = self.ledger.drop if outcome is Outcome.DROPPED else self.ledger.fail
        count(flight.frame, reason)
        return [Close(flight.frame, outcome, reason, detail), *self._deliver_complete()]

    def _deliver_complete(self) -> list[Command]:
        """Deliver complete frames, oldest first, up to the first that is still under way."""
        commands: list[Command] = []
        while self.flights and (flight := next(iter(self.flights.values()))).complete:
            commands.append(self._deliver(flight))
        return commands

    def _deliver(self, flight: Flight) -> Close:
        """Deliver a complete frame."""
        del self.flights[flight.frame]
        self.ledger.deliver(flight.frame)
        if self.selection is not None:
            self.selection.delivered(flight)
        self.held -= 1
        self.to_publish.append(flight.frame)
        return flight.delivered()
