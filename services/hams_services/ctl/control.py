"""The control plane as hams-ctl uses it: prepare and upload models, deploy, query, wait."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hams_shared.bus.ask import ask, pipeline_view, scheduler_view
from hams_shared.bus.ask import plans as ask_plans
from hams_shared.bus.protocol import MACHINE, Bus
from hams_shared.bus.variant_registry import register
from hams_shared.errors import (
    HamsError,
    ModelError,
    ModelFetchError,
    NotFoundError,
    from_wire,
)
from hams_shared.group.source_kind import source_kind
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.credentials import of_environment
from hams_shared.runtime.process import machine
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth
from hams_shared.wire.messages.group import GroupRecord, ModelPart, ModelRef
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

APP = "app"
"""The broker's user for applications."""
POLL_S = 0.2
ASK_S = 8.0
"""Deadline of a request, s: longer than a change of the leading scheduler takes."""
PATIENCE_S = 6.0
"""How long to wait for a part that is absent, s: a killed one is back, or replaced, by then."""


@dataclass(frozen=True)
class PreparedModel:
    """A model ready to be stored."""

    ref: ModelRef
    parts: dict[str, bytes]
    """By digest."""


def prepare_model(node: str, spec: GroupSpec, cache: Path, progress: Progress) -> PreparedModel:
    """Fetch a node's network, convert it to the form that agents take, and name it by its content.

    Raises:
        ModelFetchError: the source does not have it.
        DigestError: its digest is not the one in the group file.
        ModelError: it is empty or not a network file.
    """
    # 0.5 s of imports, which other commands save.
    from hams_services.models.cut import cut
    from hams_services.models.files import MAX_BYTES
    from hams_services.models.onnx_dims import normalize_onnx
    from hams_services.models.sources import fetch

    part = spec.nodes[node]
    with _about(f"node {node}"):
        path = fetch(part.model, part.digest, cache, partial(progress, f"fetch {node}"))
        if path.is_dir():
            raise ModelError(f"{path} is a folder, not a network file")
        if not path.stat().st_size:
            raise ModelError(f"{path} is empty")
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is larger than {MAX_BYTES >> 30} GiB", "is it a network?")
        files = _files(path) if not part.outputs else cut(path, part.outputs)
        if files[0][0] == ".onnx":
            files = [(".onnx", normalize_onnx(files[0][1], part.input.shape()))]
    parts = {hashlib.sha256(content).hexdigest(): content for _, content in files}
    refs = tuple(
        ModelPart(suffix=suffix, digest=hashlib.sha256(content).hexdigest(), size=len(content))
        for suffix, content in files
    )
    digest = refs[0].digest if len(refs) == 1 else hashlib.sha256("".join(r.digest for r in refs).encode()).hexdigest()
    return PreparedModel(ModelRef(name=path.stem, digest=digest, parts=refs), parts)


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Add the part of the group file to errors."""
    try:
        yield
    except HamsError as error:
        raise type(error)(f"{what}: {error.text}", error.hint) from None


def _files(path: Path) -> list[tuple[str, bytes]]:
    """Return a network's files unchanged: suffix and content, the main one first."""
    files = [(path.suffix.lower(), path.read_bytes())]
    if path.suffix == ".xml":
        weights = path.with_suffix(".bin")
        if not weights.exists():
            raise ModelError(f"{path.name} needs its weights {weights.name} in the same folder")
        files.append((".bin", weights.read_bytes()))
    return files


def prepare_group(
    spec: GroupSpec, cache: Path, progress: Progress, *, elsewhere: bool = False
) -> tuple[GroupRecord, dict[str, bytes]]:
    """Fetch all networks and check all streams of `spec`; return the record and the files by digest.

    If the pipeline runs `elsewhere`, on another host or in another container, its files need not be here.
    """
    from hams_services.models.sources import fetch

    models: dict[str, ModelRef] = {}
    files: dict[str, bytes] = {}
    for node in spec.depth_first():
        prepared = prepare_model(node, spec, cache, progress)
        models[node] = prepared.ref
        files.update(prepared.parts)
    for name, stream in spec.streams.items():
        if source_kind(stream.source) != "file" or any(c in stream.source for c in "*?["):
            continue  # it need not exist yet
        with _about(f"stream {name}"):
            if ":" not in stream.source and not Path(stream.source).expanduser().exists():
                if elsewhere:
                    continue
                raise ModelFetchError(f"{stream.source} does not exist on this host, where pipeline and hams-ctl run")
            fetch(stream.source, None, cache, partial(progress, f"fetch {name}"))
    return GroupRecord(spec=spec, models=models, deployed_at=time.time()), files


async def known(bus: Bus, group: str, user: str) -> None:
    """Check that `group` is deployed, with the rights of the broker's `user`; empty: a broker without users.

    An application may not query the scheduler, so it sends an empty image to the pipeline.

    Raises:
        NotFoundError: it is not deployed, or no part answers.
    """
    if user != APP:
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
    return _user() == APP


def _user() -> str:
    identity = of_environment()
    return identity.user if identity is not None else ""


class Control:
    """The control plane as hams-ctl uses it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

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

        It does not wait for push streams. After `timeout` s it returns the streams as they are.
        """
        pushed = {name for name, stream in record.spec.streams.items() if source_kind(stream.source) == "push"}
        awaited = record.spec.streams.keys() - pushed
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while True:
            views = {
                view.stream: view
                for view in (await self.streams()).streams
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

    async def deploy(self, record: GroupRecord) -> None:
        """Write the group's record; the scheduler does the rest."""
        groups = await self.bus.kv(subjects.bucket("groups"))
        await groups.put(record.spec.name, codec.encode(record))

    async def undeploy(self, group: str) -> None:
        """Remove a group. Raises NotFoundError when it is not deployed."""
        groups = await self.bus.kv(subjects.bucket("groups"))
        if await groups.get(group) is None:
            known = ", ".join(sorted(await groups.entries())) or "none"
            raise NotFoundError(f"group {group} is not deployed", f"deployed: {known}")
        await groups.delete(group)

    async def resume(self, device: str) -> str:
        """End a device's quarantine and delete its record of hangs; return the reason. Raises NotFoundError."""
        bucket = await self.bus.kv(subjects.bucket("health"))
        entry = await bucket.get(device)
        if entry is None or entry.value is None:
            known = ", ".join(sorted(await bucket.entries())) or "none"
            raise NotFoundError(f"device {device} has not hung", f"devices that have: {known}")
        health = codec.decode(DeviceHealth, entry.value)
        await bucket.delete(device)
        return health.reason

    async def follow(self, record: GroupRecord) -> AsyncIterator[GroupView]:
        """Yield the group's state until it serves `record`. Raises the scheduler's error about it."""
        name = record.spec.name
        while True:
            view = next((g for g in (await self.view(group=name)).groups if g.name == name), None)
            if view is not None and view.deployed_at == record.deployed_at:
                served = view.active is not None and view.active.group.deployed_at == record.deployed_at
                if view.error is not None and not served:
                    raise from_wire(view.error.model_dump())
                yield view
                if served and view.state == "serving":
                    return
            await asyncio.sleep(POLL_S)

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
