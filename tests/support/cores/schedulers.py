"""A scheduler: the real core and the real store of plans in the shell's place."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hams_scheduler import core, events, profiling
from hams_scheduler.kept_plans import Kept
from hams_scheduler.leader.lease import Lease
from hams_scheduler.leader.plan_store import PlanStore
from hams_scheduler.leader.write_rules import Next, OvertakenError, after
from hams_scheduler.state import SchedulerState
from hams_shared.errors import DeadlineError, HamsError, NotLeaderError, RefusedError
from hams_shared.wire import codec
from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, Heartbeat, ProfileRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.history import HistoryEntry
from hams_shared.wire.messages.pipeline import ReadCost
from hams_shared.wire.messages.plan import PlanRecord
from hams_shared.wire.messages.scheduler import PlanRequest
from support.cores.agents import Agent
from support.cores.history import Journal, check_plans
from support.cores.parts import Link, Message, Part
from support.cores.solver import REAL, solution
from support.cores.store import Bucket, Client, Watch, run

Write = events.StorePlan | events.DeletePlan | events.StoreProfile
Job = events.Profile | events.MeasureVideo | events.Solve | events.Prepare | events.AdoptGroup | events.AnswerPlan
KINDS = {
    "devices": DeviceRecord,
    "groups": GroupRecord,
    "plans": PlanRecord,
    "profiles": ProfileRecord,
    "health": DeviceHealth,
}


class Place(Protocol):
    """What a scheduler sees of the world, beside what every part sees."""

    now: float
    buckets: dict[str, Bucket]
    journal: Journal
    schedulers: list[Scheduler]

    def send(self, link: Link, message: Message) -> None: ...


@dataclass(eq=False, repr=False)
class Scheduler(Part):
    """One scheduler process."""

    world: Place

    agents: dict[str, Agent] = field(kw_only=True)
    fps: Callable[[str, str], float] = field(kw_only=True)
    """(model's name, device) → frames/s, 0 where it does not run."""
    style: int = 1
    """See :func:`support.cores.solver.solution`."""

    def start(self) -> None:
        """Begin a life: read back what an earlier scheduler knew."""
        self.alive = True
        self.client = Client(connected=self.client.connected)
        self.state = SchedulerState(started=self.now, lease=Lease(self.name))
        self.plans = PlanStore(self.view("plans"))  # type: ignore[arg-type]
        self.writes: deque[tuple[int, Write]] = deque()
        self.jobs: list[Job] = []
        self.asked: set[str] = set()
        self.made: dict[str, int] = {}
        """By the device that is lost: the style of the solution that is kept."""
        self.watches = {name: Watch(self.client, self.world.buckets[name], kind) for name, kind in KINDS.items()}
        self.untold: list[HistoryEntry] = []
        """Entries that are not stored yet."""
        self.history_due = True
        """Whether the journal is to be read."""
        for bucket in KINDS:
            while self.take_news(bucket):
                pass
        self.history()

    def die(self) -> None:
        self.alive, self.client.closed = False, True
        self.state.lease.led = 0

    # ── leading and following ─────────────────────────────────────────────────────────────────────────────────

    def lead(self, term: int) -> None:
        """Begin to decide, in a term that nobody led in."""
        plans = run(self.plans.fence(term))
        self.state.lease.term = term
        self.state.lease.begin()
        self.do(events.Lead(tuple(plans), self.plans.written, back=self.plans.back))

    def follow(self) -> None:
        """Decide no more."""
        self.state.lease.led = 0
        self.do(events.Follow())
        self.untold.clear()
        self.history_due = True
        for request_id in sorted(self.asked):
            self.do(events.AskWithdrawn(request_id))
        self.asked.clear()

    def ask(self, request_id: str, request: PlanRequest) -> None:
        self.asked.add(request_id)
        self.do(events.PlanAsked(request_id, request))

    def withdraw(self) -> None:
        """Nobody waits for the oldest answer any more."""
        request_id = min(self.asked)
        self.asked.remove(request_id)
        self.do(events.AskWithdrawn(request_id))

    # ── time and news ─────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        if self.client.connected:
            self.do(events.Tick())

    def back(self) -> None:
        """The broker is back."""
        self.do(events.BrokerBack())

    def turn(self, slow: frozenset[str]) -> bool:
        """Do all that can be done now, unless it is slow; whether there was anything."""
        moved = False
        for bucket in KINDS:
            while f"kv {self.name}" not in slow and self.take_news(bucket):
                moved = True
        while f"writes {self.name}" not in slow and (self.write() or self.history()):
            moved = True
        for job in list(self.jobs) if f"jobs {self.name}" not in slow else ():
            moved |= self.finish(job)
        return moved

    def take_news(self, bucket: str) -> bool:
        news = self.watches[bucket].take()
        if news is None:
            return False
        entry, record = news
        if bucket == "plans":
            back = self.plans.noticed(entry, record)
            self.do(events.PlanEntrySeen(entry.key, record, entry.lost, back))
        elif entry.lost:
            return True
        elif bucket == "devices":
            self.do(events.DeviceSeen(entry.key, record))
        elif bucket == "health":
            self.do(events.HealthSeen(entry.key, record))
        elif bucket == "groups":
            self.do(events.GroupSeen(entry.key, record))
        elif bucket == "profiles" and record is not None:
            self.do(events.ProfileSeen(record))
        return True

    def heard(self, beat: Heartbeat) -> None:
        self.do(events.HeartbeatSeen(beat))

    # ── decisions, carried out ────────────────────────────────────────────────────────────────────────────────

    def do(self, event: events.Event) -> None:
        before, used, kept = dict(self.state.plans.records), self.state.kept.used, dict(self.state.kept.plans)
        twin, telling = self._twin(event), self.state.leading and self.state.told.ready
        commands = core.step(self.state, event, self.now)
        if telling and self.state.leading and not isinstance(event, events.HistoryRead | events.Lead):
            check_plans(before, self.state, commands)
        if self.state.kept.used > used:
            assert twin is not None, "a kept plan is used although no device is lost"
            self._check_kept(kept, twin, event, commands)
        for command in commands:
            match command:
                case events.StorePlan() | events.DeletePlan() | events.StoreProfile():
                    self.writes.append((self.state.lease.led, command))
                case (
                    events.Profile()
                    | events.MeasureVideo()
                    | events.Solve()
                    | events.Prepare()
                    | events.AdoptGroup()
                    | events.AnswerPlan()
                ):
                    self.jobs.append(command)
            if isinstance(command, events.Tell):
                self.untold.append(command.entry)
            if isinstance(command, events.StorePlan):
                self._check_ready(before.get(command.record.group), command.record)
        self.state.validate()
        profiling.validate(self.state)

    def _twin(self, event: events.Event) -> SchedulerState | None:
        """A copy of the state without kept plans, if a device is lost for which there is one, or may be by `event`."""
        kept, live = self.state.kept.plans, self.state.devices.live
        lost = kept.keys() - set(self.state.devices.alive())
        late = any(self.now - peer.seen > live.lost_after for peer in live.peers.values())
        if not kept or not (lost or late or isinstance(event, events.DeviceSeen | events.HealthSeen)):
            return None
        twin = copy.deepcopy(self.state)
        twin.kept.plans.clear()
        return twin

    def _check_kept(
        self, kept: dict[str, Kept], twin: SchedulerState, event: events.Event, commands: list[events.Command]
    ) -> None:
        """What a kept plan gave is what solving now would give."""
        found = core.step(twin, event, self.now)
        [solve] = [command for command in found if isinstance(command, events.Solve)]
        [device] = [d for d in kept if events.Note(f"the plan for the loss of {d} was ready", d) in commands]
        numbers = twin.learned_numbers(twin.groups.sorted(), twin.devices.alive()).table()
        known = {name: value for name, value in kept[device].inputs.numbers.table().items() if name[1] != device}
        if self.made[device] == REAL and numbers != known:
            return  # about the same numbers may give another placement that is about as good
        answer = solution(solve.snapshot, self.made[device], self.world.now)
        found += core.step(twin, events.Solved(solve.generation, answer), self.now)
        assert writes(commands) == writes(found), "a kept plan is not what solving gives"

    def _check_ready(self, before: PlanRecord | None, after: PlanRecord) -> None:
        """A plan is active only when each of its devices has said that it is ready."""
        plan = after.active
        if plan is None or (before is not None and before.active == plan):
            return
        for device in plan.devices:
            key = (after.group, plan.epoch)
            assert key in self.agents[device].readied, f"{key} is active, and {device} was never ready"

    def history(self) -> bool:
        """Read the journal, or store the next entry; whether there was something to do."""
        if not self.client.connected or not (self.history_due or self.untold):
            return False
        if self.history_due:
            self.history_due = False
            self.do(events.HistoryRead(tuple(self.world.journal.entries)))
        elif self.state.leading:
            entry = self.untold.pop(0)
            self.world.journal.store(entry)
            for other in self.world.schedulers:
                if other.reachable:
                    other.do(events.HistoryTold(entry))
        return True

    def write(self) -> bool:
        """Carry out the next write; whether there was one that can be."""
        if not self.writes or not self.client.connected:
            return False
        term, command = self.writes.popleft()
        if not term or term != self.state.lease.led:
            return True
        try:
            match command:
                case events.StorePlan(record):
                    run(self.plans.store(record, term))
                case events.DeletePlan(group):
                    run(self.plans.delete(group, term))
                case events.StoreProfile(record):
                    self.put("profiles", record.key, record)
        except (OvertakenError, NotLeaderError) as error:
            if after(error) is Next.STEP_DOWN:
                self.follow()
            elif isinstance(error, OvertakenError):
                self.do(events.PlanSeen(error.found))
        return True

    def finish(self, job: Job, *, fails: bool = False) -> bool:
        """Finish a job, or let it fail; whether it could be."""
        if not self.client.connected and not isinstance(job, events.Solve):
            return False
        self.jobs.remove(job)
        match job:
            case events.Profile():
                self.do(self._measured(job, fails=fails))
            case events.Prepare(generation, device, snapshot):
                if generation == self.state.kept.generation:
                    self.made[device] = self.style
                answer = None if fails else solution(snapshot, self.style, self.world.now)
                self.do(events.Prepared(generation, answer, 0.001))
            case events.MeasureVideo(key):
                self.do(events.VideoMeasured(key, ReadCost(cpu_ms=0.0 if fails else 1.0)))
            case events.Solve(generation, snapshot):
                answer = None if fails else solution(snapshot, self.style, self.world.now)
                current, before = generation == self.state.replanning.generation, dict(self.state.plans.records)
                self.do(events.Solved(generation, answer, HamsError("the solver broke") if fails else None))
                assert current or before == self.state.plans.records, "what was solved for an earlier leader is taken"
            case events.AdoptGroup(record):
                self._adopt(record)
            case events.AnswerPlan(request_id):
                self.asked.discard(request_id)
                self.do(events.AskWithdrawn(request_id))
        return True

    def _measured(self, job: events.Profile, *, fails: bool) -> events.ProfileDone:
        agent, cell = self.agents[job.device], job.cell
        if fails or not agent.reachable:
            agent.marred = True
            return events.ProfileDone(job.device, cell, None, DeadlineError("no answer"))
        record = agent.record
        fps = self.fps(cell.model, job.device)
        found = ProfileRecord(
            digest=cell.digest,
            model_name=cell.model,
            input_shape=cell.input_shape,
            fingerprint=record.fingerprint,
            runtime=record.runtime,
            precision=record.precisions[0],
            fps=fps,
            memory_mib=10,
            reason=None if fps > 0 else "operator Foo is unknown",
        )
        return events.ProfileDone(job.device, cell, found)

    def _adopt(self, record: GroupRecord) -> None:
        if not self.state.leading:
            return
        name, groups = record.spec.name, self.view("groups")
        try:
            run(groups.update(name, codec.encode(record), 0))
        except RefusedError:
            if run(groups.get(name)) is None:
                self.do(events.NotAdopted(name))


def writes(commands: list[events.Command]) -> list[events.Command]:
    """Those that decide what is served; when a plan was made does not count."""
    found: list[events.Command] = []
    for command in commands:
        if isinstance(command, events.DeletePlan):
            found.append(command)
        elif isinstance(command, events.StorePlan):
            record = command.record
            plans = {"active": record.active, "next": record.next}
            same = {name: plan and plan.model_copy(update={"made_at": 0.0}) for name, plan in plans.items()}
            found.append(events.StorePlan(record.model_copy(update=same)))
    return found
