"""api/nco: jobs of the optimizer. Variants are in api/matrix.

Folders of samples and labels are the optimizer's; jobs of the page name none, so that nobody reads its host by them.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from hams_services.web.site import Endpoint, Site, actor_of, answer, session_of, taken
from hams_shared.bus.control import Control
from hams_shared.bus.jobs import cancel, jobs, new_id, submit
from hams_shared.errors import NotFoundError, OverloadedError
from hams_shared.group.findings import NAME_PATTERN
from hams_shared.wire.messages.optimizer import JobRecord

REPORT = 64 * 1024
"""Longest part of a report that is sent, characters."""
WAITING = 20
"""Most jobs that may wait."""


class NewJob(BaseModel):
    """A job to begin."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["optimize", "calibrate"]
    group: str = Field(pattern=NAME_PATTERN)
    frames: int = Field(120, ge=3, le=10_000)
    budget_s: float = Field(900.0, ge=10, le=86_400)
    fresh: bool = False


async def listed(request: Request, site: Site) -> Response:
    """Answer all jobs, newest first."""
    return answer({"jobs": [_shown(one) for one in await jobs(site.bus_of(session_of(request)))]})


async def begin(request: Request, site: Site) -> Response:
    """Submit a job."""
    asked = await taken(request, NewJob)
    bus = site.bus_of(session_of(request))
    await Control(bus).deployed(asked.group)
    known = await jobs(bus)
    if sum(one.state == "waiting" for one in known) >= WAITING:
        raise OverloadedError(f"{WAITING} jobs are waiting already", "is an optimizer running? cancel some")
    job = JobRecord(id=new_id([one.id for one in known]), created_at=time.time(), **asked.model_dump())
    await submit(bus, job, actor_of(request))
    return answer(_shown(job), 201)


async def end(request: Request, site: Site) -> Response:
    """Cancel a job."""
    job_id = str(request.path_params["id"])
    if not (job_id.isascii() and job_id.isalnum() and len(job_id) <= 32):
        raise NotFoundError(f"there is no job {job_id[:40]!r}")
    bus = site.bus_of(session_of(request))
    return answer(_shown(await cancel(bus, job_id, time.time(), actor_of(request))))


def _shown(job: JobRecord) -> dict[str, Any]:
    shown = job.model_dump(mode="json", exclude={"samples", "labels"})
    return {**shown, "over": job.over, "report": job.report[:REPORT]}


ENDPOINTS = (
    Endpoint("GET", "nco/jobs", "change", listed),
    Endpoint("POST", "nco/jobs", "change", begin),
    Endpoint("DELETE", "nco/jobs/{id}", "change", end),
)
