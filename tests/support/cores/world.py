"""The world: time, links, the broker, and who is there. It goes on by itself (`flow`) or one step at a time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator

from hams_scheduler.leader.lease import LEASE_S
from hams_services.pipeline.flight import Outcome
from hams_shared.bus.protocol import Entry
from hams_shared.wire import codec
from hams_shared.wire.frames import Output
from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan, PlanRecord
from support.build import device, group_record, group_spec
from support.cores.agents import Agent
from support.cores.history import Journal, check_end
from support.cores.parts import Link, Message, Part, Queue, Work
from support.cores.pipeline import Pipeline
from support.cores.schedulers import Job, Scheduler
from support.cores.store import BUCKETS, Bucket, decoded

TICK_S = 0.25
LINK_LIMIT = 256
"""Most messages that wait on a link; what comes on top is lost."""
ROUNDS = 400
"""Rounds of deliveries after which a world that does not come to rest never will."""
SETTLE_S = 90.0
"""How long a healthy world may take until all groups serve: all retries of a frame, and a dwell time, s."""
DEVICES = ("h.b.zero", "h.b.one", "g.b.two")
GROUPS = {"face": (("det", "at_age"), ("det", "at_age", "at_eye")), "car": (("at_plate",), ("at_sign",))}
"""The nodes of each group, in two versions."""


class World:
    """One or two schedulers, three agents, a pipeline and a store."""

    def __init__(self, schedulers: int, style: int, fps: list[int], skews: list[float]) -> None:
        self.now = 1000.0
        self.buckets = {name: Bucket() for name in BUCKETS}
        self.buckets["plans"].written = self._plan_written
        self.journal = Journal()
        self.schedulers: list[Scheduler] = []
        self.links: dict[Link, Queue] = {}
        self.term = 0
        self.leaderless = self.now
        self.deployed = 0.0
        self.away = False
        self.asks = self.ticks = 0
        self.due: list[tuple[float, Callable[[], None]]] = []
        """What happens at a certain time."""
        self.slow: dict[str, float] = {}
        """What does not get on until some time: a part, or ``kind part`` for its messages or its work."""
        self.losses: Counter[str] = Counter()
        """How many of the next messages are lost, by ``kind part``."""
        self.owners: dict[tuple[str, int], Plan] = {}
        """What was ever decided, by (group, epoch)."""
        self.newest: dict[str, tuple[int, int]] = {}
        """The highest active and the highest epoch of each group's plans in the store."""
        self._fps = fps
        self.agents = {
            name: Agent(self, name, skews[i], record=device(name, cores=(i,), memory_mib=(1000, 15, 1000)[i]))
            for i, name in enumerate(DEVICES)
        }
        self.schedulers = [
            Scheduler(self, f"s{i}", skews[i], agents=self.agents, fps=self.fps, style=style) for i in range(schedulers)
        ]
        self.pipeline = Pipeline(self, "pipeline", skews[-1])
        for agent in self.agents.values():
            agent.listeners = [*self.schedulers, self.pipeline]
        self.named = {part.name: part for part in self.parts()}
        for part in self.parts():
            part.start()

    def fps(self, model: str, name: str) -> float:
        """Frames/s of a network; the first device runs all of them."""
        place = DEVICES.index(name)
        return float(self._fps[(len(model) + place) % len(self._fps)]) if place else 5.0

    def parts(self) -> Iterator[Agent | Scheduler | Pipeline]:
        yield from self.schedulers
        yield from self.agents.values()
        yield self.pipeline

    def part(self, name: str) -> Agent | Scheduler | Pipeline | None:
        """The part of this name, if there is one."""
        return self.named.get(name)

    @property
    def leader(self) -> Scheduler | None:
        return next((one for one in self.schedulers if one.alive and one.state.leading), None)

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────

    def _plan_written(self, entry: Entry, restored: bool) -> None:
        """Epochs only grow, unless nobody remembers them, and a plan never changes under its epoch.

        Who writes a lost record back may have an old one.
        """
        if entry.value is None:
            return
        record, group = decoded(PlanRecord, entry.value), entry.key
        active, newest = self.newest.get(group, (0, 0))
        for plan in (record.active, record.next):
            if plan is None or self.owners.get((group, plan.epoch)) == plan:
                continue
            forgotten = not self._remembered(plan.epoch)
            assert forgotten or plan.epoch > newest, f"{group}: plan {plan.epoch} is made after {newest}"
            self.owners[(group, plan.epoch)] = plan
        back = record.active is not None and record.in_force < active and self._remembered(active)
        assert restored or not back, f"{group} goes back from epoch {active} to {record.in_force}"
        self.newest[group] = (record.in_force, max(record.newest, newest if self._remembered(newest) else 0))

    def _remembered(self, epoch: int) -> bool:
        """Whether some agent has seen so high an epoch, and can be asked."""
        return any(agent.reachable and agent.state.epoch >= epoch for agent in self.agents.values())

    def records(self, bucket: str, kind: type) -> dict[str, object]:
        return {key: decoded(kind, entry.value or b"") for key, entry in self.buckets[bucket].present().items()}

    def deploy(self, name: str, version: int, *, strategy: str = "mfs", priority: int = 0) -> None:
        self.deployed += 1.0
        spec = group_spec(
            name, GROUPS[name][version], strategy=strategy, priority=priority, deadline_s=2.0, in_flight=3
        )
        self.buckets["groups"].store(name, codec.encode(group_record(spec, self.deployed)))

    def undeploy(self, name: str) -> None:
        if name in self.buckets["groups"].present():
            self.buckets["groups"].store(name, None)

    # ── links ─────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, link: Link, message: Message) -> None:
        """Publish: lost where the sender or the receiver is not connected, or too much waits already."""
        if not self.named[link.source].reachable or not self.named[link.to].reachable:
            return
        queue = self.links.setdefault(link, deque())
        if len(queue) < LINK_LIMIT:
            queue.append(message)

    def deliver(self, link: Link) -> None:
        """Hand over the oldest message of a link, unless it is to be lost."""
        message, part = self.links[link].popleft(), self.named[link.to]
        label = f"{link.kind} {link.source}"
        if self.losses[label] > 0:
            self.losses[label] -= 1
            return
        match message:
            case Heartbeat():
                assert isinstance(part, Scheduler | Pipeline)
                part.heard(message)
            case Work():
                assert isinstance(part, Agent)
                part.accept(message)
            case Output():
                assert isinstance(part, Pipeline)
                part.output(message)

    def waiting(self) -> list[Link]:
        """Links with messages on them."""
        return sorted(link for link, queue in self.links.items() if queue)

    # ── what can be done now ──────────────────────────────────────────────────────────────────────────────────

    def loading(self) -> list[Agent]:
        return [agent for agent in self.agents.values() if agent.alive and agent.can_load]

    def computing(self) -> list[Agent]:
        return [agent for agent in self.agents.values() if agent.alive and agent.queue]

    def jobs(self) -> list[tuple[Scheduler, Job]]:
        return [(one, job) for one in self.schedulers if one.alive for job in one.jobs]

    def writing(self) -> list[Scheduler]:
        return [one for one in self.schedulers if one.alive and one.writes]

    def under_way(self) -> list[tuple[str, str, int]]:
        """Images of applications that are worked on: group, stream, frame."""
        groups = self.pipeline.groups.items()
        return [(name, "infer", frame) for name, group in groups for frame in group.streams["infer"].core.flights]

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Do `action` after `delay` s."""
        self.due.append((self.now + delay, action))

    def flow(self, seconds: float, *, feed: bool = True, until: Callable[[], bool] = lambda: False) -> None:
        """Go on for a while."""
        end = self.now + seconds
        while self.now < end - 1e-6 and not until():
            self.now += TICK_S
            due = [action for at, action in self.due if at <= self.now]
            self.due = [one for one in self.due if one[0] > self.now]
            for action in due:
                action()
            for part in self.parts():
                if part.alive and not self._is_slow(part.name):
                    part.tick()
            self._elect()
            self.ticks += 1
            if feed and self.ticks % 2:
                self.feed()
            self.rest()

    def _is_slow(self, what: str) -> bool:
        """Whether a part does nothing, or none of one kind: ``kind part``."""
        return self.slow.get(what, 0.0) > self.now

    def rest(self) -> None:
        """Do all that can be done at this moment."""
        slow = frozenset(what for what in self.slow if self._is_slow(what))
        for _ in range(ROUNDS):
            moved = False
            for part in self.parts():
                if part.alive and part.name not in slow:
                    moved |= part.turn(slow)
            for link in self.waiting():
                if link.to in slow or f"{link.kind} {link.source}" in slow:
                    continue
                for _ in range(len(self.links[link])):
                    self.deliver(link)
                moved = True
            if not moved:
                return
        raise AssertionError("the world does not come to rest")

    def feed(self) -> None:
        """Bring each stream a frame, if it wants one."""
        for name, group in self.pipeline.groups.items() if self.pipeline.alive else ():
            for stream in ("cam", "file"):
                if group.streams[stream].core.wants_frame:
                    self.pipeline.submit(name, stream)

    def _elect(self) -> None:
        """A scheduler takes the lead where nobody has had it for long enough."""
        if self.leader is not None:
            self.leaderless = self.now
        elif self.now - self.leaderless > LEASE_S:
            for one in self.schedulers:
                if one.reachable:
                    self.lead(one)
                    return

    def lead(self, one: Scheduler) -> None:
        """A scheduler takes the lead, from another if there is one."""
        if self.leader is not None:
            self.leader.follow()
        self.term += 1
        one.lead(self.term)

    # ── losses ────────────────────────────────────────────────────────────────────────────────────────────────

    def kill(self, part: Part) -> None:
        """End a process; what is on its way to it is lost."""
        part.die()  # type: ignore[attr-defined]
        for link in self.waiting():
            if link.to == part.name:
                self.links[link].clear()

    def revive(self, part: Agent | Scheduler) -> None:
        """What a supervisor does."""
        if not part.alive and (part.client.connected or isinstance(part, Agent)):
            part.start()

    def cut(self, part: Part) -> None:
        """Lose a part's connection, and what is on its way to it."""
        part.client.connected = False
        for link in self.waiting():
            if part.name in (link.to, link.source):
                self.links[link].clear()

    def heal(self, part: Part) -> None:
        """Reconnect a part, if the broker is there."""
        if self.away or part.client.connected:
            return
        part.client.connected = True
        part.client.generation += 1
        if isinstance(part, Agent):
            part.registered, part.announces = part.leaving, True
        elif part.alive:
            part.back()  # type: ignore[attr-defined]

    def broker_goes(self) -> None:
        self.away = True
        for part in self.parts():
            self.cut(part)

    def broker_comes(self, lost: frozenset[str] = frozenset()) -> None:
        """The broker is back, maybe without some of its buckets."""
        self.away = False
        for bucket in lost:
            self.buckets[bucket].wipe()
        for part in self.parts():
            self.heal(part)

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def mend(self) -> None:
        """Nothing is lost from now on: who died or refused something begins a new life."""
        self.due, self.slow = [], {}
        self.losses.clear()
        if self.away:
            self.broker_comes()
        for name in DEVICES:
            self.buckets["health"].store(name, None)
        for part in self.parts():
            self.heal(part)
            if isinstance(part, Agent):
                part.faults = 0
                if part.leaving or part.marred or part.refuses:
                    self.kill(part)
            if not part.alive:
                part.start()

    def settle(self) -> None:
        """In a healthy world every group serves at last, and nothing stays half done."""
        self.mend()
        self.flow(LEASE_S, feed=False)  # who began anew has been heard
        self.flow(SETTLE_S, feed=False, until=lambda: not self.unrest())
        assert not self.unrest(), self.unrest()
        assert self.leader is not None
        check_end(self.journal, self.leader.state)
        frames = [
            (group, name, stream, self.pipeline.submit(group, name))
            for group, known in self.pipeline.groups.items()
            for name, stream in known.streams.items()
        ]
        self.flow(2 * TICK_S, feed=False)
        for group, name, stream, frame in frames:
            close = stream.closed.get(frame)
            assert close is not None, f"{group}/{name} does not serve"
            assert close.outcome is Outcome.DELIVERED, f"{group}/{name}: {close.reason}"

    def unrest(self) -> list[str]:
        """What is not yet as it should be."""
        groups, plans = self.records("groups", GroupRecord), self.records("plans", PlanRecord)
        found = [] if self.leader is not None else ["nobody leads"]
        found += [f"{group} has a plan and is not deployed" for group in plans.keys() - groups.keys()]
        if self.pipeline.groups.keys() != groups.keys():
            found.append(f"the pipeline runs {sorted(self.pipeline.groups)}")
        for name, group in groups.items():
            record = plans.get(name)
            assert record is None or isinstance(record, PlanRecord)
            if record is None or record.active is None:
                found.append(f"{name} has no active plan")
            elif record.next is not None:
                found.append(f"{name} goes on from {record.active.shares} to {record.next.shares}")
            elif record.active.group != group:
                found.append(f"the plan of {name} is that of an earlier deployment")
            elif self.pipeline.routes.epochs.get(name) != record.active.epoch:
                found.append(
                    f"{name} is served under {self.pipeline.routes.epochs.get(name)}, not {record.active.epoch}"
                )
        for name, run in self.pipeline.groups.items():
            found += [f"{name}/{s}: frames are under way" for s, stream in run.streams.items() if not stream.core.idle]
        for agent in self.agents.values():
            strange = {group for group, _ in agent.state.assignments} - groups.keys()
            found += [f"{agent.name} serves {group}" for group in strange]
        found += [f"{one.name} owes answers" for one in self.schedulers if one.asked or one.state.questions]
        return found
