"""Messages straight to what decodes them: a wrong one is a named error, never another exception, and soon."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

from benchmarks.messages.mutate import message
from benchmarks.messages.samples import Samples
from benchmarks.messages.targets import DEVICE, FAR, GROUP, NODE, SPARE, STREAM
from benchmarks.messages.world import Outcome
from hams_client import Result
from hams_shared.bus.chunks import Assembler
from hams_shared.errors import HamsError
from hams_shared.wire import codec, subjects
from hams_shared.wire.frames import unpack_outputs, unpack_works
from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, Heartbeat, ProfileRecord, ProfileRequest
from hams_shared.wire.messages.audit import AuditEntry
from hams_shared.wire.messages.events import Event, EventsRequest, TracksRecord
from hams_shared.wire.messages.gallery import GalleryRequest
from hams_shared.wire.messages.group import GroupRecord, VersionRecord
from hams_shared.wire.messages.history import HistoryEntry, HistoryRequest
from hams_shared.wire.messages.optimizer import JobRecord
from hams_shared.wire.messages.pipeline import (
    FramePicture,
    FramePreview,
    InferRequest,
    OutputsWanted,
    PicturesWanted,
    PipelineLoad,
    PreviewWanted,
    PushRequest,
    ReadCostRequest,
    StillRequest,
)
from hams_shared.wire.messages.plan import PlanRecord
from hams_shared.wire.messages.results import PositionRecord, ResultsRequest
from hams_shared.wire.messages.scheduler import LeaderRecord, MeasureRequest, PlanRequest, ViewRequest
from hams_shared.wire.messages.trace import FrameTrace, TracesWanted
from hams_shared.wire.variants import VariantRecord

SLOW_S = 2.0
"""A message that takes longer to refuse stops a part for too long, s of CPU time."""

KINDS = {
    subjects.heartbeat(DEVICE): Heartbeat, subjects.heartbeat(FAR): Heartbeat, subjects.profile(DEVICE): ProfileRequest,
    subjects.profile(FAR): ProfileRequest, subjects.plan_request(): PlanRequest,
    subjects.measure_request(): MeasureRequest, subjects.scheduler_view(): ViewRequest,
    subjects.read_cost(): ReadCostRequest, subjects.still(): StillRequest, subjects.pipeline_load(): PipelineLoad,
    subjects.gallery(GROUP): GalleryRequest, subjects.history("scheduler"): HistoryEntry,
    subjects.history("optimizer"): HistoryEntry, subjects.history_after(): HistoryRequest,
    subjects.outputs_wanted(GROUP): OutputsWanted, subjects.traces_wanted(GROUP): TracesWanted,
    subjects.trace(GROUP, STREAM): FrameTrace, subjects.infer(GROUP): InferRequest,
    subjects.push(GROUP, SPARE): PushRequest, subjects.pictures_wanted(GROUP): PicturesWanted,
    subjects.preview_wanted(GROUP): PreviewWanted, subjects.picture(GROUP, STREAM): FramePicture,
    subjects.preview(GROUP, STREAM): FramePreview, subjects.event(GROUP, STREAM): Event,
    subjects.events_after(GROUP): EventsRequest, f"$KV.hams-groups.{GROUP}": GroupRecord,
    f"$KV.hams-devices.{DEVICE}": DeviceRecord, "$KV.hams-profiles.x.y": ProfileRecord,
    f"$KV.hams-plans.{GROUP}": PlanRecord, "$KV.hams-variants.x": VariantRecord,
    f"$KV.hams-health.{DEVICE}": DeviceHealth, "$KV.hams-leader.scheduler": LeaderRecord,
    "$KV.hams-jobs.x": JobRecord, f"$KV.{subjects.TRACKS}.{GROUP}.{STREAM}": TracksRecord,
    f"$KV.{subjects.POSITIONS}.{GROUP}.stream.{STREAM}": PositionRecord,
    f"$KV.hams-versions.{GROUP}.1": VersionRecord,
    subjects.results_after(GROUP): ResultsRequest, subjects.audit("deploy", "admin"): AuditEntry,
}  # fmt: skip
"""What is decoded from a subject's messages, where that is a control message."""


def decoders() -> dict[str, Callable[[bytes], object]]:
    """By subject: what a receiver does to a message first, parts of large ones included."""
    assemblers = {subject: Assembler() for subject in subjects_of_parts()}

    def whole(subject: str, decode: Callable[[bytes], object]) -> Callable[[bytes], object]:
        def take(data: bytes) -> object:
            found = assemblers[subject].take(data, time.monotonic())
            return None if found is None else decode(found)

        return take

    found: dict[str, Callable[[bytes], object]] = {
        subject: (lambda data, kind=kind: codec.decode(kind, data))  # type: ignore[misc]
        for subject, kind in KINDS.items()
    }
    found |= {subjects.work(one): unpack_works for one in (DEVICE, FAR)}
    found |= {
        subjects.answer(GROUP, STREAM): unpack_outputs,
        subjects.output(GROUP, STREAM, NODE): unpack_outputs,
        subjects.result(GROUP, STREAM): Result.from_bytes,
        subjects.kept(GROUP, STREAM): Result.from_bytes,
    }
    return {subject: whole(subject, of) if subject in assemblers else of for subject, of in found.items()}


def subjects_of_parts() -> list[str]:
    """Subjects whose large messages travel in parts."""
    return [
        subjects.work(DEVICE), subjects.work(FAR), subjects.answer(GROUP, STREAM), subjects.result(GROUP, STREAM),
        subjects.kept(GROUP, STREAM),
        subjects.output(GROUP, STREAM, NODE), subjects.infer(GROUP), subjects.push(GROUP, SPARE),
        subjects.picture(GROUP, STREAM),
    ]  # fmt: skip


def run(count: int, seed: int, valid: Samples) -> Outcome:
    """Decode `count` messages, of each subject in turns."""
    rng, outcome, slowest = random.Random(f"{seed} decoders"), Outcome("decoders"), 0.0
    seen: Counter[str] = Counter()
    table = list(decoders().items())
    began = time.process_time()
    for number in range(count):
        subject, decode = table[number % len(table)]
        data = message(valid.get(subject, []), rng)
        start = time.process_time()
        try:
            decode(data)
        except HamsError:
            pass
        except Exception as error:
            kind = f"{subject}: {type(error).__name__}"
            seen[kind] += 1
            outcome.expect(seen[kind] > 1, f"{kind}: {error!r:.300} for {data[:200]!r}")
        slowest = max(slowest, time.process_time() - start)
        outcome.sent[subject] += 1
    outcome.cpu_s = time.process_time() - began
    outcome.expect(slowest < SLOW_S, f"a message took {slowest:.1f} s of CPU time")
    return outcome
