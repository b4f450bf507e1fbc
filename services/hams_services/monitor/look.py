"""Asks scheduler and pipeline how things are; a part that does not answer is named, the rest is shown."""

from __future__ import annotations

from hams_services.monitor.core import Look
from hams_shared import codec, subjects
from hams_shared.bus import Bus
from hams_shared.errors import HamsError
from hams_shared.messages import DeviceView, PipelineView, SchedulerView, StreamView

ASK_S = 2.0
"""Deadline of each question, s."""


async def look(bus: Bus) -> Look:
    """Look at the system once; never raises a HamsError."""
    troubles: list[str] = []
    devices: tuple[DeviceView, ...] = ()
    streams: tuple[StreamView, ...] = ()
    try:
        answer = await bus.request(subjects.scheduler_view(), b"", timeout=ASK_S)
        devices = codec.decode(SchedulerView, answer.data).devices
    except HamsError as error:
        troubles.append(f"no answer from the scheduler: {error}")
    try:
        answer = await bus.request(subjects.pipeline_status(), b"", timeout=ASK_S)
        streams = codec.decode(PipelineView, answer.data).streams
    except HamsError as error:
        troubles.append(f"no answer from the pipeline: {error}")
    return Look(devices, streams, tuple(troubles))
