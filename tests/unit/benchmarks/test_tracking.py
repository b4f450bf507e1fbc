"""The tracking benchmark's own measures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks.tracking.metrics import evaluate
from benchmarks.tracking.sequences import frames

from hams_services.pipeline.tracking.identity import Frame


def frame(*found: tuple[int, float]) -> Frame:
    """Ids and the left edges of boxes of 10×10."""
    return [id for id, _ in found], np.array([[x, 0, x + 10, 10] for _, x in found], np.float64).reshape(-1, 4)


A, B = 0.0, 100.0


@pytest.mark.parametrize(
    ("reference", "tracks", "idf1", "mota", "misses", "false", "switches"),
    [
        ([[(1, A)]] * 4, [[(7, A)]] * 4, 1.0, 1.0, 0, 0, 0),
        ([[(1, A)]] * 4, [[]] * 4, 0.0, 0.0, 4, 0, 0),
        ([[(1, A)]] * 4, [[(7, B)]] * 4, 0.0, -1.0, 4, 4, 0),
        ([[]] * 2, [[]] * 2, 0.0, 1.0, 0, 0, 0),
        # another id in the last of four frames: 3 of 4 are right by identity, one switch
        ([[(1, A)]] * 4, [[(7, A)]] * 3 + [[(8, A)]], 0.75, 0.75, 0, 0, 1),
        # the same after a gap
        ([[(1, A)]] * 4, [[(7, A)], [], [], [(8, A)]], 1 / 3, 0.25, 2, 0, 1),
        # two swap: half of each is right, each is a switch
        ([[(1, A), (2, B)]] * 4, [[(7, A), (8, B)]] * 2 + [[(7, B), (8, A)]] * 2, 0.5, 0.75, 0, 0, 2),
        # a pair stays together, though another box overlaps more
        ([[(1, A)]] * 2, [[(7, A)], [(7, 3.0), (8, A)]], 0.8, 0.5, 0, 1, 0),
        # what was one's partner may be another's now, but not both's
        ([[(1, A)], [(2, A)], [(1, A), (2, 1.0)]], [[(7, A)]] * 3, 4 / 7, 0.75, 1, 0, 0),
    ],
)
def test_by_hand(reference, tracks, idf1, mota, misses, false, switches) -> None:
    score = evaluate([frame(*one) for one in reference], [frame(*one) for one in tracks])
    assert (score.misses, score.false, score.switches) == (misses, false, switches)
    assert (score.idf1, score.mota) == (pytest.approx(idf1), pytest.approx(mota))


def test_rows_of_the_motchallenge() -> None:
    first, second, third = frames(np.array([[1, 5, 10, 20, 30, 40], [3, 6, 1, 2, 3, 4]], np.float64), 3)
    assert (first[0], first[1].tolist()) == ([5], [[10, 20, 40, 60]])
    assert (second[0], second[1].shape) == ([], (0, 4))
    assert third[0] == [6]
