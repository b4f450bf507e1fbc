"""Takes a snapshot of the whole system; it names parts that do not answer."""

from __future__ import annotations

from hams_services.monitor.core import SystemSnapshot
from hams_shared.bus.ask import pipeline_view, scheduler_view
from hams_shared.bus.protocol import Bus
from hams_shared.errors import CredentialsError, HamsError
from hams_shared.wire.messages.pipeline import PipelineView
from hams_shared.wire.messages.scheduler import SchedulerView

ASK_S = 2.0
"""Deadline of each request, s."""
AWAY = "the broker is away; the connection is tried again without end"


async def take_snapshot(bus: Bus) -> SystemSnapshot:
    """Take one snapshot; never raises a HamsError."""
    if not bus.connected:
        return SystemSnapshot(troubles=(AWAY,), blind=True, broker=False)
    troubles: list[str] = []
    scheduler: SchedulerView | None = None
    pipeline: PipelineView | None = None
    try:
        scheduler = await scheduler_view(bus, timeout=ASK_S, matrix=False)
    except HamsError as error:
        troubles.append(_trouble(error, "scheduler"))
    try:
        pipeline = await pipeline_view(bus, timeout=ASK_S)
    except HamsError as error:
        troubles.append(_trouble(error, "pipeline"))
    groups = scheduler.groups if scheduler is not None else ()
    return SystemSnapshot(
        devices=scheduler.devices if scheduler is not None else (),
        streams=pipeline.streams if pipeline is not None else (),
        plans=tuple(group.active for group in groups if group.active is not None),
        troubles=tuple(troubles),
        blind=scheduler is None and pipeline is None,
        broker=bus.connected,
        scheduler=scheduler,
        pipeline=pipeline,
    )


def _trouble(error: HamsError, part: str) -> str:
    if isinstance(error, CredentialsError):
        return f"these credentials do not allow requests to the {part}: use dashboard.creds or admin.creds"
    return str(error)
