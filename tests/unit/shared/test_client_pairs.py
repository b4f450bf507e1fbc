"""Pairing of results with pictures, in whatever order they come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hams_client import Result
from hams_client.pairs import Pairs


def result(stream: str, frame: int) -> Result:
    return Result({"stream": stream, "frame": frame, "objects": []})


@given(st.permutations([(kind, n) for kind in "rp" for n in range(6)]))
def test_every_frame_is_paired_once_in_whatever_order_its_parts_come(order: list[tuple[str, int]]) -> None:
    pairs = Pairs(16)
    found = []
    for kind, n in order:
        pair = pairs.result(result("s", n)) if kind == "r" else pairs.picture("s", n, b"%d" % n)
        if pair is not None:
            found.append((pair[0].frame, pair[1]))
    assert sorted(found) == [(n, b"%d" % n) for n in range(6)]


def test_what_finds_no_partner_is_forgotten() -> None:
    pairs = Pairs(2)
    for n in range(5):
        assert pairs.result(result("s", n)) is None
        assert pairs.picture("t", n, b"") is None
    assert pairs.picture("s", 2, b"") is None
    assert pairs.picture("s", 4, b"x") is not None
