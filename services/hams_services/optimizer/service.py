"""The optimizer's shell: jobs in from KV, variants out to KV and the object store; one job at a time.

A job's blocking work runs in a thread, and all that reads networks in child processes, at low priority. The state of a
job is written to KV as it changes: anybody may follow or cancel it, and a later process continues it.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import hams_shared
from hams_services.optimizer import calibration_frames as framing
from hams_services.optimizer import report_plot
from hams_services.optimizer.distill.distillation import Distill, student_text
from hams_services.optimizer.job_history import told
from hams_services.optimizer.queue import forgotten, given_up, next_job
from hams_services.optimizer.recipe import NodeOutcome, Optimize, costs
from hams_services.optimizer.report import gain, markdown
from hams_services.optimizer.sandbox.process import JobProcess, for_budget
from hams_services.optimizer.site import SiteFormats
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.bus.ask import plans as ask_plans
from hams_shared.bus.ask import scheduler_view
from hams_shared.bus.history import HistoryOutbox
from hams_shared.bus.model_store import ModelStore
from hams_shared.bus.protocol import Bus, KeyValue
from hams_shared.bus.records import opened, watched
from hams_shared.bus.variant_registry import register
from hams_shared.errors import DeadlineError, HamsError, NotFoundError, RefusedError, as_hams_error, from_wire
from hams_shared.runtime.child_limits import Limits
from hams_shared.runtime.child_process import Bounds
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord, ModelRef
from hams_shared.wire.messages.optimizer import JobRecord
from hams_shared.wire.messages.scheduler import PlanAnswer, PlanRequest, StrategyAnswer
from hams_shared.wire.variants import VariantRecord, task_key

log = logging.getLogger("hams.optimizer")

STRATEGIES = ("hfs", "optimal", "replicated")
"""The strategies that the report compares, beside the group's own."""
PLAN_S = 900.0
"""Most time for the scheduler to measure the variants, s."""
LEAST_PLAN_S = 10.0
"""And the least, when the budget is spent, s."""
FRAMES_PART = 0.3
"""The part of the budget in which frames are taken."""
MAKE_PART = 0.8
"""The part of what is left then in which variants are made; the rest is for the scheduler, which measures them."""
BUDGET_STEP_S = 2.0
"""Progress in time is reported in steps of this, s."""
ASK_S = 5.0
AGAIN_S, END_TRIES = 1.0, 600
"""Pause between two tries to write the end of a job, s; and how often it is tried."""
NOTED_S = 0.5
"""Least time between two notes of progress in KV, s."""
NICE = 10
TOOLS = {"nncf": "NNCF (no INT8 for OpenVINO)", "onnx_ir": "onnx-ir (no pruned, cropped or down-scaled networks)"}
"""Packages of the extra ``nco``, and what cannot be made without them."""


