"""MOTA of tracks against a reference, at an overlap (IoU) of 0.5, beside their IDF1.

Bernardin and Stiefelhagen, *Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics*, 2008; a pair stays
a pair while it overlaps, others are matched for the most pairs, then the largest overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hams_services.pipeline.tracking.boxes import Array
from hams_services.pipeline.tracking.identity import OVERLAP, Frame, idf1, overlap_of


@dataclass(frozen=True)
class Score:
    """Of one sequence."""

    idf1: float
    mota: float
    misses: int
    false: int
    switches: int
    tracks: int


def evaluate(reference: Sequence[Frame], tracks: Sequence[Frame]) -> Score:
    """Compare `tracks` with `reference`, frame by frame."""
    partner: dict[int, int] = {}
    there = found = misses = false = switches = 0
    for one, other in zip(reference, tracks, strict=True):
        (ids, _), (names, _), alike = one, other, overlap_of(one, other)
        pairs = _pairs(ids, names, alike, partner)
        switches += sum(partner.get(one, name) != name for one, name in pairs.items())
        partner.update(pairs)
        there, found = there + len(ids), found + len(names)
        misses, false = misses + len(ids) - len(pairs), false + len(names) - len(pairs)
    number = len({name for names, _ in tracks for name in names})
    return Score(
        idf1(reference, tracks), 1 - (misses + false + switches) / max(there, 1), misses, false, switches, number
    )


def _pairs(ids: Sequence[int], names: Sequence[int], alike: Array, partner: dict[int, int]) -> dict[int, int]:
    """Return which of `ids` are which of `names` in one frame; `partner` holds the pairs of earlier frames."""
    places = {name: j for j, name in enumerate(names)}
    pairs: dict[int, int] = {}
    for i, one in enumerate(ids):
        name = partner.get(one)
        if name in places and name not in pairs.values() and alike[i, places[name]] >= OVERLAP:
            pairs[one] = name
    rows = [i for i, one in enumerate(ids) if one not in pairs]
    columns = [j for j, name in enumerate(names) if name not in pairs.values()]
    rest = alike[np.ix_(rows, columns)]
    for a, b in zip(*linear_sum_assignment(np.where(rest >= OVERLAP, rest + 1e6, 0), maximize=True), strict=True):
        if rest[a, b] >= OVERLAP:
            pairs[ids[rows[a]]] = names[columns[b]]
    return pairs
