"""Requests to the scheduler and the pipeline for their state."""

from __future__ import annotations

import asyncio

from hams_shared.bus.protocol import Bus
from hams_shared.errors import DeadlineError, HamsError, NotFoundError, NotLeaderError, from_wire
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.pipeline import PipelineView
from hams_shared.wire.messages.scheduler import PlanAnswer, PlanRequest, SchedulerView, ViewRequest

STANDBY = "$SRV.PING.hams-scheduler-replica"
"""Each scheduler answers here as long as it lives."""
TRY_S = 1.5
"""Deadline of one of several schedulers, s."""
LEADER_S = 2.0
"""How often the leader is checked while an answer about plans takes long, s."""
PAUSE_S = 0.2
"""Pause between two requests to a part that does not answer, s."""


async def ask(bus: Bus, subject: str, data: bytes, part: str, *, timeout: float, patience: float = 0.0) -> bytes:
    """Return the answer of `part`, which may be on its way back for `patience` s.

    A scheduler that no longer leads answers with an error; then the new leader is asked, for `timeout` s in all.

    Raises:
        NotFoundError: it does not run.
        DeadlineError: it did not answer within `timeout` s.
    """
    loop = asyncio.get_running_loop()
    until, end = loop.time() + patience, loop.time() + timeout
    while True:
        try:
            message = await bus.request(subject, data, timeout=timeout)
            return message.data
        except NotLeaderError:
            if loop.time() >= max(until, end):
                raise NotFoundError(f"no {part} leads", "see its log") from None
        except NotFoundError:
            if loop.time() >= until:
                raise await _nobody(bus, part) from None
        except DeadlineError:
            raise DeadlineError(f"the {part} did not answer within {timeout:g} s", "see its log") from None
        await asyncio.sleep(PAUSE_S)


async def _nobody(bus: Bus, part: str) -> NotFoundError:
    """Return the error where no instance of `part` answers."""
    if part == "scheduler":
        try:  # each scheduler answers this, also one that does not lead
            await bus.request(STANDBY, b"", timeout=TRY_S)
        except HamsError:
            pass
        else:
            return NotFoundError(
                "a scheduler runs, but none leads: the broker may store nothing",
                "see the logs of broker and scheduler; is the disk of the broker's store full?",
            )
    return NotFoundError(f"no {part} is running", "start everything with `hams-ctl up`")


async def plans(bus: Bus, request: PlanRequest, *, timeout: float, patience: float) -> PlanAnswer:
    """Return the placements that strategies make of groups; waits for missing benchmarks.

    The new leader is asked again when the scheduler that was asked no longer leads.

    Raises:
        HamsError: what the scheduler found wrong; or as :func:`ask`.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while True:
        left = end - loop.time()
        try:
            data = await _of_one_leader(bus, codec.encode(request), left, patience)
            if data is not None:
                answer = codec.decode(PlanAnswer, data)
                if answer.error is None:
                    return answer
                raise from_wire(answer.error.model_dump())
        except NotLeaderError:
            pass
        if loop.time() + PAUSE_S >= end:
            raise DeadlineError(f"no scheduler answered within {timeout:g} s", "see its log")
        await asyncio.sleep(PAUSE_S)


async def _of_one_leader(bus: Bus, request: bytes, timeout: float, patience: float) -> bytes | None:
    """Return the answer about plans; None once another scheduler leads: the one that was asked may be gone."""
    first = await _leader(bus)
    question = ask(bus, subjects.plan_request(), request, "scheduler", timeout=timeout, patience=patience)
    asking = asyncio.create_task(question, name="ask for plans")
    try:
        while not (await asyncio.wait({asking}, timeout=LEADER_S))[0]:
            now = await _leader(bus)
            first = first or now
            if now != first and now:
                return None
        return asking.result()
    finally:
        await ended({asking})


async def _leader(bus: Bus) -> str:
    """Return the id of the leader; empty while none leads."""
    try:
        leader = (await scheduler_view(bus, timeout=TRY_S, matrix=False)).leader
    except (NotFoundError, DeadlineError):
        return ""
    return leader.holder if leader is not None else ""


async def scheduler_view(
    bus: Bus, *, timeout: float, patience: float = 0.0, matrix: bool = True, group: str = ""
) -> SchedulerView:
    """Everything the scheduler knows, with or without the `matrix`, or one `group`; errors as :func:`ask`."""
    request = b"" if matrix and not group else codec.encode(ViewRequest(matrix=matrix, group=group))
    until = asyncio.get_running_loop().time() + timeout
    while True:  # a leader that is paused does not answer until another leads
        left = until - asyncio.get_running_loop().time()
        try:
            data = await ask(
                bus, subjects.scheduler_view(), request, "scheduler", timeout=min(left, TRY_S), patience=patience
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