class OptimizerService:
    """One optimizer process; `folder` holds variants, frames and reports."""

    def __init__(self, bus: Bus, host: str, folder: Path, limits: Limits | None = None) -> None:
        self._bus = bus
        self._host = host
        self._folder = folder
        self._scratch = folder / "nco" / ".scratch" / str(os.getpid())
        """Files of a running job; the next process removes those of killed ones. No group has a name with a dot."""
        self._limits = limits or Limits()
        self._jobs: dict[str, JobRecord] = {}
        self._changed = asyncio.Event()
        self._current: str | None = None
        self._bounds = Bounds()
        """Of the job under way."""
        self._progress: tuple[str, int, int] = ("", 0, 0)
        self._bucket: KeyValue | None = None
        self._history = HistoryOutbox(bus, "optimizer")

    async def run(self, stop: asyncio.Event) -> None:
        """Do jobs until `stop` is set; a job under way is left as it is, for the next process to continue."""
        self._bucket = await opened(self._bus.kv, subjects.bucket("jobs"), stop)
        await asyncio.to_thread(clean, self._scratch.parent)
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with asyncio.TaskGroup() as owner:
            tasks = [owner.create_task(job()) for job in (self._watch, self._take_jobs, self._history.run)]
            await self._bus.serve("hams-optimizer", hams_shared.__version__, {"host": self._host}, {})
            log.info("optimizer on %s is ready", self._host)
            await stop.wait()
            self._cancel()
            await ended(tasks)
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    async def _watch(self) -> None:
        assert self._bucket is not None
        async for key, record in watched(self._bucket, JobRecord):
            if record is None:
                self._jobs.pop(key, None)
            else:
                self._seen(record)
            job = self._jobs.get(self._current or "")
            if self._current is not None and (job is None or job.over or job.host != self._host):
                log.info("job %s was cancelled", self._current)
                self._cancel()
            self._changed.set()

    def _seen(self, record: JobRecord) -> None:
        """Take a job's record, this optimizer's or another's, and tell what happened to it."""
        before, self._jobs[record.id] = self._jobs.get(record.id), record
        entry = told(before, record)
        if entry is not None and record.host in ("", self._host):
            self._history.put(entry.model_copy(update={"at": time.time()}))

    def _cancel(self) -> None:
        """End what the thread waits for."""
        self._bounds.cancel()

    async def _take_jobs(self) -> None:
        assert self._bucket is not None
        while True:
            self._changed.clear()
            for key in forgotten(self._jobs):
                try:
                    await self._bucket.delete(key)
                except HamsError as error:
                    log.warning("job %s cannot be deleted yet: %s", key, error)
                    break
                self._jobs.pop(key, None)
            job = next_job(self._jobs, self._host)
            if job is None:
                await self._changed.wait()
                continue
            over = given_up(job, time.time())
            if not await self._write(over or job):
                await asyncio.sleep(0.1)  # another optimizer took it
                continue
            if over is None:
                await self._do(job)

    async def _do(self, job: JobRecord) -> None:
        """Do one job and write what came of it."""
        log.info("job %s: %s %s", job.id, job.kind, job.group)
        self._current, self._bounds, self._progress = job.id, Bounds(), ("", 0, 0)
        if job.kind == "optimize":
            self._bounds.until = time.monotonic() + job.budget_s
        notes = asyncio.create_task(self._note(job))
        update: dict[str, object]
        try:
            do = {"calibrate": self._calibrate, "optimize": self._optimize, "train": self._train}[job.kind]
            text, report = await do(job)
            update = {"state": "done", "text": text, "report": report}
        except Exception as error:
            if not isinstance(error, HamsError):
                log.exception("job %s", job.id)
            known = as_hams_error(error)
            update = {"state": "failed", "text": known.text, "error": WireError(**known.to_wire())}
        finally:
            notes.cancel()
            with suppress(asyncio.CancelledError):
                await notes
            self._current = None
        log.info("job %s: %s, %s", job.id, update["state"], update["text"])
        for _ in range(END_TRIES):  # where it is not written, all of it is done again
            now = self._jobs.get(job.id)
            if now is None or now.over or now.host != self._host:
                return  # cancelled meanwhile
            if await self._write(now.model_copy(update={**update, "ended_at": time.time()})):
                return
            await asyncio.sleep(AGAIN_S)

    async def _note(self, job: JobRecord) -> None:
        """Write progress as it is made."""
        written = ("", 0, 0)
        begun = time.monotonic()
        while True:
            await asyncio.sleep(NOTED_S)
            now = self._jobs.get(job.id)
            if job.kind == "optimize":  # progress is time: the number of steps is not known
                steps = (time.monotonic() - begun) // BUDGET_STEP_S
                done = min(steps * BUDGET_STEP_S, job.budget_s)
                self._progress = (self._progress[0], int(done), int(job.budget_s))
            if self._progress == written or now is None or now.over:
                continue
            written = self._progress
            text, done, total = written
            await self._write(now.model_copy(update={"text": text, "done": done, "total": total}))

    def _report(self, text: str, done: int = 0, total: int = 0) -> None:
        self._progress = (text, done, total)

    async def _write(self, job: JobRecord) -> bool:
        """Write a job unless somebody else wrote it since it was read; return whether it was written."""
        assert self._bucket is not None
        try:
            entry = await self._bucket.get(job.id)
            if entry is None or entry.value is None:
                if self._current is None:
                    self._jobs.pop(job.id, None)  # it is gone: others have their turn
                return False
            found = codec.decode(JobRecord, entry.value)
            if found.over or (found.host not in ("", self._host)):
                self._seen(found)
                return False
            await self._bucket.update(job.id, codec.encode(job), entry.revision)
        except RefusedError:
            return False
        except HamsError as error:
            log.warning("job %s cannot be written: %s", job.id, error)
            return False
        self._seen(job)
        return True

    # ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _calibrate(self, job: JobRecord) -> tuple[str, str]:
        await self._group(job.group)
        folder = self._frames(job.group)
        await framing.collect(self._bus, job.group, job.frames, folder, self._report, self._bounds)
        return f"{job.frames} frames in {folder}", ""

    async def _frames_of(self, job: JobRecord) -> Path:
        """Return the folder of frames for a job; they are taken from the streams if there are too few yet."""
        frames = Path(job.samples) if job.samples else self._frames(job.group)
        if job.samples and not frames.is_dir():
            raise NotFoundError(f"there is no folder {frames} on {self._host}", "the folder is the optimizer's")
        if not job.samples and (job.fresh or framing.kept(frames) < job.frames):
            await framing.collect(self._bus, job.group, job.frames, frames, self._report, self._bounds, FRAMES_PART)
        return frames

    async def _train(self, job: JobRecord) -> tuple[str, str]:
        record = await self._group(job.group)
        if job.node not in record.spec.nodes:
            raise NotFoundError(f"group {job.group} has no node {job.node}", f"it has {', '.join(record.spec.nodes)}")
        frames = Path(job.labels) if job.labels else await self._frames_of(job)
        node, source = record.spec.nodes[job.node], record.models[job.node]
        async with self._work(record, job) as work:
            records, result = await asyncio.to_thread(self._distill, job, work, frames)
        for variant in records:
            await self._register(source, variant)
        return student_text(job.node, node, records, result), ""

    def _distill(self, job: JobRecord, work: Optimize, frames: Path) -> tuple[list[VariantRecord], dict[str, Any]]:
        """Train a student of a node's network; blocking."""
        node, source = work.record.spec.nodes[job.node], work.record.models[job.node]
        given = f"{source.digest} {task_key(node)} {job.gflops} {job.fps} {job.device} {job.labels}"
        key = hashlib.sha256(given.encode()).hexdigest()[:12]
        imported = work.builder.import_file(work.models[job.node], job.node, node.input.shape())
        teacher = imported.variants.get("openvino") or next(iter(imported.variants.values()))
        samples = frames
        if not job.labels:
            self._report("run the group on the frames")
            folder = work.builder.job.folder.parent / "samples"
            work.collect_samples(frames, folder)
            samples = folder / job.node
        distill = Distill(
            job.node,
            node,
            teacher,
            work.builder,
            self._folder / "nco" / job.group / "train" / f"{job.node}-{key}",
            imported.variants.get("onnx"),
            work.site.bf16,
        )
        return distill.run(samples, job)

    async def _optimize(self, job: JobRecord) -> tuple[str, str]:
        until = self._bounds.until
        record = await self._group(job.group)
        await self._warn(job)
        frames = await self._frames_of(job)
        async with self._work(record, job) as work:
            left, samples = MAKE_PART * (until - time.monotonic()), work.builder.job.folder.parent / "samples"
            outcomes = await asyncio.to_thread(work.run, frames, samples, left)
        self._report("store variants")
        for node, outcome in outcomes.items():
            for variant in outcome.variants:
                if variant.model.digest != record.models[node].digest:
                    await self._register(record.models[node], variant)
        self._report("the scheduler measures them")
        try:
            answers, matrix_answer = await self._plan(record, until)
        except DeadlineError:
            answers, matrix_answer = (), PlanAnswer()
        return await self._written(job, record, outcomes, answers, matrix_answer)

    async def _written(
        self,
        job: JobRecord,
        record: GroupRecord,
        outcomes: dict[str, NodeOutcome],
        answers: tuple[StrategyAnswer, ...],
        matrix_answer: PlanAnswer,
    ) -> tuple[str, str]:
        """Write the report; return what came of the job in a line, and the report."""
        text = markdown(record, outcomes, answers, matrix_answer.matrix)
        place = self._folder / "nco" / "reports" / f"{job.group}-{job.id}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "report.md").write_text(text)
        if matrix_answer.matrix is not None and matrix_answer.matrix.variants and report_plot.available():
            await asyncio.to_thread(report_plot.plot, matrix_answer.matrix, answers, job.group, place / "report.png")
        if not answers:
            return f"the scheduler still measures: hams-ctl matrix --variants; report: {place / 'report.md'}", text
        first = answers[0]
        if first.error is not None:
            raise from_wire(first.error.model_dump())
        before = first.source_fps if first.source_fps is not None else first.fps
        return f"{before:.2f} → {first.fps:.2f} FPS predicted ({gain(first):.2f}×); report: {place / 'report.md'}", text

    async def _warn(self, job: JobRecord) -> None:
        """Report at the start which tools are not installed."""
        now = self._jobs.get(job.id)
        missing = [name for module, name in TOOLS.items() if importlib.util.find_spec(module) is None]
        if now is not None and missing:
            warning = f'not installed: {", ".join(missing)} (pip install "hams[nco]" where the optimizer runs)'
            await self._write(now.model_copy(update={"warning": warning}))

    @asynccontextmanager
    async def _work(self, record: GroupRecord, job: JobRecord) -> AsyncIterator[Optimize]:
        """Open the blocking part of a job, with a process and a folder of its own."""
        store = ModelStore(await self._bus.objects(subjects.MODEL_STORE), self._folder / "models")
        models = {node: await store.path(model) for node, model in record.models.items()}
        view = await scheduler_view(self._bus, timeout=ASK_S, patience=30.0)
        site = SiteFormats.of(device.record for device in view.devices)
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._scratch))
        try:
            with JobProcess(scratch / "job", for_budget(self._limits, job.budget_s), self._bounds) as process:
                builder = VariantBuilder(VariantStore(self._folder / "variants"), process, self._report)
                yield Optimize(record, models, builder, self._report, site, costs(record, view), job.fresh)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _register(self, source: ModelRef, variant: VariantRecord) -> None:
        folder = VariantStore(self._folder / "variants").path(variant).parent
        objects = await self._bus.objects(subjects.MODEL_STORE)
        for part in variant.model.parts:
            await objects.put(part.digest, await asyncio.to_thread((folder / f"model{part.suffix}").read_bytes))
        await register(await self._bus.kv(subjects.bucket("variants")), source, variant)

    async def _plan(self, record: GroupRecord, until: float) -> tuple[tuple[StrategyAnswer, ...], PlanAnswer]:
        """Return what strategies make of the variants; waits until the scheduler has measured them."""
        names = tuple(dict.fromkeys([record.spec.strategy, *STRATEGIES]))
        request = PlanRequest(group=record, strategies=names)
        left = min(PLAN_S, max(LEAST_PLAN_S, until - time.monotonic()))
        answer = await ask_plans(self._bus, request, timeout=left, patience=30.0)
        return answer.answers, answer

    async def _group(self, name: str) -> GroupRecord:
        entry = await (await self._bus.kv(subjects.bucket("groups"))).get(name)
        if entry is None or entry.value is None:
            raise NotFoundError(f"group {name} is not deployed", "hams-ctl deploy it first")
        return codec.decode(GroupRecord, entry.value)

    def _frames(self, group: str) -> Path:
        return self._folder / "nco" / group / "frames"


def clean(scratch: Path) -> None:
    """Remove what ended optimizers left in `scratch`, a folder for each by its process id.

    One of this process's id is of an earlier one: in a container each has the same.
    """
    for left in scratch.glob("*"):
        if left.name == str(os.getpid()) or not (left.name.isdecimal() and Path(f"/proc/{left.name}").exists()):
            shutil.rmtree(left, ignore_errors=True)


def lower_priority() -> None:
    """Let serving go first, for this process and all that it starts."""
    with suppress(OSError, AttributeError):
        os.nice(NICE)
