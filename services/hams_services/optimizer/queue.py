"""Decides which job an optimizer does next, and when a job is given up. Pure.

Jobs live in KV, so they survive any process. An optimizer takes the oldest that waits, or continues one that an
earlier process of its host had; a job whose process ended `ATTEMPTS` times in the middle is given up.
"""

from __future__ import annotations

from collections.abc import Mapping

from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.optimizer import JobRecord

ATTEMPTS = 3
KEPT = 50
"""Ended jobs that are kept; older ones are forgotten."""


def next_job(jobs: Mapping[str, JobRecord], host: str) -> JobRecord | None:
    """Return the job that the optimizer of `host` begins, or continues, while it does none; as it is to be written."""
    own = [job for job in jobs.values() if job.state == "running" and job.host == host]
    waiting = [job for job in jobs.values() if job.state == "waiting"]
    for job in sorted(own, key=_age) + sorted(waiting, key=_age):
        return job.model_copy(update={"state": "running", "host": host, "attempts": job.attempts + 1})
    return None


def given_up(job: JobRecord, now: float) -> JobRecord | None:
    """Return the job as failed, if it was begun too often; `now` is Unix time, s."""
    if job.attempts <= ATTEMPTS:
        return None
    error = WireError(
        code="bad-model",
        text=f"the optimizer ended {ATTEMPTS} times while it did this ({job.text or 'at its start'})",
        hint="see its log; a network or a format may have to be left out",
    )
    return job.model_copy(update={"state": "failed", "error": error, "text": error.text, "ended_at": now})


def forgotten(jobs: Mapping[str, JobRecord]) -> list[str]:
    """Ids of ended jobs that are more than are kept, oldest first.

    By the time at which they ended, by an optimizer's clock: that of whoever submitted one may be hours behind.
    """
    over = sorted((job for job in jobs.values() if job.over), key=lambda job: (job.ended_at, job.id))
    return [job.id for job in over[: max(0, len(over) - KEPT)]]


def _age(job: JobRecord) -> tuple[float, str]:
    return job.created_at, job.id
