"""The scheduler's shell: KV, heartbeats and requests in; benchmarks requested, plans written, questions answered.

Decisions are in :mod:`hams_scheduler.core`; here is only I/O. All state can be rebuilt from KV and heartbeats, so a
scheduler may die at any time; serving goes on without it. Of several schedulers one leads
(:mod:`hams_scheduler.leader`); the others take the same events, decide nothing and answer nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine

import hams_shared
from hams_scheduler import core, events, profiling
from hams_scheduler.heartbeat_reader import HeartbeatReader
from hams_scheduler.history_keeper import HistoryKeeper
from hams_scheduler.leader.lease import Lease
from hams_scheduler.leader.lease_store import Leadership
from hams_scheduler.leader.plan_store import WRITE_RETRY_S, PlanStore, Write, WriteQueue
from hams_scheduler.model_keeper import ModelKeeper
from hams_scheduler.questions import Questions
from hams_scheduler.solver_threads import decided
from hams_scheduler.state import SchedulerState
from hams_scheduler.view import scheduler_view
from hams_shared.bus.protocol import Bus, Handler, KeyValue, Message, Registration
from hams_shared.bus.records import changes, opened, restore, watched
from hams_shared.bus.variant_registry import parse_key
from hams_shared.errors import (
    BadInputError,
    DeadlineError,
    HamsError,
    MessageError,
    NotLeaderError,
)
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.runtime.lifecycle import Jobs, ended
from hams_shared.runtime.process import host_name
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, ProfileRecord, ProfileRequest
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import PipelineLoad, ReadCost, ReadCostRequest
from hams_shared.wire.messages.plan import PlanRecord
from hams_shared.wire.messages.scheduler import MeasureAnswer, MeasureRequest, PlanRequest, ViewRequest
from hams_shared.wire.variants import VariantRecord

log = logging.getLogger("hams.scheduler")

TICK_S = 0.25
PROFILE_DEADLINE_S = 780.0
"""How long an agent may take for one benchmark, s.

