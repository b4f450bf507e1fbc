"""Jobs are submitted and cancelled through KV; whichever optimizer is idle takes them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress

from hams_shared.bus.audit import Audit
from hams_shared.bus.protocol import Bus
from hams_shared.errors import NotFoundError, RefusedError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.optimizer import JobRecord


async def submit(bus: Bus, job: JobRecord, actor: str = "") -> None:
    """Submit a job; whichever optimizer is idle takes it."""
    await (await bus.kv(subjects.bucket("jobs"))).create(job.id, codec.encode(job))
    await Audit(bus, actor).tell("job", job.id, f"{job.kind} {job.group} submitted")


async def cancel(bus: Bus, job_id: str, now: float, actor: str = "") -> JobRecord:
    """Cancel a job. Raises NotFoundError, RefusedError when it is over."""
    bucket = await bus.kv(subjects.bucket("jobs"))
    for _ in range(16):
        entry = await bucket.get(job_id)
        if entry is None or entry.value is None:
            raise NotFoundError(f"there is no job {job_id}", "see `hams-ctl nco jobs`")
        job = codec.decode(JobRecord, entry.value)
        if job.over:
            raise RefusedError(f"job {job_id} is {job.state} already")
        with suppress(RefusedError):
            ended = job.model_copy(update={"state": "cancelled", "text": "cancelled", "ended_at": now})
            await bucket.update(job_id, codec.encode(ended), entry.revision)
            await Audit(bus, actor).tell("job", job_id, f"{job.kind} {job.group} cancelled")
            return ended
    raise RefusedError(f"job {job_id} is written all the time", "try again")


async def jobs(bus: Bus) -> list[JobRecord]:
    """Return all jobs, newest first."""
    entries = await (await bus.kv(subjects.bucket("jobs"))).entries()
    found = [codec.decode(JobRecord, entry.value) for entry in entries.values() if entry.value is not None]
    return sorted(found, key=lambda one: -one.created_at)


def new_id(jobs: Sequence[str] = ()) -> str:
    """A short id that is not among `jobs`."""
    while (found := uuid.uuid4().hex[:6]) in jobs:
        pass
    return found
