"""api/matrix: the FPS matrix with its variants; api/what-if: what the scheduler would do on other devices."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from hams_services.web.site import Endpoint, Site, answer, session_of, taken
from hams_shared.bus.ask import plans, scheduler_view
from hams_shared.bus.protocol import Bus
from hams_shared.errors import NotFoundError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.scheduler import (
    MatrixView,
    PlanAnswer,
    PlanRequest,
    SchedulerView,
    StrategyAnswer,
    SupposedDevice,
)

ASK_S, PATIENCE_S = 8.0, 3.0
"""Deadlines of requests, and of a part that is coming back, s."""
PLAN_S = 60.0
"""Deadline of a dry run, s: all that is deployed is measured already."""
SEARCH_S = 1.0
"""For each strategy that searches, s."""


class WhatIf(BaseModel):
    """Which devices are supposed to be there, and by which strategy; empty: that of the first group."""

    model_config = ConfigDict(extra="forbid")

    without: tuple[str, ...] = Field((), max_length=256)
    added: tuple[SupposedDevice, ...] = Field((), max_length=16)
    strategy: str = Field("", max_length=40)


async def matrix(_: Request, site: Site) -> Response:
    """Answer the FPS matrix as people read it."""
    view = await scheduler_view(site.bus, timeout=ASK_S, patience=PATIENCE_S)
    return answer({**_matrix(view.matrix), "alive": [d.record.device for d in view.devices if d.state == "alive"]})


async def what_if(request: Request, site: Site) -> Response:
    """Answer what the groups get now, and with the devices that are supposed; nothing is deployed."""
    asked = await taken(request, WhatIf)
    bus = site.bus_of(session_of(request))
    view = await scheduler_view(bus, timeout=ASK_S, patience=PATIENCE_S, matrix=False)
    records = deployed(view)
    if not records:
        raise NotFoundError("no group is deployed: there is nothing to place", "deploy one first")
    strategy = asked.strategy or records[0].spec.strategy
    before, after = await asyncio.gather(
        _planned(bus, records, strategy, WhatIf()), _planned(bus, records, strategy, asked)
    )
    return answer({"strategy": strategy, "before": _shown(before, records), "after": _shown(after, records)})


def deployed(view: SchedulerView) -> list[GroupRecord]:
    """Return the groups that have a plan, as they are deployed."""
    found = [group.active or group.next for group in view.groups]
    return [plan.group for plan in found if plan is not None]


async def _planned(bus: Bus, records: list[GroupRecord], strategy: str, asked: WhatIf) -> PlanAnswer:
    first, *others = records
    request = PlanRequest(
        group=first,
        others=tuple(others),
        strategies=(strategy,),
        time_limit_s=SEARCH_S,
        without=asked.without,
        added=asked.added,
    )
    return await plans(bus, request, timeout=PLAN_S, patience=PATIENCE_S)


def _shown(answered: PlanAnswer, records: list[GroupRecord]) -> dict[str, object]:
    """Return one strategy's answer with nodes named group/node, whatever the number of groups."""
    one: StrategyAnswer = answered.answers[0]
    alone = f"{records[0].spec.name}/" if len(records) == 1 else ""
    fps = one.group_fps or {records[0].spec.name: one.fps}
    return {
        "error": one.error.model_dump() if one.error else None,
        "fps": one.fps,
        "group_fps": {} if one.error else fps,
        "bottleneck": one.bottleneck,
        "busy": one.busy,
        "shares": {f"{alone}{node}": places for node, places in one.shares.items()},
        "explanation": {f"{alone}{node}": text for node, text in one.explanation.items()},
    }


def _matrix(view: MatrixView) -> dict[str, object]:
    return {
        "models": view.models,
        "devices": view.devices,
        "fps": view.fps,
        "weights": view.weights,
        "reasons": view.reasons,
        "doubts": view.doubts,
        "emulated": view.emulated,
        "hosts": view.hosts,
        "cores": view.cores,
        "variants": [row.model_dump(mode="json") for row in view.variants],
    }


ENDPOINTS = (
    Endpoint("GET", "matrix", "view", matrix),
    Endpoint("POST", "what-if", "change", what_if),
)
