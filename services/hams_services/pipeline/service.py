"""The pipeline's shell: plans and heartbeats in, frames out, outputs joined, results published.

subjects in:  outputs of all nodes, heartbeats, infer, push, events and status requests; plans and groups (KV watch)
subjects out: work for the roots' devices, results, pictures, traces

:class:`hams_services.pipeline.routing.Routes` decides which plan counts for a group; here it is only carried out.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import closing
from pathlib import Path

import hams_shared
from hams_services.pipeline.candidate import CandidateGroup, Candidates
from hams_services.pipeline.event_history import EventHistory
from hams_services.pipeline.gallery_janitor import keep_clean
from hams_services.pipeline.group import DeployedGroup
from hams_services.pipeline.pixel_budget import PixelBudget
from hams_services.pipeline.read_cost import read_cost
from hams_services.pipeline.result_history import ResultHistory
from hams_services.pipeline.routing import Reroute, Routes, SharedMemoryPeers
from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.sources.images import as_frame, size_of
from hams_services.pipeline.still import still
from hams_services.pipeline.stream_place import STOPPED
from hams_services.pipeline.traces import Tracing
from hams_services.pipeline.wishes import Wishes
from hams_shared.bus.ask import scheduler_view
from hams_shared.bus.chunks import Assembler
from hams_shared.bus.mailbox import Mailboxes
from hams_shared.bus.protocol import Bus, Handler, Message
from hams_shared.bus.records import opened, watched
from hams_shared.errors import BrokerError, HamsError, NotFoundError, OverloadedError, as_hams_error, from_wire
from hams_shared.group.difference import difference
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.runtime.lifecycle import Jobs, ended
from hams_shared.runtime.process import host_name
from hams_shared.wire import codec, subjects
from hams_shared.wire.frame_pool import FOLDER, memory_domain, remove_abandoned
from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import (
    GroupsView,
    InferAnswer,
    InferRequest,
    PipelineLoad,
    PipelineView,
    PushAnswer,
    PushRequest,
    ReadCost,
    ReadCostRequest,
    Still,
    StillRequest,
)
from hams_shared.wire.messages.plan import PlanRecord
from hams_shared.wire.protocol import SPOKEN

log = logging.getLogger("hams.pipeline")

Kind = type[InferAnswer] | type[PushAnswer] | type[ReadCost] | type[Still]
Handle = Callable[[Message, bytes], Awaitable[InferAnswer | PushAnswer | ReadCost | Still]]
"""Answers a request that takes a while."""

TICK_S = 0.05
LOAD_S = 1.0
"""How often the pipeline reports what it costs, s."""
UNDER_WAY = 64
"""Most images of applications under way at once, of each group and of each stream; more are refused."""
GRACE_S = 0.5
"""How long requests under way have to end when the pipeline stops, s."""
MESSAGES = 1024
"""Images, or parts of them, that may wait to be taken."""
ASK_S = 2.0
"""Deadline of a request to the scheduler, s."""


class PipelineService:
    """One pipeline process."""

    def __init__(
        self,
        bus: Bus,
        cache: Path,
        clock: Clock = SYSTEM_CLOCK,
        host: str = "",
        mailboxes: Path | None = FOLDER,
        tracing: Tracing | None = None,
    ) -> None:
        self._bus = bus
        self._tracing = tracing
        self._host = subjects.token(host or host_name())
        self._cache = cache
        self._clock = clock
        self._id = uuid.uuid4().hex[:6]
        self._routes = Routes()
        self._unread: dict[str, WireError] = {}
        """By group: why its newest record cannot be read."""
        self._groups: dict[str, DeployedGroup] = {}
        self._candidates = Candidates(self._groups)
        self._under_way: Counter[str] = Counter()
        """By subject, so by group or stream: each has a bound of its own."""
        self._infer_pixels, self._push_pixels = PixelBudget(), PixelBudget()
        self._images = Assembler()
        self._trials = asyncio.Semaphore(1)
        """Videos are measured one at a time."""
        self._events = EventHistory(bus, self._deployed)
        self._results = ResultHistory(bus, self._deployed, self._keeping, clock)
        self._peers = SharedMemoryPeers(memory_domain())
        self._mailboxes = Mailboxes(mailboxes)
        self._owner: asyncio.TaskGroup | None = None
        self._jobs: Jobs | None = None

    def validate(self) -> None:
        """Raise AssertionError when a stream, its ledger or a route breaks an invariant of its core; for tests."""
        self._routes.validate()
        for group in self._groups.values():
            for flow in group.flows.values():
                flow.core.validate()

    def on_disconnect(self) -> None:
        """The broker is away."""
        self._routes.disconnected()

    def on_reconnect(self) -> None:
        """The broker is back."""
        self._reroute(self._routes.reconnected())

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drop the frames under way and leave."""
        abandoned = remove_abandoned()
        if abandoned:
            log.info("removed %d frame pools of pipelines that were killed", abandoned)
        with closing(self._mailboxes):
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as owner:
            self._owner = owner
            self._jobs = Jobs(owner)
            watchers = [owner.create_task(self._watch_plans()), owner.create_task(self._watch_groups())]
            watchers += [owner.create_task(self._tick()), owner.create_task(self._report_load())]
            watchers.append(owner.create_task(keep_clean(self._bus)))
            await self._bus.subscribe(subjects.heartbeat(), self._on_heartbeat, limit=4096)
            await self._bus.subscribe(
                subjects.infer("*"), self._answering(self._infer, InferAnswer), queue="pipeline", limit=MESSAGES
            )
            await self._bus.subscribe(
                subjects.push(), self._answering(self._push, PushAnswer), queue="pipeline", limit=MESSAGES
            )
            await self._events.subscribe(self._jobs)
            await self._results.subscribe(self._jobs)
            await Wishes(self._groups).subscribe(self._bus)
            await self._bus.serve(
                "hams-pipeline",
                hams_shared.__version__,
                {"id": self._id},
                {
                    "status": (subjects.pipeline_status(), self._on_status),
                    "groups": (subjects.pipeline_groups(), self._on_groups),
                    "read-cost": (subjects.read_cost(), self._answering(self._read_cost, ReadCost)),
                    "still": (subjects.still(), self._answering(self._still, Still)),
                },
            )
            log.info("pipeline %s is ready", self._id)
            await stop.wait()
            await ended(watchers)  # none of them changes a group that is stopped
            for group in list(self._groups):
                await self._remove(group, STOPPED)
            await self._jobs.end(GRACE_S)

    # ── groups and routes ─────────────────────────────────────────────────────────────────────────────────────

    async def _watch_plans(self) -> None:
        async for group, record in watched(await opened(self._bus.kv, subjects.bucket("plans")), PlanRecord):
            if record is not None and not self._routes.believes(group, record):
                log.warning("plan record of %s ignored: epoch %d is over", group, record.in_force)
            self._reroute(self._routes.plan_seen(group, record))

    async def _watch_groups(self) -> None:
        bucket = await opened(self._bus.kv, subjects.bucket("groups"))
        async for group, record in watched(bucket, GroupRecord, unread=self._unread):
            known = self._groups.get(group)
            if known is not None and record == known.record:
                continue  # the watch was renewed
            if record is None:
                await self._remove(group, "undeployed")
            elif known is None:
                await self._add(record)
            elif record.candidate is None:
                await self._change(known, record)
            else:
                await self._remove(group, "redeployed")
                await self._add(record)

    async def _add(self, record: GroupRecord) -> None:
        assert self._owner is not None
        name, cache = f"_infer-{self._id}", self._cache
        peers, mailboxes = self._peers, self._mailboxes
        kind = DeployedGroup if record.candidate is None else CandidateGroup
        group = kind(self._bus, record, name, cache, self._clock, peers, mailboxes, self._tracing)
        self._groups[record.spec.name] = group
        await group.start(self._owner)
        self._reroute(self._routes.deployed(record))
        group.play(self._owner)

    async def _change(self, group: DeployedGroup, record: GroupRecord) -> None:
        assert self._owner is not None
        touched = ", ".join(change.path for change in difference(group.record, record).changes) or "nothing"
        log.info("group %s is changed: %s", record.spec.name, touched, extra={"group": record.spec.name})
        self._reroute(self._routes.deployed(record))
        await group.change(record, self._owner)

    async def _remove(self, name: str, reason: str) -> None:
        self._routes.removed(name)
        group = self._groups.pop(name, None)
        if group is not None and self._owner is not None:
            self._candidates.gone(name, group)
            await asyncio.shield(self._owner.create_task(group.stop(reason)))  # it ends though the pipeline stops

    async def _on_heartbeat(self, message: Message) -> None:
        heartbeat = codec.decode(Heartbeat, message.data)
        self._peers.heartbeat(heartbeat)
        mailbox = self._peers.mailbox(heartbeat.device)
        self._reroute(self._routes.heartbeat(heartbeat, self._clock.now(), mailbox))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._reroute(self._routes.tick(self._clock.now()))
            await self._candidates.follow()
            for group in list(self._groups.values()):
                for flow in list(group.flows.values()):
                    await flow.tick()

    async def _report_load(self) -> None:
        """Report what the pipeline costs its host, once a second."""
        began = self._clock.now()
        while True:
            await asyncio.sleep(LOAD_S)
            load = PipelineLoad(
                host=self._host,
                incarnation=self._id,
                uptime_s=round(self._clock.now() - began, 3),
                cpu_s=round(time.process_time(), 3),
                streams=tuple(load for group in self._groups.values() for load in group.loads()),
                results=sum(group.results for group in self._groups.values()),
                outputs=sum(group.outputs for group in self._groups.values()),
            )
            try:
                await self._bus.publish(subjects.pipeline_load(), codec.encode(load))
            except BrokerError as error:
                log.info("no report of the load: %s", error)

    def _reroute(self, commands: list[Reroute]) -> None:
        for command in commands:
            if command.changed:
                epoch = command.plan.epoch if command.plan else None
                text = f"go under plan {epoch}" if epoch else "wait for a plan"
                log.info("group %s: frames %s", command.group, text, extra={"group": command.group, "epoch": epoch})
            self._groups[command.group].reroute(command)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _on_status(self, message: Message) -> None:
        views = [view for _, group in sorted(self._groups.items()) for view in group.views()]
        events = tuple(found for _, group in sorted(self._groups.items()) if (found := group.events()) is not None)
        view = PipelineView(
            streams=tuple(views),
            events=events,
            candidates=self._candidates.views(),
            host=self._host,
            cpu_s=round(time.process_time(), 3),
            version=hams_shared.__version__,
            protocol=SPOKEN,
            unread=self._unread,
        )
        await message.respond(codec.encode(view))

    async def _on_groups(self, message: Message) -> None:
        groups = (one.summary(self._routes.epochs.get(name) is not None) for name, one in self._played())
        await message.respond(codec.encode(GroupsView(groups=tuple(groups))))

    def _played(self) -> list[tuple[str, DeployedGroup]]:
        """The groups that applications may know: no candidates."""
        return sorted((name, one) for name, one in self._groups.items() if one.record.candidate is None)

    def _answering(self, handle: Handle, kind: Kind) -> Handler:
        """Have requests answered by `handle`, which takes a while."""

        async def on_request(message: Message) -> None:
            await self._on_request(message, handle, kind)

        return on_request

    async def _on_request(self, message: Message, handle: Handle, kind: Kind) -> None:
        """Take a request, or a part of one; answer later, others are taken meanwhile."""
        assert self._jobs is not None
        try:
            data = self._images.take(message.data, self._clock.now())
            if data is None:
                return
            if self._under_way[message.subject] >= UNDER_WAY:
                what = "videos" if kind in (ReadCost, Still) else "images"
                raise OverloadedError(f"{UNDER_WAY} {what} are under way already", "send one after another")
        except HamsError as error:
            await message.respond(_failure(kind, error))
            return
        self._under_way[message.subject] += 1
        self._jobs.start(self._handle(message, data, handle, kind))

    async def _handle(self, message: Message, data: bytes, handle: Handle, kind: Kind) -> None:
        try:
            answer = codec.encode(await handle(message, data))
        except Exception as error:
            if not isinstance(error, HamsError):
                log.exception("%s failed", message.subject)
            answer = _failure(kind, as_hams_error(error))
        finally:
            self._under_way[message.subject] -= 1
            if not self._under_way[message.subject]:
                del self._under_way[message.subject]
        try:
            await message.respond(answer)
        except BrokerError as error:
            log.warning("answer on %s is lost: %s", message.subject, error)

    async def _read_cost(self, message: Message, data: bytes) -> ReadCost:
        request = codec.decode(ReadCostRequest, data)
        async with self._trials:
            return await read_cost(request.stream, self._cache)

    async def _still(self, message: Message, data: bytes) -> Still:
        request = codec.decode(StillRequest, data)
        async with self._trials:
            return await still(request.stream, request.width, self._cache)

    async def _infer(self, message: Message, data: bytes) -> InferAnswer:
        request = codec.decode(InferRequest, data)
        name = message.subject.rsplit(".", 1)[-1]
        group = self._group(name)
        if self._routes.epochs.get(name) is None:
            await self._raise_placement_error(name)
        with self._infer_pixels.taken(*size_of(request.image, request.shape)):
            picture = await self._picture(request)
            return InferAnswer(result=dict(await group.infer(picture, request.deadline_s)))

    async def _push(self, message: Message, data: bytes) -> PushAnswer:
        request = codec.decode(PushRequest, data)
        name, stream = message.subject.rsplit(".", 2)[-2:]
        group = self._group(name)
        runner = group.runners.get(stream)
        if runner is None or not runner.pushed:
            fit = ", ".join(name for name, one in group.runners.items() if one.pushed) or "none"
            raise NotFoundError(f"group {name} has no stream {stream} with source: push", f"it has {fit}")
        try:
            with self._push_pixels.taken(*size_of(request.image, request.shape)):
                picture = await self._picture(request)
                async with asyncio.timeout(request.deadline_s):
                    return await runner.push(picture, request.frame)
        except TimeoutError:
            text = f"group {name} had no room for the frame within {request.deadline_s:g} s"
            raise OverloadedError(text, "push less, or wait longer; see `hams-ctl status`") from None

    async def _picture(self, request: InferRequest) -> Picture:
        began = self._clock.now()
        pixels = await asyncio.to_thread(as_frame, request.image, request.shape)
        return Picture(pixels, read_s=self._clock.now() - began, traceparent=request.traceparent)

    def _deployed(self) -> dict[str, Collection[str]]:
        return {name: one.runners for name, one in self._groups.items()}

    def _keeping(self) -> set[str]:
        return {name for name, one in self._groups.items() if one.record.spec.results.keep is not None}

    def _group(self, name: str) -> DeployedGroup:
        if name in self._groups:
            return self._groups[name]
        raise NotFoundError(f"group {name} is not deployed", f"deployed: {', '.join(sorted(self._groups)) or 'none'}")

    async def _raise_placement_error(self, group: str) -> None:
        """Raise the scheduler's reason why `group` is placed nowhere; return when it has none or does not answer."""
        try:
            view = await scheduler_view(self._bus, timeout=ASK_S, matrix=False)
        except HamsError:
            return  # the scheduler is away, or credentials of an older site do not let the pipeline ask
        for one in view.groups:
            if one.name == group and one.error is not None and one.active is None:
                raise from_wire(one.error.model_dump())


def _failure(kind: Kind, error: HamsError) -> bytes:
    return codec.encode(kind(error=WireError(**error.to_wire())))
