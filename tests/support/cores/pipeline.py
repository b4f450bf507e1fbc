"""The pipeline: real streams, replicas and liveness in the shell's place, and a book of every frame."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hams_services.pipeline.core import Close, Command, Outcome, Send, StreamCore
from hams_services.pipeline.routing import Replicas
from hams_shared.runtime.liveness import Liveness
from hams_shared.wire.frames import Output
from hams_shared.wire.messages import GroupRecord, Heartbeat, Plan, PlanRecord
from support.cores.parts import Link, Part, Work
from support.cores.store import Client, Watch

FAILURES = frozenset({"bad-model", "deadline", "stale-epoch", "refused"})
"""Why a lossless frame may fail: its network broke, or MAX_ATTEMPTS attempts did."""
REMOVED = frozenset({"undeployed", "redeployed"})
GIVEN_UP = "nobody waits"
DROPS = frozenset({"newer-frame", "device-lost", "deadline", "stale-epoch", "refused", GIVEN_UP}) | REMOVED


def root_limit(plan: Plan, streams: int) -> int:
    """As :func:`hams_services.pipeline.service.root_limit`."""
    return max(1, -(-2 * len(plan.shares[plan.group.spec.root]) // max(streams, 1)))


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

    def owed_by(self, device: str) -> list[tuple[str, int, int]]:
        """What waits for a device: stream, frame, attempt."""
        return [
            (name, flight.frame, flight.attempt)
            for name, stream in self.streams.items()
            for flight in stream.core.flights.values()
            if any(flight.route[node] == device for node in flight.owing)
        ]

    def waits(self, stream: str, frame: int, attempt: int) -> bool:
        """Whether that very attempt is still waited for."""
        flight = self.streams[stream].core.flights.get(frame)
        return flight is not None and flight.attempt == attempt and flight.retry_at is None

    def validate(self) -> None:
        for stream in self.streams.values():
            stream.validate()
        owed = Counter(
            (node, flight.route[node])
            for stream in self.streams.values()
            for flight in stream.core.flights.values()
            for node in flight.owing
        )
        assert owed == self.replicas.owed, "what replicas owe is not what frames wait for"


@dataclass(eq=False, repr=False)
class Pipeline(Part):
    """One pipeline process."""

    def start(self) -> None:
        self.alive = True
        self.client = Client(connected=self.client.connected)
        self.live = Liveness()
        self.groups: dict[str, Group] = {}
        self.plans: dict[str, PlanRecord] = {}
        self.routes: dict[str, int | None] = {}
        self.frames = 0
        self.watches = {
            "plans": Watch(self.client, self.world.buckets["plans"], PlanRecord),
            "groups": Watch(self.client, self.world.buckets["groups"], GroupRecord),
        }

    def die(self) -> None:
        self.alive, self.client.closed = False, True

    # ── time and news ─────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        lost = frozenset(self.live.expire(self.now) if self.client.connected else ())
        for name, group in self.groups.items():
            before = [one for device in sorted(lost) for one in group.owed_by(device)]
            if lost:
                self.reroute(name, lost)
            assert not any(group.waits(*one) for one in before), f"{name}: frames wait for a lost device"
            for stream in group.streams.values():
                self.do(stream, stream.core.tick(self.now))
            group.validate()

    def back(self) -> None:
        """The broker is back: what it held is lost."""
        plans = [p for record in self.plans.values() for p in (record.active, record.next) if p is not None]
        everybody = frozenset(self.live.peers).union(*(plan.devices for plan in plans))
        self.live.peers.clear()
        for name in self.groups:
            self.reroute(name, everybody)

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
            self._plan_seen(entry.key, record)
        elif not entry.lost and (entry.key not in self.groups or self.groups[entry.key].record != record):
            self._group_seen(entry.key, record)
        return True

    def _plan_seen(self, name: str, record: PlanRecord | None) -> None:
        known = self.plans.get(name)
        if record is None:
            self.plans.pop(name, None)
        elif known is None or record.in_force >= known.in_force:
            self.plans[name] = record
        self.reroute(name, frozenset())

    def _group_seen(self, name: str, record: GroupRecord | None) -> None:
        known = self.groups.pop(name, None)
        for stream in known.streams.values() if known else ():
            self.do(stream, stream.core.close("redeployed" if record else "undeployed"))
            assert not stream.core.ledger.open, "a frame outlives its stream"
        if record is None:
            return
        spec, replicas = record.spec, Replicas()
        streams = {
            name: Stream(StreamCore(name, lossless, spec.window(lossless=lossless), spec.deadline_s, replicas=replicas))
            for name, lossless in (("cam", False), ("file", True), ("infer", True))
        }
        self.groups[name] = Group(record, replicas, streams)
        self.routes.pop(name, None)
        self.reroute(name, frozenset())

    def heard(self, beat: Heartbeat) -> None:
        known = self.live.peers.get(beat.device)
        news = self.live.heard(beat, self.now)
        restarted = known is not None and known.heartbeat.incarnation != beat.incarnation
        broken = frozenset({beat.device}) if news == "restarted" else frozenset[str]()
        for name, group in self.groups.items():
            before = group.owed_by(beat.device) if restarted else []
            self.reroute(name, broken)
            assert not any(group.waits(*one) for one in before), f"{name}: frames wait for a device that has died"

    # ── routes and frames ─────────────────────────────────────────────────────────────────────────────────────

    def ready(self, plan: Plan) -> bool:
        return all(self.live.ready(device, plan.group.spec.name, plan.epoch) for device in plan.devices)

    def reroute(self, name: str, broken: frozenset[str]) -> None:
        """As PipelineService does."""
        group, record = self.groups.get(name), self.plans.get(name)
        if group is None:
            return
        plan = record.active if record else None
        if plan is not None and (not self.ready(plan) or plan.group.spec.nodes != group.record.spec.nodes):
            plan = None
        epoch = plan.epoch if plan else None
        if not broken and name in self.routes and self.routes[name] == epoch:
            return
        self.routes[name] = epoch
        for stream in group.streams.values():
            if plan is not None:
                stream.core.root_limit = root_limit(plan, 1)
            self.do(stream, stream.core.route(plan, broken, self.now))
        group.validate()

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

    def do(self, stream: Stream, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Close():
                    stream.take(command)
                case Send(frame, plan, route):
                    assert frame.frame not in stream.closed, "an ended frame is sent"
                    assert plan is stream.core.plan, "a frame is sent under a plan that is not in force"
                    assert self.ready(plan), "a frame is sent to a device that is not ready"
                    several = {node: to for node, to in route.items() if len(plan.shares[node]) > 1}
                    work = Work(frame, plan.group.spec.root, several)
                    self.world.send(Link("work", self.name, route[work.node]), work)
