"""The pipeline: real streams, replicas and liveness in the shell's place, and a book of every frame."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hams_services.pipeline.core import HELD, StreamCore
from hams_services.pipeline.flight import Close, Command, Outcome, Send
from hams_services.pipeline.routing import Replicas, Reroute, Routes, room
from hams_services.pipeline.selection_rules import SelectionRules
from hams_shared.wire.frames import Output
from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan, PlanRecord
from support.cores.parts import Link, Part, Work
from support.cores.store import Client, Watch

FAILURES = frozenset({"bad-model", "deadline", "stale-epoch", "refused"})
"""Why a lossless frame may fail: its network broke, or MAX_ATTEMPTS attempts did."""
REMOVED = frozenset({"undeployed"})
GIVEN_UP = "nobody waits"
DROPS = frozenset({"newer-frame", "device-lost", "deadline", "stale-epoch", "refused", GIVEN_UP}) | REMOVED


@dataclass(eq=False, repr=False)
class Stream:
    """A stream and how each of its frames ended."""

    core: StreamCore
    closed: dict[int, Close] = field(default_factory=dict)
    ended: Counter[Outcome] = field(default_factory=Counter)
    delivered: int = -1
    """The newest frame that was."""

    def take(self, close: Close) -> None:
        frame, lossless = close.frame, self.core.lossless
        assert frame not in self.closed, f"frame {frame} ends twice"
        self.closed[frame] = close
        self.ended[close.outcome] += 1
        match close.outcome:
            case Outcome.DELIVERED:
                attempts = {(output.id.attempt, output.id.epoch) for output in close.join.outputs.values()}
                assert len(attempts) == 1, f"frame {frame} is joined from attempts {attempts}"
                assert frame > self.delivered, f"frame {frame} is delivered after {self.delivered}"
                self.delivered = frame
            case Outcome.DROPPED:
                assert close.reason in (REMOVED | {GIVEN_UP} if lossless else DROPS), close.reason
            case Outcome.FAILED:
                assert close.reason in (FAILURES if lossless else {"bad-model"}), close.reason

    def validate(self) -> None:
        self.core.validate()
        ledger = self.core.ledger
        if not self.core.lossless:
            assert self.core.under_way <= self.core.window, "more frames under way than the window has room for"
        if self.core.stream != "infer":  # single images do not wait for room; their pixels are limited
            assert len(self.core.flights) + self.core.unpublished <= HELD * self.core.window, "too many frames are open"
        assert len(self.closed) + len(ledger.open) == ledger.submitted, "a frame is missing"
        assert not any(frame in self.closed for frame in ledger.open), "a frame has ended and has not"
        counted = (ledger.delivered, ledger.dropped.total(), ledger.failed.total())
        assert counted == tuple(self.ended[outcome] for outcome in Outcome), "the ledger counts other ends"


@dataclass(eq=False, repr=False)
class Group:
    """A deployed group."""

    record: GroupRecord
    replicas: Replicas
    streams: dict[str, Stream]

    def outstanding_at(self, device: str) -> list[tuple[str, int, int]]:
        """What waits for a device: stream, frame, attempt."""
        return [
            (name, flight.frame, flight.attempt)
            for name, stream in self.streams.items()
            for flight in stream.core.flights.values()
            if any(flight.route[node] == device for node in flight.outstanding)
        ]

    def waits(self, stream: str, frame: int, attempt: int) -> bool:
        """Whether that very attempt is still waited for."""
        flight = self.streams[stream].core.flights.get(frame)
        return flight is not None and flight.attempt == attempt and flight.retry_at is None

    def validate(self) -> None:
        for stream in self.streams.values():
            stream.validate()
        outstanding = Counter(
            (node, flight.route[node])
            for stream in self.streams.values()
            for flight in stream.core.flights.values()
            for node in flight.outstanding
        )
        assert outstanding == self.replicas.outstanding, "replicas count other outstanding nodes than frames do"


@dataclass(eq=False, repr=False)
class Pipeline(Part):
    """One pipeline process."""

    def start(self) -> None:
        self.alive = True
        self.client = Client(connected=self.client.connected)
        self.groups: dict[str, Group] = {}
        self.routes = Routes()
        self.frames = 0
        self.watches = {
            "plans": Watch(self.client, self.world.buckets["plans"], PlanRecord),
            "groups": Watch(self.client, self.world.buckets["groups"], GroupRecord),
        }

    def die(self) -> None:
        self.alive, self.client.closed = False, True

    # ── time and news ─────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        self.routes.away = not self.client.connected
        for command in self.routes.tick(self.now):
            group = self.groups[command.group]
            before = [one for device in sorted(command.broken) for one in group.outstanding_at(device)]
            self.reroute([command])
            assert not any(group.waits(*one) for one in before), f"{command.group}: frames wait for a lost device"
        for group in self.groups.values():
            for stream in group.streams.values():
                self.do(stream, stream.core.tick(self.now))
            group.validate()

    def back(self) -> None:
        """The broker is back: what it held is lost."""
        self.reroute(self.routes.reconnected())

    def turn(self, slow: frozenset[str]) -> bool:
        """Do all that can be done now, unless it is slow; whether there was anything."""
        moved = False
        for bucket in self.watches:
            while f"kv {self.name}" not in slow and self.take_news(bucket):
                moved = True
        return moved

    def take_news(self, bucket: str) -> bool:
        news = self.watches[bucket].take()
        if news is None:
            return False
        entry, record = news
        if not entry.lost and bucket == "plans":
            self.reroute(self.routes.plan_seen(entry.key, record))
        elif not entry.lost and (entry.key not in self.groups or self.groups[entry.key].record != record):
            self._group_seen(entry.key, record)
        return True

    def _group_seen(self, name: str, record: GroupRecord | None) -> None:
        if record is not None and name in self.groups:
            self.groups[name].record = record  # all streams go on
            self.reroute(self.routes.deployed(record))
            return
        self.routes.removed(name)
        known = self.groups.pop(name, None)
        for stream in known.streams.values() if known else ():
            self.do(stream, stream.core.close("undeployed"))
            assert not stream.core.ledger.open, "a frame outlives its stream"
        if record is None:
            return
        spec, replicas = record.spec, Replicas()
        streams = {
            name: Stream(StreamCore(name, lossless, spec.window(lossless=lossless), spec.deadline_s, replicas=replicas))
            for name, lossless in (("cam", False), ("file", True), ("infer", True))
        }
        self.groups[name] = Group(record, replicas, streams)
        self.reroute(self.routes.deployed(record))

    def heard(self, beat: Heartbeat) -> None:
        known = self.routes.live.peers.get(beat.device)
        restarted = known is not None and known.heartbeat.incarnation != beat.incarnation
        groups = list(self.groups.values()) if restarted else []
        before = [(group, one) for group in groups for one in group.outstanding_at(beat.device)]
        self.reroute(self.routes.heartbeat(beat, self.now))
        assert not any(group.waits(*one) for group, one in before), "frames wait for a device that has died"

    # ── routes and frames ─────────────────────────────────────────────────────────────────────────────────────

    def reroute(self, commands: list[Reroute]) -> None:
        self.routes.validate()
        for command in commands:
            group = self.groups[command.group]
            for stream in group.streams.values():
                if command.plan is not None:
                    self._take_rules(stream.core, command.plan.group)
                    places = {} if stream.core.lossless else command.plan.shares
                    stream.core.limits = {node: room(at, 1, command.lanes) for node, at in places.items()}
                self.do(stream, stream.core.route(command.plan, command.broken, self.now))
            group.validate()

    @staticmethod
    def _take_rules(core: StreamCore, record: GroupRecord) -> None:
        core.window = record.spec.window(lossless=core.lossless)
        core.change(record.spec.deadline_s, SelectionRules(record.spec, None))

    def submit(self, name: str, stream: str) -> int:
        """Bring a frame; its number."""
        group = self.groups[name]
        self.frames += 1
        captured = self.world.now + self.frames * 1e-6
        frame, commands = group.streams[stream].core.submit(captured, self.now)
        self.do(group.streams[stream], commands)
        group.streams[stream].validate()
        return frame

    def output(self, output: Output) -> None:
        group = self.groups.get(output.id.group)
        if group is not None:
            stream = group.streams[output.id.stream]
            self.do(stream, stream.core.output(output, self.now))
            stream.validate()

    def give_up(self, name: str, stream: str, frame: int) -> None:
        group = self.groups[name]
        self.do(group.streams[stream], group.streams[stream].core.give_up(frame, GIVEN_UP, self.now))
        group.validate()

    def ready(self, plan: Plan) -> bool:
        return all(self.routes.live.ready(device, plan.group.spec.name, plan.epoch) for device in plan.devices)

    def do(self, stream: Stream, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Close():
                    stream.take(command)
                    if command.outcome is Outcome.DELIVERED:
                        self.do(stream, stream.core.published(self.now))
                case Send(frame, plan, route):
                    assert frame.frame not in stream.closed, "an ended frame is sent"
                    assert plan is stream.core.plan, "a frame is sent under a plan that is not in force"
                    assert self.ready(plan), "a frame is sent to a device that is not ready"
                    several = {node: to for node, to in route.items() if len(plan.shares[node]) > 1}
                    work = Work(frame, plan.group.spec.root, several)
                    self.world.send(Link("work", self.name, route[work.node]), work)