It loads two networks at most, after one for a plan, each for 300 s: some NPUs compile for minutes. Then it ends itself.
The loss of an agent is noticed at once.
"""
PROFILE_RETRY_S = 1.0
"""Pause after a benchmark without an answer, s."""
WATCHED = ("devices", "groups", "variants", "plans", "profiles", "health")
"""The buckets that a scheduler follows."""
RECALL_S = 30.0
"""How long reading KV at the start may take, s."""
READ_COST_DEADLINE_S = 30.0
"""How long the pipeline may take to measure what reading a video costs, s."""
GRACE_S = 0.5
"""How long jobs under way have to end when the scheduler stops, s: those that answer do."""


class SchedulerService:
    """One scheduler process."""

    def __init__(self, bus: Bus, clock: Clock = SYSTEM_CLOCK) -> None:
        self._bus = bus
        self._clock = clock
        self._lease = Lease(uuid.uuid4().hex[:8])
        self._state = SchedulerState(started=clock.now(), lease=self._lease)
        self._jobs: Jobs | None = None
        self._buckets: dict[str, KeyValue] = {}
        self._writes: WriteQueue | None = None
        self._plans: PlanStore | None = None
        self._leadership: Leadership | None = None
        self._service: Registration | None = None
        self._read = {name: asyncio.Event() for name in WATCHED}
        """By bucket: set when all that was present at the start is read."""
        self._unread: dict[str, WireError] = {}
        """By group: why its newest record cannot be read."""
        self._away = False
        self._heartbeats = HeartbeatReader()
        self._questions = Questions(self._do)
        self._history = HistoryKeeper(bus, self._lease, self._do, clock)
        self._models = ModelKeeper(bus, self._lease, clock)

    async def run(self, stop: asyncio.Event) -> None:
        """Schedule until `stop` is set."""
        # Every scheduler, whether it leads or stands by, answers health checks (hams_shared.healthcheck).
        answers: dict[str, tuple[str, Handler]] = {"history": (subjects.history_after(), self._history.answer)}
        await self._bus.serve("hams-scheduler-replica", hams_shared.__version__, {}, answers)
        for name in subjects.BUCKETS:
            self._buckets[name] = await opened(self._bus.kv, subjects.bucket(name), stop)
        leadership = self._join()
        async with asyncio.TaskGroup() as owner:
            self._jobs = Jobs(owner)
            tasks = [owner.create_task(job()) for job in self._loops()]
            await self._bus.subscribe(subjects.heartbeat(), self._on_heartbeat, limit=8192)
            await self._bus.subscribe(subjects.pipeline_load(), self._on_pipeline, limit=64)
            await self._recall()
            log.info(
                "scheduler %s is ready: %d profiles, %d groups",
                self._lease.me,
                len(self._state.profiles.records),
                len(self._state.groups.records),
            )
            tasks.append(owner.create_task(leadership.run()))
            await stop.wait()
            self._questions.send_away("the scheduler that was asked is stopping")
            await ended(tasks)
            await leadership.give_back()
            await self._jobs.end(GRACE_S)

    def _join(self) -> Leadership:
        """Make what takes part in the choice of the leader, and what a leader writes with."""
        self._plans = PlanStore(self._buckets["plans"])
        self._leadership = Leadership(self._buckets["leader"], self._lease, self._lead, self._follow, self._clock)
        profiles, step_down = self._buckets["profiles"], self._leadership.step_down
        self._writes = WriteQueue(self._plans, profiles, self._lease, self._do, step_down, self._clock)
        return self._leadership

    def _loops(self) -> tuple[Callable[[], Coroutine[None, None, None]], ...]:
        """What runs as long as this scheduler does."""
        assert self._writes is not None
        return (
            self._watch_devices,
            self._watch_groups,
            self._watch_variants,
            self._watch_plans,
            self._watch_profiles,
            self._watch_health,
            self._tick,
            self._writes.run,
            self._history.run,
            self._models.run,
        )

    def validate(self) -> None:
        """Raise AssertionError when the state contradicts itself; for tests."""
        self._state.validate()
        profiling.validate(self._state)

    def on_disconnect(self) -> None:
        """The broker is away: no heartbeat can arrive."""
        self._away = True

    def on_reconnect(self) -> None:
        """The broker is back."""
        self._away = False
        self._do(events.BrokerBack())

    # ── leading and following ─────────────────────────────────────────────────────────────────────────────────

    async def _lead(self, term: int) -> None:
        """Begin to decide: fence off earlier leaders, take their plans, and answer questions."""
        assert self._plans is not None
        plans = await self._plans.fence(term)
        self._service = self._service or await self._bus.serve(
            "hams-scheduler",
            hams_shared.__version__,
            {"id": self._lease.me},
            {
                "view": (subjects.scheduler_view(), self._on_view),
                "plan": (subjects.plan_request(), self._on_plan),
                "measure": (subjects.measure_request(), self._on_measure),
            },
            queue=self._lease.me,  # a paused leader, not yet known to be lost, takes no question from its successor
        )
        self._lease.begin()
        self._do(events.Lead(tuple(plans), self._plans.written, host_name(), self._plans.back))

    async def _follow(self) -> None:
        """Decide no more; what was decided and not written is dropped.

        Questions about plans wait on, for this scheduler may lead again, until it sees that another does.
        """
        self._do(events.Follow())
        self._history.read_again()
        if self._writes is not None:
            self._writes.drop()
        service, self._service = self._service, None
        if service is not None:
            try:
                await service.stop()
            except HamsError as error:  # its requests are refused by name
                log.info("still registered: %s", error)

    @property
    def lease(self) -> Lease:
        """Whether this scheduler leads."""
        return self._lease

    def _check_leading(self) -> None:
        if not self._lease.led:
            raise NotLeaderError("this scheduler does not lead", "ask again")

    async def _recall(self) -> None:
        """Wait until all that KV holds is read: what an earlier scheduler knew.

        Raises:
            DeadlineError: KV does not answer.
        """
        try:
            async with asyncio.timeout(RECALL_S):
                for read in self._read.values():
                    await read.wait()
        except TimeoutError:
            raise DeadlineError(f"KV was not read within {RECALL_S:g} s", "is the broker overloaded?") from None
        self._state.started = self._clock.now()

    # ── in ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _watch_devices(self) -> None:
        async for device, record in watched(self._buckets["devices"], DeviceRecord, self._read["devices"]):
            self._do(events.DeviceSeen(device, record))

    async def _watch_groups(self) -> None:
        unread = self._unread
        async for group, record in watched(self._buckets["groups"], GroupRecord, self._read["groups"], unread):
            self._do(events.GroupSeen(group, record))

    async def _watch_plans(self) -> None:
        assert self._plans is not None
        async for entry, record in changes(self._buckets["plans"], PlanRecord, self._read["plans"]):
            back = self._plans.noticed(entry, record)
            self._do(events.PlanEntrySeen(entry.key, record, entry.lost, back))

    async def _watch_profiles(self) -> None:
        async for _, record in watched(self._buckets["profiles"], ProfileRecord, self._read["profiles"]):
            if record is not None:
                self._do(events.ProfileSeen(record))

    async def _watch_health(self) -> None:
        async for device, health in watched(self._buckets["health"], DeviceHealth, self._read["health"]):
            self._do(events.HealthSeen(device, health))

    async def _watch_variants(self) -> None:
        async for key, record in watched(self._buckets["variants"], VariantRecord, self._read["variants"]):
            self._variant_seen(key, record)

    def _variant_seen(self, key: str, record: VariantRecord | None) -> None:
        try:
            source, variant = parse_key(key)
        except BadInputError as error:
            log.error("KV variants: %s", error)
            return
        if record is not None and record.model.digest != variant:
            log.error("KV variants: %s holds another variant, %s", key, record.model.digest)
        else:
            self._do(events.VariantSeen(source, variant, record))

    async def _on_heartbeat(self, message: Message) -> None:
        self._do(events.HeartbeatSeen(self._heartbeats.read(message.data)))

    async def _on_pipeline(self, message: Message) -> None:
        self._do(events.PipelineSeen(codec.decode(PipelineLoad, message.data)))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._questions and self._lease.others:
                self._questions.send_away("the scheduler that was asked follows another now")
            self._questions.log_waiting(self._state, self._clock.now())
            if not self._away:
                self._do(events.Tick())

    async def _on_view(self, message: Message) -> None:
        self._check_leading()
        assert self._leadership is not None
        now = self._clock.now()
        wanted = codec.decode(ViewRequest, message.data) if message.data else ViewRequest()
        led_s = now - self._leadership.began
        record, unread = self._leadership.record, self._unread
        view = scheduler_view(self._state, now, record, led_s, wanted=wanted, unread=unread)
        await message.respond(codec.encode(view))

    async def _on_measure(self, message: Message) -> None:
        self._check_leading()
        request = codec.decode(MeasureRequest, message.data)
        self._do(events.MeasureAsked(request.model, request.device))
        await message.respond(codec.encode(MeasureAnswer(cells=len(self._state.profiles.requested))))

    async def _on_plan(self, message: Message) -> None:
        """Answer later, when all is measured; other requests are served meanwhile."""
        assert self._jobs is not None
        self._check_leading()
        request = codec.decode(PlanRequest, message.data)
        self._questions.check_room()
        self._jobs.start(self._questions.answer(message, request, self._clock.now()))

    # ── decisions, carried out ────────────────────────────────────────────────────────────────────────────────

    def _do(self, event: events.Event) -> None:
        for command in core.step(self._state, event, self._clock.now()):
            match command:
                case events.Note(text, device, group, epoch):
                    log.info("%s", text, extra={"device": device, "group": group, "epoch": epoch})
                case events.Tell(entry):
                    self._history.tell(entry)
                case events.StorePlan() | events.DeletePlan() | events.StoreProfile():
                    self._write(command)
                case events.Profile():
                    self._own(self._profile(command))
                case events.MeasureVideo():
                    self._own(self._measure_video(command))
                case events.Solve():
                    self._own(self._solve(command))
                case events.Prepare():
                    self._own(self._prepare(command))
                case events.AnswerPlan():
                    self._own(self._questions.compare(command))
                case events.AdoptGroup(group):
                    self._own(self._adopt(group))

    def _write(self, command: Write) -> None:
        assert self._writes is not None
        self._writes.put(command)

    def _own(self, job: Coroutine[None, None, None]) -> None:
        assert self._jobs is not None
        self._jobs.start(job)

    async def _adopt(self, record: GroupRecord) -> None:
        """Restore the group of an orphaned plan; when it was deleted, its plan is deleted as well."""
        name, groups, term = record.spec.name, self._buckets["groups"], self._lease.led
        while term and term == self._lease.led:
            try:
                if await restore(groups, name, codec.encode(record)):
                    log.warning("group %s was lost by the broker: restored from its plan", name)
                elif await groups.get(name) is None:
                    self._do(events.NotAdopted(name))
                elif (unread := self._unread.get(name)) is not None:
                    log.warning("group %s cannot be read, its plan stays: %s; %s", name, unread.text, unread.hint)
                return
            except HamsError as error:
                log.warning("cannot restore group %s: %s", name, error)
                await asyncio.sleep(WRITE_RETRY_S)

    async def _profile(self, command: events.Profile) -> None:
        """Request a benchmark from an agent."""
        cell, baseline = command.cell, None
        if command.baseline is not None:
            source, there = command.baseline
            baseline = ProfileRequest(model=source, input_shape=there.input_shape, dtype=there.dtype)
        request = ProfileRequest(model=command.model, input_shape=cell.input_shape, dtype=cell.dtype, baseline=baseline)
        try:
            subject = subjects.profile(command.device)
            reply = await self._bus.request(subject, codec.encode(request), timeout=PROFILE_DEADLINE_S)
            record = codec.decode(ProfileRecord, reply.data)
            if record.key != cell.key:
                raise MessageError(f"{command.device} measured another cell: {record.key}")
        except HamsError as error:
            await asyncio.sleep(PROFILE_RETRY_S)
            self._do(events.ProfileDone(command.device, cell, None, error))
        else:
            self._do(events.ProfileDone(command.device, cell, record))

    async def _measure_video(self, command: events.MeasureVideo) -> None:
        """Ask the pipeline what reading a video costs; without an answer it counts as not known."""
        cost = ReadCost()
        try:
            request = codec.encode(ReadCostRequest(stream=command.stream))
            reply = await self._bus.request(subjects.read_cost(), request, timeout=READ_COST_DEADLINE_S)
            cost = codec.decode(ReadCost, reply.data)
            if cost.error is not None:
                log.info("the cost of a video is not known: %s", cost.error.text)
                cost = ReadCost()
        except HamsError as error:
            log.info("the cost of a video is not known: %s", error)
        self._do(events.VideoMeasured(command.key, cost))

    async def _solve(self, command: events.Solve) -> None:
        self._do(events.Solved(command.generation, *await decided(command.snapshot)))

    async def _prepare(self, command: events.Prepare) -> None:
        """Compute the plans for a loss that may come, in a thread; its CPU time decides when the next is computed.

        What the whole process spends meanwhile counts, since a strategy may have threads of its own.
        """
        begin = time.process_time()
        solution, _ = await decided(command.snapshot)
        self._do(events.Prepared(command.generation, solution, time.process_time() - begin))
