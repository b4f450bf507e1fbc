"""The control plane as people use it, by hams-ctl or the page: upload models, deploy, query, wait."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from hams_shared.bus.ask import ask, pipeline_view, scheduler_view
from hams_shared.bus.ask import plans as ask_plans
from hams_shared.bus.audit import Audit
from hams_shared.bus.deployments import Deployments, Running, overtaken, version_of
from hams_shared.bus.protocol import MACHINE, Bus
from hams_shared.bus.variant_registry import register
from hams_shared.errors import (
    DeadlineError,
    HamsError,
    NotFoundError,
    RefusedError,
    from_wire,
)
from hams_shared.group.candidates import SUFFIX, check_name
from hams_shared.group.difference import difference
from hams_shared.group.difference_text import summary
from hams_shared.group.source_kind import source_kind
from hams_shared.runtime.credentials import of_environment
from hams_shared.runtime.process import machine
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth
from hams_shared.wire.messages.audit import AuditWhat
from hams_shared.wire.messages.group import GroupRecord, ModelRef
from hams_shared.wire.messages.pipeline import InferAnswer, InferRequest, PipelineView, StreamView
from hams_shared.wire.messages.scheduler import (
    GroupView,
    MeasureAnswer,
    MeasureRequest,
    PlanAnswer,
    PlanRequest,
    SchedulerView,
    SurviveRequest,
)
from hams_shared.wire.variants import VariantRecord

Progress = Callable[[str, int, int], None]
"""Receives (what, done, total); total 0: unknown."""

log = logging.getLogger(__name__)

APP = "app"
"""The broker's user for applications."""
POLL_S = 0.2
SETTLE_S = 1.0
"""How long the scheduler may take to see a record that is written, s; then it is looked for in the store."""
ASK_S = 8.0
"""Deadline of a request, s: longer than a change of the leading scheduler takes."""
PATIENCE_S = 6.0
"""How long to wait for a part that is absent, s: a killed one is back, or replaced, by then."""


async def known(bus: Bus, group: str, user: str) -> None:
    """Check that `group` is deployed, with the rights of the broker's `user`; empty: a broker without users.

    An application may not query the scheduler, so it sends an empty image to the pipeline.

    Raises:
        NotFoundError: it is not deployed, or no part answers.
    """
    if not _of_app(user):
        await Control(bus).deployed(group)
        return
    request = codec.encode(InferRequest(image=b"", deadline_s=1.0))
    data = await ask(bus, subjects.infer(group), request, "pipeline", timeout=ASK_S, patience=PATIENCE_S)
    error = codec.decode(InferAnswer, data).error
    if error is not None and error.code == NotFoundError.code:
        raise from_wire(error.model_dump())


async def check_known(bus: Bus, group: str) -> None:
    """Run :func:`known` with the credentials of this process."""
    await known(bus, group, _user())


def is_app() -> bool:
    """Whether this process has an application's credentials."""
    return _of_app(_user())


def _of_app(user: str) -> bool:
    return user == APP or user.startswith(f"{APP}-")


def _user() -> str:
    identity = of_environment()
    return identity.user if identity is not None else ""


def _rest(record: GroupRecord) -> dict[str, Any]:
    """What of a record is no part of its difference to another one, but for who wrote it and when."""
    return record.model_dump(exclude={"spec", "models", "deployed_at", "version", "by"})


