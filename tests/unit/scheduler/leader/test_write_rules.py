"""Whose plan is believed, and what follows a failed write: as tables."""

from __future__ import annotations

import pytest

from hams_scheduler.leader.write_rules import Next, OvertakenError, after, is_written
from hams_shared.errors import BadInputError, BrokerError, DeadlineError, NotLeaderError, RefusedError
from hams_shared.wire.messages.plan import PlanRecord
from support.build import plan

HERE, THERE = {"det": "h.b.u", "age": "h.b.u"}, {"det": "h.b.v", "age": "h.b.v"}


def record(epoch: int, term: int, shares: dict[str, str] = HERE) -> PlanRecord:
    return PlanRecord(group="face", active=plan(epoch, shares), term=term)


@pytest.mark.parametrize(
    ("error", "following"),
    [
        (BrokerError("away"), Next.RETRY),
        (DeadlineError("no answer"), Next.RETRY),
        (RefusedError("it changes all the time"), Next.RETRY),
        (NotLeaderError("another leads"), Next.STEP_DOWN),
        (BadInputError("too large"), Next.GIVE_UP),
        (OvertakenError(record(2, 1)), Next.TAKE),
    ],
)
def test_what_follows_a_failed_write(error: Exception, following: Next) -> None:
    assert after(error) is following  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (record(5, 3), True),  # this very write, whose answer was lost
        (record(5, 2), False),  # the same plan of an earlier leader: it is written again in this term
        (record(4, 3), False),  # an older plan of this term
        (record(4, 2), False),  # an older plan of an earlier term
        (record(5, 3, THERE), False),  # this leader's own, decided before
        (record(9, 3, THERE), False),
        (record(5, 2, THERE), OvertakenError),  # the same epoch must not mean two plans
        (record(6, 2, THERE), OvertakenError),
        (record(4, 4), NotLeaderError),
        (record(6, 4, THERE), NotLeaderError),
    ],
)
def test_whose_plan_is_believed(found: PlanRecord, expected: bool | type[Exception]) -> None:
    """A leader of term 3 wants to write epoch 5, and finds another record."""
    if isinstance(expected, bool):
        assert is_written(found, record(5, 0), 3) is expected
    else:
        with pytest.raises(expected):
            is_written(found, record(5, 0), 3)


def test_a_plan_that_is_taken_has_no_term() -> None:
    with pytest.raises(OvertakenError) as overtaken:
        is_written(record(6, 2, THERE), record(5, 0), 3)
    assert overtaken.value.found == record(6, 0, THERE)
