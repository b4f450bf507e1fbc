"""IDF1 and MOTA of tracks against a reference, at an overlap (IoU) of 0.5.

MOTA: Bernardin and Stiefelhagen, *Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics*, 2008; a pair
stays a pair while it overlaps, others are matched for the most pairs, then the largest overlap. IDF1: Ristani et al.,
*Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking*, 2016.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hams_services.pipeline.tracking.boxes import Array, iou

OVERLAP = 0.5
Frame = tuple[Sequence[int], Array]
"""Ids and N×4 boxes (x0, y0, x1, y1) of one frame; of a reference, or of tracks."""


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
    together: Counter[tuple[int, int]] = Counter()
    there = found = misses = false = switches = 0
    for (ids, boxes), (names, places) in zip(reference, tracks, strict=True):
        alike = iou(boxes, places) if len(ids) and len(names) else np.zeros((len(ids), len(names)))
        together.update((ids[i], names[j]) for i, j in np.argwhere(alike >= OVERLAP).tolist())
        pairs = _pairs(ids, names, alike, partner)
        switches += sum(partner.get(one, name) != name for one, name in pairs.items())
        partner.update(pairs)
        there, found = there + len(ids), found + len(names)
        misses, false = misses + len(ids) - len(pairs), false + len(names) - len(pairs)
    idf1 = 2 * _identified(together) / max(there + found, 1)
    number = len({name for names, _ in tracks for name in names})
    return Score(idf1, 1 - (misses + false + switches) / max(there, 1), misses, false, switches, number)


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


def _identified(together: Counter[tuple[int, int]]) -> int:
    """Return in how many boxes the tracks are right, when each is one thing of the reference for good."""
    ones, others = sorted({a for a, _ in together}), sorted({b for _, b in together})
    counts = np.zeros((len(ones), len(others)))
    for (a, b), count in together.items():
        counts[ones.index(a), others.index(b)] = count
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())
