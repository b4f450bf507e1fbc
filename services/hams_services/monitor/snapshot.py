"""Takes a snapshot of the whole system; it names parts that do not answer."""

from __future__ import annotations

from hams_services.monitor.core import SystemSnapshot
from hams_shared.bus.ask import pipeline_view, scheduler_view
from hams_shared.bus.protocol import Bus
from hams_shared.errors import CredentialsError, HamsError
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import DeviceView

ASK_S = 2.0
"""Deadline of each request, s."""
PARTS = 2
"""Scheduler and pipeline."""


async def take_snapshot(bus: Bus) -> SystemSnapshot:
    """Take one snapshot; never raises a HamsError."""
    troubles: list[str] = []
    devices: tuple[DeviceView, ...] = ()
    plans: tuple[Plan, ...] = ()
    streams: tuple[StreamView, ...] = ()
    try:
        view = await scheduler_view(bus, timeout=ASK_S, matrix=False)
        devices, plans = view.devices, tuple(group.active for group in view.groups if group.active is not None)
    except HamsError as error:
        troubles.append(_trouble(error, "scheduler"))
    try:
        streams = (await pipeline_view(bus, timeout=ASK_S)).streams
    except HamsError as error:
        troubles.append(_trouble(error, "pipeline"))
    return SystemSnapshot(devices, streams, plans, tuple(troubles), blind=len(troubles) == PARTS)


def _trouble(error: HamsError, part: str) -> str:
    if isinstance(error, CredentialsError):
        return f"these credentials do not allow requests to the {part}: use dashboard.creds or admin.creds"
    return str(error)
