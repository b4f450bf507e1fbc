"""The pipeline's shell: plans and heartbeats in, frames out, outputs joined, results published.

subjects in:  outputs of all nodes, heartbeats, infer and status requests; plans and groups (KV watch)
subjects out: work for the roots' devices, results
"""

from __future__ import annotations

import asyncio
import gc
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import hams_shared
from hams_services.pipeline.core import Close, Outcome
from hams_services.pipeline.decode_budget import PixelBudget
from hams_services.pipeline.deployed_group import Group, Shared, root_limit
from hams_services.pipeline.flow import Flow, Peers
from hams_services.pipeline.gallery import Galleries
from hams_services.pipeline.routing import Replicas
from hams_services.pipeline.sources.base import as_frame, size_of
from hams_services.pipeline.stream import StreamRunner
from hams_services.pipeline.unplaced import raise_why
from hams_shared.bus.chunks import Assembler
from hams_shared.bus.protocol import Bus, Message
from hams_shared.bus.records import watched
from hams_shared.errors import (
    BrokerError,
    DeadlineError,
    HamsError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    as_hams_error,
)
from hams_shared.group.source_kind import source_kind
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.runtime.lifecycle import Jobs, ended
from hams_shared.runtime.liveness import Liveness
from hams_shared.wire import codec, subjects
from hams_shared.wire.frame_pool import remove_abandoned
from hams_shared.wire.frames import Output
from hams_shared.wire.messages import (
    GroupRecord,
    Heartbeat,
    InferAnswer,
    InferRequest,
    PicturesWanted,
    PipelineView,
    Plan,
    PlanRecord,
    PushAnswer,
    PushRequest,
    WireError,
)

log = logging.getLogger("hams.pipeline")

Kind = type[InferAnswer] | type[PushAnswer]
Handle = Callable[[Message, bytes], Awaitable[InferAnswer | PushAnswer]]
"""Answers one image that an application sent."""

TICK_S = 0.05
UNDER_WAY = 64
"""Most images of applications under way at once, of each group and of each stream; more are refused."""
GRACE_S = 0.5
"""How long requests under way have to end when the pipeline stops, s."""
MESSAGES = 1024
"""Images, or parts of them, that may wait to be looked at."""