class Control:
    """The control plane as people use it; what `actor` changes (empty: this login) is told to the audit."""

    def __init__(self, bus: Bus, actor: str = "") -> None:
        self.bus = bus
        self.audit = Audit(bus, actor)
        self.deployments = Deployments(bus)

    async def view(self, *, matrix: bool = True, group: str = "") -> SchedulerView:
        """Return the scheduler's view, with or without the `matrix`, or of one `group`.

        Raises NotFoundError when no scheduler runs.
        """
        return await scheduler_view(self.bus, timeout=ASK_S, patience=PATIENCE_S, matrix=matrix, group=group)

    async def streams(self) -> PipelineView:
        """Return all streams. Raises NotFoundError when no pipeline runs."""
        return await pipeline_view(self.bus, timeout=ASK_S, patience=PATIENCE_S)

    async def pipeline_is_elsewhere(self) -> bool:
        """Whether the pipeline has another file system than this process; False where that is unknown."""
        try:
            reply = await self.bus.request("$SRV.PING.hams-pipeline", b"", timeout=1.0)
            there = json.loads(reply.data)["metadata"][MACHINE]
        except (HamsError, ValueError, KeyError, TypeError):
            return False
        return bool(there != machine())

    async def until_streams_run(self, record: GroupRecord, timeout: float) -> tuple[StreamView, ...]:
        """Wait until each stream of a serving group plays or has failed; return the streams.

        It does not wait for push streams and paused ones. After `timeout` s it returns the streams as they are. Raises
        the pipeline's error about a record that it cannot read.
        """
        streams = record.spec.streams.items()
        awaited = {name for name, one in streams if source_kind(one.source) != "push" and not one.paused}
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while True:
            seen = await self.streams()
            if record.spec.name in seen.unread:
                raise from_wire(seen.unread[record.spec.name].model_dump())
            views = {
                view.stream: view
                for view in seen.streams
                if view.group == record.spec.name and view.deployed_at in (0.0, record.deployed_at)
            }
            begun = {name for name, view in views.items() if view.state != "waiting"}
            if awaited <= begun or loop.time() >= end:
                return tuple(views[name] for name in sorted(awaited & views.keys()))
            await asyncio.sleep(POLL_S)

    async def deployed(self, name: str) -> GroupView:
        """Return a deployed group's state. Raises NotFoundError when there is none of that name."""
        groups = {group.name: group for group in (await self.view(matrix=False)).groups}
        if name not in groups:
            raise NotFoundError(f"group {name} is not deployed", f"deployed: {', '.join(groups) or 'none'}")
        return groups[name]

    async def upload(self, files: dict[str, bytes], progress: Progress) -> None:
        """Put model files into the object store; those already there are not sent."""
        store = await self.bus.objects(subjects.MODEL_STORE)
        total = sum(len(data) for data in files.values())
        done = 0
        for digest, data in files.items():
            progress("store models", done, total)
            await store.put(digest, data)
            done += len(data)
        progress("store models", total, total)

    async def add_variant(
        self, source: ModelRef, record: VariantRecord, files: dict[str, bytes], progress: Progress
    ) -> None:
        """Store a variant's files and register it for `source`, as deployed. Raises as :func:`register`."""
        await self.upload(files, progress)
        await register(await self.bus.kv(subjects.bucket("variants")), source, record)

    async def running(self, group: str) -> Running:
        """Return a group as it runs, with its networks."""
        return await self.deployments.running(group)

    async def known_running(self, group: str) -> tuple[GroupRecord, Running]:
        """Return a deployed group, and what to write a change of it from. Raises NotFoundError."""
        base = await self.running(group)
        if base.record is None:
            known = ", ".join(sorted(await (await self.bus.kv(subjects.bucket("groups"))).entries())) or "none"
            raise NotFoundError(f"group {group} is not deployed", f"deployed: {known}")
        return base.record, base

    async def deploy(self, record: GroupRecord, base: Running | None = None, what: AuditWhat = "deploy") -> GroupRecord:
        """Write the group's record as its next version, and return it; the scheduler does the rest.

        `base`: what it was made from; None: what runs now.

        Raises:
            ConflictError: someone else has changed the group since `base` was read.
            GroupSpecError: it has the name of a candidate, and is none.
        """
        if record.candidate is None:
            check_name(record.spec.name)
        base = base or await self.running(record.spec.name)
        written = await self.deployments.write(record, base, self.audit.actor, time.time())
        text = summary(difference(base.record, written))
        await self.audit.tell(what, record.spec.name, f"version {written.version}: {text}")
        return written

    async def deploy_changes(self, record: GroupRecord, base: Running, what: AuditWhat = "deploy") -> GroupRecord:
        """Do as :meth:`deploy` where `record` differs from what runs, or that or a stream of it has an error.

        Return what runs then.
        """
        runs = base.record
        if runs is not None and not difference(runs, record) and _rest(runs) == _rest(record):
            groups = (await self.view(matrix=False, group=base.name)).groups
            sound = any(
                one.name == base.name and one.deployed_at == runs.deployed_at and not one.error for one in groups
            )
            if sound and not await self._a_stream_failed(base.name):
                return runs
        return await self.deploy(record, base, what)

    async def _a_stream_failed(self, group: str) -> bool:
        try:
            return any(one.group == group and one.state == "failed" for one in (await self.streams()).streams)
        except (NotFoundError, DeadlineError):
            return False  # no pipeline plays it

    async def undeploy(self, group: str) -> None:
        """Remove a group, with its candidate if it has one.

        Raises NotFoundError when it is not deployed, ConflictError when it changes just now.
        """
        base = await self.running(group)
        if not base.revision:
            await self.known_running(group)
        await self.deployments.remove(base, time.time())
        await self.audit.tell("undeploy", group, "undeployed")
        if (await self.running(group + SUFFIX)).revision:
            await self.undeploy(group + SUFFIX)
        try:
            await self._forget_positions(group)
        except HamsError as error:  # the group is undeployed all the same; a pipeline that runs forgets them, too
            log.warning("positions of the streams of %s are left: %s", group, error)

    async def _forget_positions(self, group: str) -> None:
        """Forget how far the group's streams have come, also while no pipeline runs: deployed again they begin anew."""
        bucket = await self.bus.kv(subjects.POSITIONS)
        for key in await bucket.entries():
            if key.startswith(f"{group}.stream."):
                await bucket.delete(key)

    async def rollback(self, base: Running, number: int | None = None) -> GroupRecord:
        """Deploy version `number` of a group again, as a new version; None: the one before that which runs.

        Raises:
            NotFoundError: there is no such version, or a network of it is no longer stored.
            RefusedError: it is the version that runs.
            ConflictError: someone else has changed the group since `base` was read.
        """
        old = version_of(base.name, await self.deployments.versions(base.name), number).record
        if base.record == old:
            raise RefusedError(f"version {old.version} of group {base.name} runs already")
        await self._check_stored(old)
        return await self.deploy(old.model_copy(update={"deployed_at": time.time()}), base, "rollback")

    async def _check_stored(self, record: GroupRecord) -> None:
        store = await self.bus.objects(subjects.MODEL_STORE)
        for node, ref in record.models.items():
            for part in ref.parts:
                if not await store.exists(part.digest):
                    raise NotFoundError(
                        f"version {record.version} of group {record.spec.name} cannot run: the network {ref.name} of "
                        f"node {node} is no longer stored",
                        "deploy its group file, which fetches the network",
                    )

    async def resume(self, device: str) -> str:
        """End a device's quarantine and delete its record of faults; return the reason. Raises NotFoundError."""
        bucket = await self.bus.kv(subjects.bucket("health"))
        while True:
            entry = await bucket.get(device)
            if entry is None or entry.value is None:
                known = ", ".join(sorted(await bucket.entries())) or "none"
                raise NotFoundError(f"device {device} has not hung or failed", f"devices that have: {known}")
            health = codec.decode(DeviceHealth, entry.value)
            with suppress(RefusedError):  # its agent has written a new one meanwhile
                await bucket.delete(device, entry.revision)
                break
        await self.audit.tell("resume", device, "quarantine ended")
        return health.reason or "; ".join(one.reason for one in health.networks) or health.gone

    async def follow(self, record: GroupRecord) -> AsyncIterator[GroupView]:
        """Yield the group's state until it serves `record`, which is written.

        Raises:
            ConflictError: someone else has changed the group meanwhile.
            NotFoundError: it was undeployed meanwhile.
            HamsError: the scheduler's error about it.
        """
        name, clock = record.spec.name, asyncio.get_running_loop().time
        known = clock()
        while True:
            seen = await self.view(group=name)
            if name in seen.unread:
                raise from_wire(seen.unread[name].model_dump())
            view = next((g for g in seen.groups if g.name == name), None)
            if view is not None and view.deployed_at == record.deployed_at:
                known = clock()
                served = view.active is not None and view.active.group.deployed_at == record.deployed_at
                if view.error is not None and not served:
                    raise from_wire(view.error.model_dump())
                yield view
                if served and view.state == "serving":
                    return
            elif clock() - known > SETTLE_S:
                await self._check_in_place(record)
            await asyncio.sleep(POLL_S)

    async def _check_in_place(self, record: GroupRecord) -> None:
        """Raise ConflictError or NotFoundError when the group is another one in the store, or not there."""
        found = await self.running(record.spec.name)
        if found.record is None or found.record.deployed_at != record.deployed_at:
            raise overtaken(record, found)

    async def measure(self, model: str, device: str) -> int:
        """Have cells of the matrix measured again, by names or patterns; empty: all. Return their number."""
        data = codec.encode(MeasureRequest(model=model, device=device))
        answer = await ask(self.bus, subjects.measure_request(), data, "scheduler", timeout=ASK_S, patience=PATIENCE_S)
        return codec.decode(MeasureAnswer, answer).cells

    async def plan(
        self,
        records: list[GroupRecord],
        strategies: tuple[str, ...],
        time_limit_s: float,
        *,
        each_loss: bool = False,
        survive: SurviveRequest | None = None,
    ) -> PlanAnswer:
        """Return each strategy's plan for these groups together; see :class:`PlanRequest`. Waits for benchmarks."""
        first, *others = records
        request = PlanRequest(
            group=first,
            others=tuple(others),
            strategies=strategies,
            time_limit_s=time_limit_s,
            each_loss=each_loss,
            survive=survive,
        )
        return await ask_plans(self.bus, request, timeout=1000.0, patience=PATIENCE_S)
