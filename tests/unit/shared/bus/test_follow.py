"""Waiting until a group serves: until when a record may be unseen, and what took its place."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import pytest

from hams_shared.bus import control
from hams_shared.bus.control import Control
from hams_shared.bus.deployments import Running, overtaken
from hams_shared.bus.memory.client import InMemoryBus, MemoryServer
from hams_shared.errors import ConflictError, HamsError, NotFoundError
from hams_shared.wire.messages.candidate import Candidate
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import GroupView, MatrixView, SchedulerView
from support.build import group_record, plan

MINE = group_record(deployed_at=2.0).model_copy(update={"version": 2, "by": "al@box"})
OLD = MINE.model_copy(update={"deployed_at": 1.0, "version": 1})
NEW = MINE.model_copy(update={"deployed_at": 3.0, "version": 3, "by": "eve@box"})
CANDIDATE = MINE.model_copy(update={"candidate": Candidate(of="yard", mode="shadow", share=0.1)})
NONE = Running("face")


def view(record: GroupRecord | None, active: Plan | None = None) -> SchedulerView:
    """The scheduler's view while it knows this record of the group."""
    groups: tuple[GroupView, ...] = ()
    if record is not None:
        state: Literal["serving", "loading"] = "serving" if active else "loading"
        groups = (GroupView(name="face", deployed_at=record.deployed_at, state=state, active=active),)
    return SchedulerView(devices=(), groups=groups, matrix=MatrixView(models=(), devices=(), fps=()))


SERVES = view(MINE, plan(1, {"det": "a"}).model_copy(update={"group": MINE}))


class Scripted(Control):
    """A control plane whose scheduler and store answer one after another; the last answer stays."""

    def __init__(self, views: Sequence[SchedulerView], stored: Sequence[Running]) -> None:
        super().__init__(InMemoryBus(MemoryServer()))
        self._views = itertools.chain(views, itertools.repeat(views[-1]))
        self._stored = itertools.chain(stored, itertools.repeat(stored[-1]))

    async def view(self, *, matrix: bool = True, group: str = "") -> SchedulerView:
        return next(self._views)

    async def running(self, group: str) -> Running:
        return next(self._stored)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "POLL_S", 0.002)
    monkeypatch.setattr(control, "SETTLE_S", 0.02)


async def states(views: Sequence[SchedulerView], stored: Sequence[Running]) -> list[str]:
    return [one.state async for one in Scripted(views, stored).follow(MINE)]


def running(record: GroupRecord) -> Running:
    return Running("face", record, record.version)


@pytest.mark.parametrize("before", [None, OLD, NEW])
async def test_a_scheduler_that_has_not_seen_the_record_yet_is_waited_for(before: GroupRecord | None) -> None:
    assert await states([view(before)] * 30 + [view(MINE), SERVES], [running(MINE)]) == ["loading", "serving"]


async def test_the_store_is_not_looked_at_before_the_scheduler_has_had_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "SETTLE_S", 60.0)
    assert await states([view(None), view(OLD), SERVES], [NONE]) == ["serving"]


@pytest.mark.parametrize(
    ("views", "stored", "kind", "text"),
    [
        ([view(MINE), view(NEW)], running(NEW), ConflictError, "version 3 by eve@box took the place of yours"),
        ([view(MINE), view(None)], NONE, NotFoundError, "group face was undeployed meanwhile"),
        ([view(None)], NONE, NotFoundError, "group face was undeployed meanwhile"),
        ([view(OLD)], running(NEW), ConflictError, "version 3 by eve@box took the place of yours"),
        ([view(MINE), view(None)], Running("face", None, 9), ConflictError, "another version by someone else took"),
    ],
)
async def test_what_took_its_place_is_named(
    views: list[SchedulerView], stored: Running, kind: type[HamsError], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        await states(views, [running(MINE), running(MINE), stored])
    assert caught.value.hint == "see `hams-ctl versions face`"


def test_of_a_candidate_it_is_said_that_it_ended() -> None:
    error = overtaken(CANDIDATE, NONE)
    assert (error.text, error.hint) == (
        "the candidate for group yard was promoted or dropped meanwhile",
        "see `hams-ctl versions yard`",
    )
    by_rule = NEW.model_copy(update={"by": "the rule of al@box"})
    assert "version 3 by the rule of al@box took the place" in overtaken(MINE, running(by_rule)).text
