"""Time in which a device does nothing, added in one step, makes of all means what it makes one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.served_rates import Delta, ServedRates
from support.build import plan

ONE, TWO = "h.ov.cpu0", "h.ort.cpu1"
PLANS = {"face": plan(1, {"det": ONE, "age": TWO}), "car": plan(2, {"det": TWO, "age": ONE})}
NODES = [("face", "det"), ("car", "age")]
"""Those on ONE."""
REST = Delta(0, 0, 0, 0.0, 0, 0.0)
heard = st.tuples(st.floats(0.1, 8.0), st.integers(0, 20), st.booleans())
"""Seconds since the heartbeat before; frames; whether somebody reads the means then."""


def values(rates: ServedRates) -> list[tuple[float, float]]:
    found = []
    for group in PLANS:
        for served in rates.of(group).values():
            found += [(one.above, one.below) for one in (served.busy, served.load, served.rate)]
    return found


@given(st.lists(heard, max_size=12))
def test_rest_is_what_observing_nothing_is(course: list[tuple[float, int, bool]]) -> None:
    lazy, plain = ServedRates(), ServedRates()
    for seconds, frames, read in course:
        delta = Delta(frames, frames, frames, 0.01 * frames, 0, 0.0)
        plain.observe(ONE, dict.fromkeys(NODES, delta), PLANS, seconds)
        if frames:
            lazy.observe(ONE, dict.fromkeys(NODES, delta), PLANS, seconds)
        else:
            lazy.rest(ONE, NODES, PLANS, seconds)
        if read:
            assert values(lazy) == [pytest.approx(one) for one in values(plain)]
    assert values(lazy) == [pytest.approx(one) for one in values(plain)]


def test_other_plans_begin_anew() -> None:
    rates = ServedRates()
    rates.observe(ONE, dict.fromkeys(NODES, Delta(5, 5, 5, 0.5, 0, 0.0)), PLANS, 1.0)
    rates.rest(ONE, NODES, PLANS, 1.0)
    rates.forget("face")
    assert rates.on("face", ONE) is None
    other = {"car": PLANS["car"]}
    rates.rest(ONE, NODES, other, 1.0)
    served = rates.on("car", ONE)
    assert served is not None
    assert served.load.value(0.0, 0.0) == pytest.approx(0.5 * 0.8 * 0.8 / (0.64 + 0.8 + 1.0))
    assert rates.on("face", ONE) is None
