"""The scheduler's shell: KV, heartbeats and requests in; benchmarks asked for, plans written, questions answered.

Decisions are in :mod:`hams_scheduler.core`; here is only I/O. All state can be rebuilt from KV and heartbeats, so a
scheduler may die at any time; serving goes on without it. Of several schedulers one leads
(:mod:`hams_scheduler.leader.leadership`); the others take the same news, decide nothing and answer nothing.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from typing import TypeVar

from pydantic import BaseModel

import hams_shared
from hams_scheduler import background_jobs, core, events
from hams_scheduler.leader.kv_writes import WRITE_RETRY_S, Write, Writes
from hams_scheduler.leader.leadership import Leadership
from hams_scheduler.leader.plan_store import PlanStore
from hams_scheduler.state import SchedulerState
from hams_scheduler.view import scheduler_view
from hams_shared.bus.protocol import Bus, Entry, KeyValue, Message, Registration
from hams_shared.bus.records import changes, restore, watched
from hams_shared.bus.variant_registry import parse_key
from hams_shared.errors import (
    BadInputError,
    BrokerError,
    HamsError,
    MessageError,
    NotLeaderError,
    RefusedError,
)
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.runtime.lifecycle import Jobs, ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, Heartbeat, ProfileRecord
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import PlanRecord
from hams_shared.wire.messages.scheduler import MeasureAnswer, MeasureRequest, PlanAnswer, PlanRequest
from hams_shared.wire.variants import VariantRecord

log = logging.getLogger("hams.scheduler")

TICK_S = 0.25
PLAN_DEADLINE_S = 900.0
"""How long a question about plans may wait for benchmarks, s."""
GRACE_S = 0.5
"""How long jobs under way have to end when the scheduler stops, s: those that answer do."""
ASKED_LIMIT = 32
"""Most questions about plans waiting at once."""

M = TypeVar("M", bound=BaseModel)


class SchedulerService:
    """One scheduler process."""

    def __init__(self, bus: Bus, clock: Clock = SYSTEM_CLOCK) -> None:
        self._bus = bus
        self._clock = clock
        self._state = SchedulerState(started=clock.now(), leading=False)
        self._jobs: Jobs | None = None
        self._buckets: dict[str, KeyValue] = {}
        self._writes: Writes | None = None
        self._plans: PlanStore | None = None
        self._leadership: Leadership | None = None
        self._service: Registration | None = None
        self._away = False
        self._asked: dict[str, asyncio.Future[PlanAnswer]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Schedule until `stop` is set."""
        # Every scheduler, whether it leads or stands by, can be asked whether it is well (hams_shared.healthcheck).
        await self._bus.serve("hams-scheduler-replica", hams_shared.__version__, {}, {})
        for name in subjects.BUCKETS:
            self._buckets[name] = await self._bus.kv(subjects.bucket(name))
        self._plans = PlanStore(self._buckets["plans"])
        leadership = Leadership(self._buckets["leader"], self._lead, self._follow, self._clock)
        self._leadership = leadership
        self._writes = Writes(self._plans, self._buckets["profiles"], leadership, self._do, lambda: self._state.leading)
        await self._recall()
        async with asyncio.TaskGroup() as owner:
            self._jobs = Jobs(owner)
            tasks = [
                owner.create_task(job())
                for job in (
                    self._watch_devices,
                    self._watch_groups,
                    self._watch_variants,
                    self._watch_plans,
                    self._watch_profiles,
                    self._watch_health,
                    self._tick,
                    self._writes.run,
                )
            ]
            await self._bus.subscribe(subjects.heartbeat(), self._on_heartbeat, limit=8192)
            await self._bus.flush()
            log.info(
                "scheduler %s is ready: %d profiles, %d groups",
                leadership.id,
                len(self._state.profiles),
                len(self._state.groups),
            )
            tasks.append(owner.create_task(leadership.run()))
            await stop.wait()
            self._send_away("the scheduler that was asked is stopping")
            await ended(tasks)
            await leadership.give_back()
            await self._jobs.end(GRACE_S)

    def validate(self) -> None:
        """Raise AssertionError when the state is not as its core wants it; for tests."""
        self._state.validate()

    def on_disconnect(self) -> None:
        """The broker is away: nobody can be heard."""
        self._away = True

    def on_reconnect(self) -> None:
        """The broker is back."""
        self._away = False
        self._do(events.BrokerBack())

    # ── leading and following ─────────────────────────────────────────────────────────────────────────────────

    async def _lead(self, term: int) -> None:
        """Begin to decide: fence off earlier leaders, take what they wrote, and answer questions."""
        assert self._plans is not None
        found = {record.group: record for record in await self._plans.fence(term)}
        for record in found.values():
            self._do(events.PlanSeen(record.model_copy(update={"term": 0})))
        absent = [g for g in self._state.plans if g not in found]
        for group in absent:
            if not self._plans.had(group):  # decided in an earlier term and never written
                self._do(events.PlanGone(group))
        self._service = self._service or await self._bus.serve(
            "hams-scheduler",
            hams_shared.__version__,
            {"id": self.leadership.id},
            {
                "view": (subjects.scheduler_view(), self._on_view),
                "plan": (subjects.plan_request(), self._on_plan),
                "measure": (subjects.measure_request(), self._on_measure),
            },
            queue=self.leadership.id,  # a leader that was paused and not yet found dead takes no question from its heir
        )
        self._do(events.Lead())
        for group in absent:
            if group in self._state.plans:  # lost with the store: we still know it
                self._write(events.StorePlan(self._state.plans[group]))

    async def _follow(self) -> None:
        """Decide no more; what was decided and not written is dropped.

        Questions about plans wait on, for this scheduler may lead again, until it sees that another does.
        """
        self._do(events.Follow())
        if self._writes is not None:
            self._writes.drop()
        service, self._service = self._service, None
        if service is not None:
            try:
                await service.stop()
            except HamsError as error:  # its requests are refused by name
                log.info("still registered: %s", error)

    def _send_away(self, why: str) -> None:
        """Have those who wait for an answer ask another scheduler."""
        for future in self._asked.values():
            if not future.done():
                future.set_exception(NotLeaderError(why, "ask again"))

    @property
    def leadership(self) -> Leadership:
        """This scheduler's part in the choice of the leader."""
        assert self._leadership is not None
        return self._leadership

    def _check_leading(self) -> None:
        if not self._state.leading:
            raise NotLeaderError("this scheduler does not lead", "ask again")

    async def _recall(self) -> None:
        """Read back what an earlier scheduler knew."""
        for entry in (await self._buckets["profiles"].entries()).values():
            profile = _decoded(ProfileRecord, entry)
            if profile is not None:
                self._do(events.ProfileSeen(profile))
        for entry in (await self._buckets["variants"].entries()).values():
            variant = _decoded(VariantRecord, entry)
            if variant is not None:
                self._variant_seen(entry.key, variant)
        for entry in (await self._buckets["plans"].entries()).values():
            plan = _decoded(PlanRecord, entry)
            if plan is not None:
                self.leadership.heard(plan.term)
                self._do(events.PlanSeen(plan.model_copy(update={"term": 0})))
        for entry in (await self._buckets["groups"].entries()).values():
            group = _decoded(GroupRecord, entry)
            if group is not None:
                self._do(events.GroupSeen(entry.key, group))
        self._state.started = self._clock.now()

    # ── in ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _watch_devices(self) -> None:
        async for device, record in watched(self._buckets["devices"], DeviceRecord):
            self._do(events.DeviceSeen(device, record))

    async def _watch_groups(self) -> None:
        async for group, record in watched(self._buckets["groups"], GroupRecord):
            if record != self._state.groups.get(group):  # a renewed watch repeats
                self._do(events.GroupSeen(group, record))

    async def _watch_plans(self) -> None:
        """What others wrote; a leader knows what it wrote itself, and learns of what was lost."""
        assert self._plans is not None
        async for entry, record in changes(self._buckets["plans"], PlanRecord):
            self._plans.noticed(entry)
            known = self._state.plans.get(entry.key)
            if record is not None:
                self.leadership.heard(record.term)
                news = known is None or record.newest > known.newest
                if not self._state.leading or (news and record.term != self.leadership.term):
                    self._do(events.PlanSeen(record.model_copy(update={"term": 0})))
            elif known is not None and self._state.leading:  # lost, or taken as news just before we deleted it
                self._write(events.StorePlan(known))
            elif not entry.lost and not self._state.leading:
                self._do(events.PlanGone(entry.key))

    async def _watch_profiles(self) -> None:
        async for _, record in watched(self._buckets["profiles"], ProfileRecord):
            if record is not None and self._state.profiles.get(record.key) != record:
                self._do(events.ProfileSeen(record))

    async def _watch_health(self) -> None:
        async for device, health in watched(self._buckets["health"], DeviceHealth):
            self._do(events.HealthSeen(device, health))

    async def _watch_variants(self) -> None:
        async for key, record in watched(self._buckets["variants"], VariantRecord):
            self._variant_seen(key, record)

    def _variant_seen(self, key: str, record: VariantRecord | None) -> None:
        try:
            source, variant = parse_key(key)
        except BadInputError as error:
            log.error("KV variants: %s", error)
            return
        if record is not None and record.model.digest != variant:
            log.error("KV variants: %s holds another variant, %s", key, record.model.digest)
        elif record != self._state.variants.get(source, {}).get(variant):  # a renewed watch repeats
            self._do(events.VariantSeen(source, variant, record))

    async def _on_heartbeat(self, message: Message) -> None:
        self._do(events.HeartbeatSeen(codec.decode(Heartbeat, message.data)))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._asked and self.leadership.others:
                self._send_away("the scheduler that was asked leads no more")
            if not self._away:
                self._do(events.Tick())

    async def _on_view(self, message: Message) -> None:
        self._check_leading()
        view = scheduler_view(self._state, self._clock.now(), self.leadership.record, self.leadership.led_s)
        await message.respond(codec.encode(view))

    async def _on_measure(self, message: Message) -> None:
        self._check_leading()
        request = codec.decode(MeasureRequest, message.data)
        self._do(events.MeasureAsked(request.model, request.device))
        await message.respond(codec.encode(MeasureAnswer(cells=len(self._state.again))))

    async def _on_plan(self, message: Message) -> None:
        """Answer later, when all is measured; other requests are served meanwhile."""
        assert self._jobs is not None
        self._check_leading()
        request = codec.decode(PlanRequest, message.data)
        if len(self._asked) >= ASKED_LIMIT:
            raise RefusedError("too many plan requests are waiting", "try again in a moment")
        self._jobs.start(self._answer(message, request))

    async def _answer(self, message: Message, request: PlanRequest) -> None:
        request_id = uuid.uuid4().hex
        future: asyncio.Future[PlanAnswer] = asyncio.get_running_loop().create_future()
        self._asked[request_id] = future
        try:
            self._do(events.PlanAsked(request_id, request))
            answer = await asyncio.wait_for(future, PLAN_DEADLINE_S)
        except TimeoutError:
            text = f"not all benchmarks ended within {PLAN_DEADLINE_S:g} s"
            answer = PlanAnswer(error=WireError(code="deadline", text=text))
        except NotLeaderError as error:
            answer = PlanAnswer(error=WireError(**error.to_wire()))
        finally:
            del self._asked[request_id]
            self._do(events.AskWithdrawn(request_id))
        try:
            await message.respond(codec.encode(answer))
        except BrokerError as error:
            log.warning("plan answer is lost: %s", error)

    # ── decisions, carried out ────────────────────────────────────────────────────────────────────────────────

    def _do(self, event: events.Event) -> None:
        for command in core.step(self._state, event, self._clock.now()):
            match command:
                case events.Note(text, device, group, epoch):
                    log.info("%s", text, extra={"device": device, "group": group, "epoch": epoch})
                case events.StorePlan() | events.DeletePlan() | events.StoreProfile():
                    self._write(command)
                case events.Profile():
                    self._own(self._profile(command))
                case events.Solve():
                    self._own(self._solve(command))
                case events.AnswerPlan():
                    self._own(self._compare(command))
                case events.AdoptGroup(group):
                    self._own(self._adopt(group))

    def _write(self, command: Write) -> None:
        assert self._writes is not None
        self._writes.put(command)

    def _own(self, job: Coroutine[None, None, None]) -> None:
        assert self._jobs is not None
        self._jobs.start(job)

    async def _adopt(self, record: GroupRecord) -> None:
        """Write back the group of an orphaned plan; when it was deleted, its plan goes as well."""
        name, groups = record.spec.name, self._buckets["groups"]
        while self._state.leading:
            try:
                if await restore(groups, name, codec.encode(record)) or await groups.get(name) is not None:
                    log.warning("group %s was lost by the broker: written back from its plan", name)
                else:
                    self._do(events.NotAdopted(name))
                return
            except HamsError as error:
                log.warning("cannot write back group %s: %s", name, error)
                await asyncio.sleep(WRITE_RETRY_S)

    async def _profile(self, command: events.Profile) -> None:
        self._do(await background_jobs.measure(self._bus, command))

    async def _solve(self, command: events.Solve) -> None:
        self._do(await background_jobs.solve(command))

    async def _compare(self, command: events.AnswerPlan) -> None:
        answer = await background_jobs.compare(command)
        future = self._asked.get(command.request_id)
        if future is not None and not future.done():
            future.set_result(answer)


def _decoded(kind: type[M], entry: Entry) -> M | None:
    """Decode a KV value; a bad one is logged and counts as absent."""
    if entry.value is None:
        return None
    try:
        return codec.decode(kind, entry.value)
    except MessageError as error:
        log.error("KV entry %s ignored: %s", entry.key, error)
        return None
