"""Numbers that nobody could count on from are refused: who takes the next one could not send it."""

from __future__ import annotations

import json

import pytest

from hams_shared.errors import MessageError
from hams_shared.wire import codec
from hams_shared.wire.messages.agents import MOST_EPOCH, AssignmentState, Heartbeat
from hams_shared.wire.messages.scheduler import LeaderRecord

BEAT = {"device": "h.b.u", "incarnation": "i", "sequence": 1}


@pytest.mark.parametrize("number", [codec.MOST + 1, (1 << 64) - 1, -codec.MOST - 1])
def test_a_number_that_is_too_large_is_refused(number: int) -> None:
    with pytest.raises(MessageError, match="larger than 2"):
        codec.decode(Heartbeat, codec.pack(BEAT | {"sequence": number}))
    with pytest.raises(MessageError, match="larger than 2"):
        codec.decode(Heartbeat, codec.pack(BEAT | {"unknown": [{"deep": number}]}))


def test_a_number_of_many_digits_is_refused() -> None:
    with pytest.raises(MessageError, match="larger than 2"):
        codec.decode(Heartbeat, json.dumps(BEAT | {"epoch": 10**30}).encode())


def test_what_is_counted_on_from_the_largest_can_be_sent() -> None:
    assert codec.decode(Heartbeat, codec.pack(BEAT | {"sequence": codec.MOST})).sequence == codec.MOST
    with pytest.raises(MessageError, match="epoch"):
        codec.decode(Heartbeat, codec.pack(BEAT | {"epoch": MOST_EPOCH + 1}))
    with pytest.raises(MessageError, match="epoch"):
        codec.decode(AssignmentState, codec.pack({"group": "g", "epoch": MOST_EPOCH + 1, "state": "ready"}))
    beat = codec.decode(Heartbeat, codec.pack(BEAT | {"epoch": MOST_EPOCH}))
    following = codec.encode(beat.model_copy(update={"sequence": beat.epoch + 1}))
    assert codec.decode(Heartbeat, following).sequence == MOST_EPOCH + 1


def test_the_term_after_the_largest_can_be_packed() -> None:
    assert codec.pack(codec.MOST + 1)
    with pytest.raises(MessageError):
        codec.decode(LeaderRecord, codec.pack({"term": codec.MOST + 1}))