class PipelineService:
    """One pipeline process."""

    def __init__(self, bus: Bus, cache: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self._bus = bus
        self._cache = cache
        self._clock = clock
        self._id = uuid.uuid4().hex[:6]
        self._live = Liveness()
        self._groups: dict[str, Group] = {}
        self._plans: dict[str, PlanRecord] = {}
        self._routes: dict[str, int | None] = {}
        """By group: the epoch frames are sent under now."""
        self._under_way: Counter[str] = Counter()
        """By subject, hence by group or stream: a stream without room takes it from nobody else."""
        self._infer_pixels, self._push_pixels = PixelBudget(), PixelBudget()
        self._images = Assembler()
        self._peers = Peers()
        self._owner: asyncio.TaskGroup | None = None
        self._jobs: Jobs | None = None
        self._away = False

    def validate(self) -> None:
        """Raise AssertionError when a stream's state or its ledger is not as its core wants it; for tests."""
        for group in self._groups.values():
            for flow in group.flows().values():
                flow.core.validate()

    def on_disconnect(self) -> None:
        """The broker is away: nobody can be heard, so nobody counts as silent."""
        self._away = True

    def on_reconnect(self) -> None:
        """The broker is back. What it held is lost, and an agent may not be back yet: wait for each one's heartbeat."""
        self._away = False
        plans = [p for record in self._plans.values() for p in (record.active, record.next) if p is not None]
        everybody = frozenset(self._live.peers).union(*(plan.devices for plan in plans))
        self._live.peers.clear()
        for group in list(self._groups):
            self._reroute(group, everybody)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drop what is under way and leave."""
        abandoned = remove_abandoned()
        if abandoned:
            log.info("removed %d frame pools of pipelines that were killed", abandoned)
        async with asyncio.TaskGroup() as owner:
            self._owner = owner
            self._jobs = Jobs(owner)
            watchers = [owner.create_task(self._watch_plans()), owner.create_task(self._watch_groups())]
            watchers.append(owner.create_task(self._tick()))
            await self._bus.subscribe(subjects.heartbeat(), self._on_heartbeat, limit=4096)
            await self._bus.subscribe(subjects.infer("*"), self._on_infer, queue="pipeline", limit=MESSAGES)
            await self._bus.subscribe(subjects.push(), self._on_push, queue="pipeline", limit=MESSAGES)
            await self._bus.subscribe(subjects.pictures_wanted(), self._on_pictures_wanted, limit=256)
            await self._bus.serve(
                "hams-pipeline",
                hams_shared.__version__,
                {"id": self._id},
                {"status": (subjects.pipeline_status(), self._on_status)},
            )
            log.info("pipeline %s is ready", self._id)
            await stop.wait()
            for group in list(self._groups):
                await self._remove(group, "pipeline-stopped")
            await ended(watchers)
            await self._jobs.end(GRACE_S)

    # ── what KV says ──────────────────────────────────────────────────────────────────────────────────────────

    async def _watch_plans(self) -> None:
        async for group, record in watched(await self._bus.kv(subjects.bucket("plans")), PlanRecord):
            known = self._plans.get(group)
            if record is None:
                self._plans.pop(group, None)
            elif known is None or record.in_force >= known.in_force:  # a next plan may be taken back
                self._plans[group] = record
            else:
                log.warning("plan record of %s ignored: epoch %d is over", group, record.in_force)
            self._reroute(group, frozenset())

    async def _watch_groups(self) -> None:
        async for group, record in watched(await self._bus.kv(subjects.bucket("groups")), GroupRecord):
            known = self._groups.get(group)
            if known is not None and record == known.record:
                continue  # the watch was renewed
            await self._remove(group, "redeployed" if record else "undeployed")
            if record is not None:
                await self._add(record)

    async def _add(self, record: GroupRecord) -> None:
        assert self._owner is not None
        spec = record.spec
        infer_name = f"_infer-{self._id}"
        shared: Shared = {
            "clock": self._clock,
            "peers": self._peers,
            "replicas": Replicas(),
            "galleries": Galleries.for_group(spec),
        }
        group = Group(
            record,
            infer=Flow(self._bus, spec, infer_name, lossless=True, publish=False, **shared),
            infer_name=infer_name,
        )
        group.infer._on_close = lambda close, result: self._infer_closed(group, close, result)
        group.runners = {name: StreamRunner(self._bus, spec, name, self._cache, **shared) for name in spec.streams}
        self._groups[spec.name] = group
        for name, flow in group.flows().items():
            assembler = Assembler()

            async def on_output(message: Message, flow: Flow = flow, assembler: Assembler = assembler) -> None:
                data = assembler.take(message.data, self._clock.now())
                if data is not None:
                    flow.output(Output.unpack(data))

            subject = subjects.output(spec.name, name, "*")
            group.subscriptions.append(await self._bus.subscribe(subject, on_output, limit=4096))
            group.tasks.append(self._owner.create_task(flow.run()))
        await self._bus.flush()
        self._routes.pop(spec.name, None)
        self._reroute(spec.name, frozenset())
        group.tasks += [self._owner.create_task(runner.run()) for runner in group.runners.values()]

    async def _remove(self, name: str, reason: str) -> None:
        group = self._groups.pop(name, None)
        if group is None:
            return
        for flow in group.flows().values():
            flow.close(reason)
        for task in group.tasks:
            task.cancel()
        await asyncio.wait(group.tasks, timeout=5)
        for subscription in group.subscriptions:
            await subscription.unsubscribe()
        for flow in group.flows().values():
            await flow.flush()
            flow.frames.close()
        group.tasks.clear()
        gc.collect()  # the tracebacks of cancelled tasks are cycles that hold views of the frames, and so a mapping

    # ── routes ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _on_heartbeat(self, message: Message) -> None:
        heartbeat = codec.decode(Heartbeat, message.data)
        news = self._live.heard(heartbeat, self._clock.now())
        self._peers.heard(heartbeat.device, heartbeat.memory_domain, restarted=news is not None)
        broken = frozenset({heartbeat.device}) if news == "restarted" else frozenset[str]()
        for group in list(self._groups):
            self._reroute(group, broken)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            lost = frozenset(self._live.expire(self._clock.now()) if not self._away else ())
            for name, group in list(self._groups.items()):
                if lost:
                    self._reroute(name, lost)
                for flow in group.flows().values():
                    flow.tick()

    def _route_of(self, name: str) -> Plan | None:
        """The plan that frames may be sent under now: active, and all its devices alive and ready."""
        record = self._plans.get(name)
        plan = record.active if record else None
        if plan is None or not all(self._live.ready(d, name, plan.epoch) for d in plan.devices):
            return None
        return plan

    def _reroute(self, name: str, broken: frozenset[str]) -> None:
        group = self._groups.get(name)
        if group is None:
            return
        plan = self._route_of(name)
        if plan is not None and plan.group.spec.nodes != group.record.spec.nodes:
            plan = None  # it still describes the group as it was deployed before
        epoch = plan.epoch if plan else None
        if not broken and name in self._routes and self._routes[name] == epoch:
            return
        if epoch != self._routes.get(name):
            log.info(
                "group %s: frames %s",
                name,
                f"go under plan {epoch}" if epoch else "wait for a plan",
                extra={"group": name, "epoch": epoch},
            )
        self._routes[name] = epoch
        live = sum(not runner.flow.core.lossless for runner in group.runners.values())
        for flow in group.flows().values():
            if plan is not None:
                flow.core.root_limit = root_limit(plan, live)
            flow.route(plan, broken)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _on_status(self, message: Message) -> None:
        views = [
            runner.view().model_copy(update={"deployed_at": group.record.deployed_at})
            for _, group in sorted(self._groups.items())
            for _, runner in sorted(group.runners.items())
        ]
        await message.respond(codec.encode(PipelineView(streams=tuple(views))))

    async def _on_infer(self, message: Message) -> None:
        await self._on_image(message, self._infer_one, InferAnswer)

    async def _on_push(self, message: Message) -> None:
        """A frame of an application: answered when there is room for it, so that the application waits."""
        await self._on_image(message, self._push_one, PushAnswer)

    async def _on_image(self, message: Message, handle: Handle, kind: Kind) -> None:
        """Take an image, or a part of one; answer later, others are taken meanwhile."""
        assert self._jobs is not None
        try:
            data = self._images.take(message.data, self._clock.now())
            if data is None:
                return
            if self._under_way[message.subject] >= UNDER_WAY:
                raise OverloadedError(f"{UNDER_WAY} images are under way already", "send one after another")
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

    async def _infer_one(self, message: Message, data: bytes) -> InferAnswer:
        request = codec.decode(InferRequest, data)
        name = message.subject.rsplit(".", 1)[-1]
        group = self._groups.get(name)
        if group is None:
            known = ", ".join(sorted(self._groups)) or "none"
            raise NotFoundError(f"group {name} is not deployed", f"deployed: {known}")
        if self._routes.get(name) is None:
            await raise_why(self._bus, name)
        with self._infer_pixels.taken(*size_of(request.image, request.shape)):
            return InferAnswer(result=await self._infer_image(name, group, request))

    async def _infer_image(self, name: str, group: Group, request: InferRequest) -> dict[str, Any]:
        image = await asyncio.to_thread(as_frame, request.image, request.shape)
        frame = group.infer.submit(image)
        future: asyncio.Future[tuple[Close, dict[str, Any] | None]] = asyncio.get_running_loop().create_future()
        group.answers[frame] = future
        try:
            close, result = await asyncio.wait_for(future, request.deadline_s)
        except TimeoutError:
            group.infer.give_up(frame, "deadline")
            text = f"group {name} gave no result within {request.deadline_s:g} s"
            raise DeadlineError(text, "see `hams-ctl status`") from None
        finally:
            group.answers.pop(frame, None)
        if close.outcome is Outcome.DELIVERED and result is not None:
            return result
        raise RefusedError(
            f"group {name} could not process the image: {close.detail or close.reason}", "see `hams-ctl status`"
        )

    async def _on_pictures_wanted(self, message: Message) -> None:
        wish = codec.decode(PicturesWanted, message.data)
        group = self._groups.get(message.subject.rsplit(".", 1)[-1])
        for name, runner in group.runners.items() if group else ():
            if wish.stream in ("*", name):
                runner.flow.show(wish.quality)

    async def _push_one(self, message: Message, data: bytes) -> PushAnswer:
        request = codec.decode(PushRequest, data)
        name, stream = message.subject.rsplit(".", 2)[-2:]
        group = self._groups.get(name)
        if group is None:
            known = ", ".join(sorted(self._groups)) or "none"
            raise NotFoundError(f"group {name} is not deployed", f"deployed: {known}")
        runner = group.runners.get(stream)
        if runner is None or source_kind(runner.spec.source) != "push":
            fit = [n for n, r in group.runners.items() if source_kind(r.spec.source) == "push"]
            raise NotFoundError(
                f"group {name} has no stream {stream} with source: push", f"it has {', '.join(fit) or 'none'}"
            )
        try:
            with self._push_pixels.taken(*size_of(request.image, request.shape)):
                image = await asyncio.to_thread(as_frame, request.image, request.shape)
                async with asyncio.timeout(request.deadline_s):
                    return await runner.push(image)
        except TimeoutError:
            text = f"group {name} had no room for the frame within {request.deadline_s:g} s"
            raise OverloadedError(text, "push less, or wait longer; see `hams-ctl status`") from None

    @staticmethod
    def _infer_closed(group: Group, close: Close, result: dict[str, Any] | None) -> None:
        future = group.answers.get(close.frame)
        if future is not None and not future.done():
            future.set_result((close, result))


def _failure(kind: Kind, error: HamsError) -> bytes:
    return codec.encode(kind(error=WireError(**error.to_wire())))
