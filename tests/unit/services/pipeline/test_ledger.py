"""The ledger: each frame ends once, and all are accounted for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.ledger import Ledger, LedgerError

ENDS = ("deliver", "gate", "drop", "fail")


def end(ledger: Ledger, frame: int, how: str) -> None:
    getattr(ledger, how)(frame, *(["why"] if how in ("drop", "fail") else []))


@given(st.lists(st.tuples(st.sampled_from(("submit", *ENDS)), st.integers(0, 20)), max_size=60))
def test_frames_are_conserved_whatever_happens(steps: list[tuple[str, int]]) -> None:
    ledger, ended = Ledger(), {}
    for how, frame in steps:
        if how == "submit":
            assert ledger.submit() == ledger.submitted - 1
        elif frame in ledger.open:
            end(ledger, frame, how)
            ended[frame] = how
        else:
            with pytest.raises(LedgerError):
                end(ledger, frame, how)
        ledger.validate()
    counted = (ledger.delivered, ledger.gated, ledger.dropped.total(), ledger.failed.total())
    assert counted == tuple(sum(how == one for how in ended.values()) for one in ENDS)
    assert ledger.open == set(range(ledger.submitted)) - ended.keys()


@pytest.mark.parametrize("end", ["delivered", "gated"])
def test_a_frame_too_many_is_found(end: str) -> None:
    ledger = Ledger()
    ledger.gate(ledger.submit())
    setattr(ledger, end, getattr(ledger, end) + 1)
    with pytest.raises(LedgerError):
        ledger.validate()


def test_an_earlier_life_is_taken_over() -> None:
    ledger = Ledger()
    ledger.resume(10, 2, {"deadline": 1}, {"bad-model": 1})
    assert (ledger.submitted, ledger.delivered, ledger.submit()) == (10, 6, 10)
    ledger.validate()
    odd = Ledger()
    odd.resume(1, 5, {}, {})  # of frames that come again
    assert (odd.submitted, odd.delivered) == (1, 1)
    odd.validate()


def test_a_result_that_nobody_got_was_not_delivered() -> None:
    ledger = Ledger()
    ledger.deliver(ledger.submit())
    ledger.withdraw("not-stored")
    assert (ledger.delivered, ledger.dropped) == (0, {"not-stored": 1})
    ledger.validate()
    with pytest.raises(LedgerError):
        ledger.withdraw("not-stored")
