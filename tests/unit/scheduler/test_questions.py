"""Questions about plans: they take no thread that re-planning needs, and end when nobody waits."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hams_scheduler import questions, solver_threads
from hams_scheduler.events import AnswerPlan, Event
from hams_scheduler.planning import Solution
from hams_scheduler.questions import QUESTIONS_LIMIT, Questions
from hams_shared.wire.messages.scheduler import PlanAnswer, PlanRequest, StrategyAnswer
from support.build import group_record
from support.scheduler_world import deployed
from support.wait import until


def asked(request_id: str) -> AnswerPlan:
    state = deployed().state
    record = group_record()
    return AnswerPlan(request_id, PlanRequest(group=record, strategies=("mfs", "hfs")), state.snapshot([record], "mfs"))


class Slow:
    """Strategies that take until `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.begun: list[str] = []
        monkeypatch.setattr(questions, "_guarded", self.guarded)

    def guarded(self, strategy: str, question: object) -> StrategyAnswer:
        self.begun.append(strategy)
        assert self.go.wait(30.0)
        return StrategyAnswer(strategy=strategy)


def waiting(*request_ids: str) -> tuple[Questions, dict[str, asyncio.Future[PlanAnswer]]]:
    reported: list[Event] = []
    found = Questions(reported.append)
    for request_id in request_ids:
        found._waiting[request_id] = asyncio.get_running_loop().create_future()
    return found, found._waiting


async def test_a_solution_is_made_while_all_questions_run(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, names = Slow(monkeypatch), [str(number) for number in range(QUESTIONS_LIMIT)]
    monkeypatch.setattr(solver_threads, "decide", lambda snapshot, now: Solution({}))
    all_questions, futures = waiting(*names)
    command = asked("")
    async with asyncio.TaskGroup() as owner:
        for name in names:
            owner.create_task(all_questions.compare(AnswerPlan(name, command.request, command.snapshot)))
        await until(lambda: slow.begun != [])
        async with asyncio.timeout(10.0):
            assert await solver_threads.decided(command.snapshot) == (Solution({}), None)
            assert await asyncio.to_thread(lambda: 1) == 1
        slow.go.set()
    assert all(len(future.result().answers) == 2 for future in futures.values())


async def test_what_nobody_waits_for_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    all_questions, futures = waiting("gone")
    async with asyncio.TaskGroup() as owner:
        owner.create_task(all_questions.compare(asked("gone")))
        await until(lambda: slow.begun != [])
        del futures["gone"]
        slow.go.set()
    assert slow.begun == ["mfs"]
