"""Questions to the scheduler and the pipeline about how things are."""

from __future__ import annotations

import asyncio

from hams_shared import codec, subjects
from hams_shared.bus import Bus
from hams_shared.errors import DeadlineError, NotFoundError, NotLeaderError
from hams_shared.messages import PipelineView, SchedulerView

TRY_S = 1.5
"""One of several schedulers has so long to answer, s."""
PAUSE_S = 0.2
"""Between two questions to a part that is not there, s."""


async def ask(bus: Bus, subject: str, data: bytes, part: str, *, timeout: float, patience: float = 0.0) -> bytes:
    """Return the answer of `part`, which may be on its way back for `patience` s.

    Raises:
        NotFoundError: it does not run.
        DeadlineError: it did not answer within `timeout` s.
    """
    until = asyncio.get_running_loop().time() + patience
    while True:
        try:
            message = await bus.request(subject, data, timeout=timeout)
            return message.data
        except (NotFoundError, NotLeaderError):
            if asyncio.get_running_loop().time() >= until:
                raise NotFoundError(f"no {part} is running", "start everything with `hams-ctl up`") from None
        except DeadlineError:
            raise DeadlineError(f"the {part} did not answer within {timeout:g} s", "see its log") from None
        await asyncio.sleep(PAUSE_S)


async def scheduler_view(bus: Bus, *, timeout: float, patience: float = 0.0) -> SchedulerView:
    """Everything the scheduler knows; errors as :func:`ask`."""
    until = asyncio.get_running_loop().time() + timeout
    while True:  # a leader that is stopped, not ended, says nothing until another leads
        left = until - asyncio.get_running_loop().time()
        try:
            data = await ask(
                bus, subjects.scheduler_view(), b"", "scheduler", timeout=min(left, TRY_S), patience=patience
            )
            break
        except DeadlineError:
            if asyncio.get_running_loop().time() + PAUSE_S >= until:
                raise DeadlineError(f"the scheduler did not answer within {timeout:g} s", "see its log") from None
    return codec.decode(SchedulerView, data)


async def pipeline_view(bus: Bus, *, timeout: float, patience: float = 0.0) -> PipelineView:
    """All streams; errors as :func:`ask`."""
    data = await ask(bus, subjects.pipeline_status(), b"", "pipeline", timeout=timeout, patience=patience)
    return codec.decode(PipelineView, data)
