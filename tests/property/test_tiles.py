"""Tiles cover what they should, and what is found in them comes out once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hams_services.pipeline.regions import View, merged, overlaps, views
from hams_shared.group.regions import TilesSpec

sides = st.integers(1, 4000)
counts = st.integers(1, 6)
part = st.floats(0, 0.6)


@given(st.tuples(sides, sides), st.tuples(counts, counts), part, st.booleans(), st.data())
def test_tiles_cover_the_roi_and_share_the_overlap(
    frame: tuple[int, int], grid: tuple[int, int], overlap: float, whole: bool, data: st.DataObject
) -> None:
    x0, y0 = data.draw(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)))
    roi = (x0, y0, data.draw(st.floats(x0 + 0.05, 1)), data.draw(st.floats(y0 + 0.05, 1)))
    [outer] = views(None, roi, frame)
    assert 0 <= outer.x0 < outer.x1 <= frame[0]
    assert 0 <= outer.y0 < outer.y1 <= frame[1]
    assert outer.x0 <= roi[0] * frame[0] + 1e-3
    assert outer.x1 >= roi[2] * frame[0] - 1e-3
    tiles = [*views(TilesSpec(grid=grid, overlap=overlap), roi, frame)]
    assert len(tiles) == len(set(tiles)) <= grid[0] * grid[1]
    assert len({one.size for one in tiles}) == 1
    for low, high in (("x0", "x1"), ("y0", "y1")):
        spans = sorted({(getattr(one, low), getattr(one, high)) for one in tiles})
        assert spans[0][0] == getattr(outer, low)
        assert spans[-1][1] == getattr(outer, high)
        for (start, stop), (following, _) in pairwise(spans):
            assert stop - following >= overlap * (stop - start) - 2
            assert stop - following >= 0
    again = views(TilesSpec(grid=grid, overlap=overlap, whole=whole), roi, frame)
    assert set(again) == {*tiles, *([outer] if whole else [])}


@st.composite
def scenes(draw: st.DrawFn) -> tuple[tuple[View, ...], list[list[int]]]:
    """Tiles of a frame of 600×400, and objects apart from each other, each wholly in a tile."""
    grid = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    parts = views(TilesSpec(grid=grid, overlap=draw(part), whole=draw(st.booleans())), None, (600, 400))
    objects: list[list[int]] = []
    for _ in range(draw(st.integers(0, 6))):
        view = draw(st.sampled_from(parts))
        width, height = draw(st.integers(4, min(80, view.size[0]))), draw(st.integers(4, min(80, view.size[1])))
        x0, y0 = draw(st.integers(view.x0, view.x1 - width)), draw(st.integers(view.y0, view.y1 - height))
        box = [x0, y0, x0 + width, y0 + height]
        if not objects or overlaps(np.array([box], float), np.array(objects, float)).max() == 0:
            objects.append(box)
    return parts, objects


def found_in(view: View, objects: list[list[int]], partial: bool) -> list[dict[str, Any]]:
    """What a perfect detector finds in a view; with `partial` also the parts of objects that reach into it."""
    found = []
    for number, box in enumerate(objects):
        shown = np.clip(box, [view.x0, view.y0] * 2, [view.x1, view.y1] * 2).tolist()
        if shown == box or (partial and shown[0] < shown[2] and shown[1] < shown[3]):
            score = 0.9 if shown == box else 0.95
            found.append({"box": shown, "score": score, "label": "cat" if number % 2 else "dog"})
    return found


@given(scenes(), st.booleans(), st.randoms())
def test_each_object_comes_out_once_whatever_the_order(
    scene: tuple[tuple[View, ...], list[list[int]]], partial: bool, random: Any
) -> None:
    parts, objects = scene
    found = [found_in(view, objects, partial) for view in parts]
    together = merged(parts, found)
    assert sorted([round(v) for v in one["box"]] for one in together) == sorted(objects)
    order = [*range(len(parts))]
    random.shuffle(order)
    for one in found:
        random.shuffle(one)
    if len(parts) > 1:
        assert merged([parts[at] for at in order], [found[at] for at in order]) == together


boxes = st.tuples(*[st.floats(0, 400)] * 4).map(
    lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])]
)
anything = st.lists(
    st.fixed_dictionaries({"box": boxes, "score": st.sampled_from([0.3, 0.5, 0.9]), "label": st.sampled_from("ab")}),
    max_size=6,
)


@given(anything)
def test_one_view_changes_nothing(objects: list[dict[str, Any]]) -> None:
    assert merged(views(None, None, (400, 400)), [objects]) == objects


@settings(max_examples=40)
@given(st.lists(anything, min_size=4, max_size=4), st.permutations(range(4)))
def test_whatever_is_found_the_order_does_not_matter_and_nothing_is_invented(
    found: list[list[dict[str, Any]]], order: list[int]
) -> None:
    parts = views(TilesSpec(grid=(2, 2), overlap=0.3), None, (400, 400))
    together = merged(parts, found)
    assert merged([parts[at] for at in order], [found[at] for at in order]) == together
    assert len(together) <= sum(map(len, found))
    labels = {one["label"] for objects in found for one in objects}
    assert {one["label"] for one in together} == labels
