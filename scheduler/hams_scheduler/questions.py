"""Questions about plans (``hams-ctl plan``): what the strategies would do for groups that may not be deployed."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import Callable
from functools import partial

from hams_scheduler import events, profiling
from hams_scheduler.plan_answers import answer, answer_survival
from hams_scheduler.solver.strategies.registry import names
from hams_scheduler.solver_threads import asked
from hams_scheduler.state import SchedulerState
from hams_scheduler.supposed import supposed
from hams_scheduler.variant_choice import PlanningSnapshot
from hams_scheduler.view import matrix_view
from hams_shared.bus.protocol import Message
from hams_shared.errors import BrokerError, HamsError, NotLeaderError, RefusedError, as_hams_error
from hams_shared.wire import codec
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.scheduler import PlanAnswer, PlanRequest, StrategyAnswer

log = logging.getLogger("hams.scheduler")

PLAN_DEADLINE_S = 900.0
"""How long a question about plans may wait for benchmarks, s."""
LONG_S = 30.0
"""How often the log says what a question about plans waits for, s."""
QUESTIONS_LIMIT = 32
"""Most questions about plans waiting at once."""


class Questions:
    """The questions that wait for benchmarks or for their answers."""

    def __init__(self, report: Callable[[events.Event], None]) -> None:
        self._report = report
        self._waiting: dict[str, asyncio.Future[PlanAnswer]] = {}
        self._asked: dict[str, tuple[PlanRequest, float]] = {}
        """By request: what was asked, and when the log last mentioned it."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raise RefusedError if no further question can wait."""
        if len(self._waiting) >= QUESTIONS_LIMIT:
            raise RefusedError("too many plan requests are waiting", "try again in a moment")

    def send_away(self, why: str) -> None:
        """Answer those who wait that they have to ask again: another scheduler answers."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NotLeaderError(why, "ask again"))

    def log_waiting(self, state: SchedulerState, now: float) -> None:
        """Log what the questions that wait for long wait for."""
        for request_id, (request, last) in self._asked.items():
            if now - last >= LONG_S:
                self._asked[request_id] = (request, now)
                for group in request.groups:
                    name = group.spec.name
                    log.info("plans of %s wait for %s", name, profiling.waits_for(state, group), extra={"group": name})

    async def answer(self, message: Message, request: PlanRequest, now: float) -> None:
        """Answer `message` when all is measured. `now` is a monotonic time, s."""
        request_id = uuid.uuid4().hex
        future: asyncio.Future[PlanAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id], self._asked[request_id] = future, (request, now)
        try:
            self._report(events.PlanAsked(request_id, request))
            async with asyncio.timeout(PLAN_DEADLINE_S):
                found = await future
        except TimeoutError:
            text = f"not all benchmarks ended within {PLAN_DEADLINE_S:g} s"
            found = PlanAnswer(error=WireError(code="deadline", text=text))
        except NotLeaderError as error:
            found = PlanAnswer(error=WireError(**error.to_wire()))
        finally:
            del self._waiting[request_id], self._asked[request_id]
            self._report(events.AskWithdrawn(request_id))
        try:
            await message.respond(codec.encode(found))
        except BrokerError as error:
            log.warning("plan answer is lost: %s", error)

    async def compare(self, command: events.AnswerPlan) -> None:
        """Answer what each requested strategy would do; ``all`` means every one there is.

        When nobody waits any more, no further strategy is begun.
        """
        answers = []
        for question in _questions(command):
            found = await asked(partial(self._unless_withdrawn, command.request_id, *question))
            if found is None:
                return
            answers.append(found)
        future = self._waiting.get(command.request_id)
        if future is not None and not future.done():
            future.set_result(PlanAnswer(answers=tuple(answers), matrix=matrix_view(command.snapshot)))

    def _unless_withdrawn(
        self, request_id: str, strategy: str, question: Callable[[], StrategyAnswer]
    ) -> StrategyAnswer | None:
        """Answer one question in its thread; None: nobody waits for it any more."""
        return _guarded(strategy, question) if request_id in self._waiting else None


def _questions(command: events.AnswerPlan) -> list[tuple[str, Callable[[], StrategyAnswer]]]:
    """Return the name of a strategy and its question, for each that is asked."""
    request, snapshot = command.request, command.snapshot
    if request.survive is not None:
        survive = request.survive
        return [("optimal", lambda: answer_survival(supposed(snapshot, request), survive))]
    wanted = names() if request.strategies == ("all",) else request.strategies
    snapshots = [dataclasses.replace(snapshot, strategy=strategy) for strategy in wanted]
    return [(one.strategy, partial(_answer, one, request)) for one in snapshots]


def _answer(snapshot: PlanningSnapshot, request: PlanRequest) -> StrategyAnswer:
    return answer(supposed(snapshot, request), each_loss=request.each_loss)


def _guarded(strategy: str, question: Callable[[], StrategyAnswer]) -> StrategyAnswer:
    try:
        return question()
    except Exception as error:
        if not isinstance(error, HamsError):
            log.exception("strategy %s failed", strategy)
        return StrategyAnswer(strategy=strategy, error=WireError(**as_hams_error(error).to_wire()))
