"""What the scheduler has done for it and takes long: benchmarks by agents, solutions, comparisons of strategies."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time

from hams_scheduler import events
from hams_scheduler.planning import Situation, Solution, answer, decide
from hams_scheduler.solver.strategies.registry import names
from hams_scheduler.view import matrix_view
from hams_shared.bus.protocol import Bus
from hams_shared.errors import HamsError, MessageError, as_hams_error
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import ProfileRecord, ProfileRequest
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.scheduler import PlanAnswer, StrategyAnswer

log = logging.getLogger("hams.scheduler")

PROFILE_DEADLINE_S = 780.0
"""How long an agent may take for one benchmark, s.

It loads two networks at most, after one for a plan, each for 300 s: some NPUs compile for minutes. Then it ends itself.
An agent that dies is noticed at once.
"""
PROFILE_RETRY_S = 1.0
"""Pause after a benchmark without an answer, s."""


async def measure(bus: Bus, command: events.Profile) -> events.ProfileDone:
    """Ask an agent for a benchmark."""
    cell = command.cell
    beside = None
    if command.beside is not None:
        source, there = command.beside
        beside = ProfileRequest(model=source, input_shape=there.input_shape, dtype=there.dtype)
    request = ProfileRequest(model=command.model, input_shape=cell.input_shape, dtype=cell.dtype, beside=beside)
    try:
        subject = subjects.profile(command.device)
        reply = await bus.request(subject, codec.encode(request), timeout=PROFILE_DEADLINE_S)
        record = codec.decode(ProfileRecord, reply.data)
        if record.key != cell.key:
            raise MessageError(f"{command.device} measured something else: {record.key}")
    except HamsError as error:
        await asyncio.sleep(PROFILE_RETRY_S)
        return events.ProfileDone(command.device, cell, None, error)
    return events.ProfileDone(command.device, cell, record)


async def solve(command: events.Solve) -> events.Solved:
    """Run the solver in a thread."""
    try:
        solution = await asyncio.to_thread(_solution, command.situation)
    except Exception as error:
        if not isinstance(error, HamsError):
            log.exception("solving failed")
        return events.Solved(command.generation, None, as_hams_error(error))
    return events.Solved(command.generation, solution)


async def compare(command: events.AnswerPlan) -> PlanAnswer:
    """What each strategy asked about would do; ``all`` means every one there is."""
    wanted = command.request.strategies
    answers = [
        await asyncio.to_thread(_strategy_answer, dataclasses.replace(command.situation, strategy=strategy))
        for strategy in (names() if wanted == ("all",) else wanted)
    ]
    return PlanAnswer(answers=tuple(answers), matrix=matrix_view(command.situation))


def _solution(situation: Situation) -> Solution:
    return decide(situation, time.time())


def _strategy_answer(situation: Situation) -> StrategyAnswer:
    try:
        return answer(situation)
    except Exception as error:
        if not isinstance(error, HamsError):
            log.exception("strategy %s failed", situation.strategy)
        return StrategyAnswer(strategy=situation.strategy, error=WireError(**as_hams_error(error).to_wire()))
