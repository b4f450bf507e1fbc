"""What follows when a write to KV fails, and which plan counts when two schedulers wrote one. Pure."""

from __future__ import annotations

from enum import Enum

from hams_shared.errors import BadInputError, HamsError, NotLeaderError
from hams_shared.wire.messages.plan import PlanRecord


class OvertakenError(Exception):
    """KV holds a newer plan already; it is to be taken. Never leaves the scheduler."""

    def __init__(self, found: PlanRecord) -> None:
        super().__init__(f"group {found.group} has a newer plan already: epoch {found.newest}")
        self.found = found


class Next(Enum):
    """What a writer does after a failure."""

    RETRY = "try again after a pause"
    TAKE = "take the plan that is there"
    STEP_DOWN = "follow: a later leader was met"
    GIVE_UP = "drop the write: the broker will never take it"


def after(error: HamsError | OvertakenError) -> Next:
    """What a writer does after `error`. An outage has no end of its own: the write waits for the broker."""
    match error:
        case OvertakenError():
            return Next.TAKE
        case NotLeaderError():
            return Next.STEP_DOWN
        case BadInputError():
            return Next.GIVE_UP
        case _:
            return Next.RETRY


def is_written(found: PlanRecord, wanted: PlanRecord, term: int) -> bool:
    """Whether `found` is the write of `wanted` in `term`, whose answer was lost; False: write over it.

    Raises:
        NotLeaderError: a later leader wrote `found`.
        OvertakenError: an earlier leader wrote another plan that is as new or newer.
    """
    check_term(found, term)
    plain = found.model_copy(update={"term": wanted.term})
    if found.term < term and plain != wanted and found.newest >= wanted.newest:
        raise OvertakenError(plain)
    return plain == wanted and found.term == term


def check_term(found: PlanRecord, term: int) -> None:
    """Raise NotLeaderError if a leader of a term later than `term` wrote `found`."""
    if found.term > term:
        raise NotLeaderError(f"a scheduler of term {found.term} leads")
