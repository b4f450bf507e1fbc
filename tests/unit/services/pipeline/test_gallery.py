"""Who is who in the pipeline's memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.gallery import Gallery, galleries_of, identify
from hams_shared.group.node_spec import GallerySpec
from hams_shared.group.spec import parse_group


def unit(*degrees: float) -> np.ndarray:
    """Vectors of the plane, so that the cosine of two is that of the angle between them."""
    angles = np.radians(degrees)
    return np.column_stack((np.cos(angles), np.sin(angles)))


def test_the_same_come_back_under_their_number() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9))
    assert gallery.identify(unit(0, 90)) == [(0, 1.0), (1, 1.0)]
    (second, cosine), (first, _) = gallery.identify(unit(85, 5))
    assert (second, first) == (1, 0)
    assert cosine == pytest.approx(np.cos(np.radians(5)))
    assert gallery.identify(unit(45)) == [(2, 1.0)]


def test_nobody_is_in_a_picture_twice() -> None:
    gallery = Gallery(GallerySpec(threshold=0.5))
    gallery.identify(unit(0))
    assert [name for name, _ in gallery.identify(unit(10, 2))] == [1, 0]  # the nearer one is it


def test_what_is_known_follows_slowly() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9, update=0.5))
    gallery.identify(unit(0))
    for angle in (20, 35, 47, 58, 70):
        assert [name for name, _ in gallery.identify(unit(angle))] == [0], angle
    still = Gallery(GallerySpec(threshold=0.9, update=0.0))
    still.identify(unit(0))
    assert [name for a in (20, 35) for name, _ in still.identify(unit(a))] == [0, 1]


def test_looking_up_does_not_remember() -> None:
    gallery = Gallery(GallerySpec(threshold=0.9))
    assert gallery.identify(unit(0), learn=False) == [(None, 0.0)]
    gallery.identify(unit(0))
    ((name, cosine),) = gallery.identify(unit(60), learn=False)
    assert name is None
    assert cosine == pytest.approx(0.5)
    assert len(gallery) == 1


@given(st.lists(st.lists(st.integers(0, 359), min_size=1, max_size=5), max_size=20), st.integers(1, 4))
def test_it_stays_within_its_capacity_and_numbers_are_never_used_again(frames: list[list[int]], capacity: int) -> None:
    gallery = Gallery(GallerySpec(threshold=0.99, capacity=capacity))
    newest = -1
    for frame in frames:
        names = [name for name, _ in gallery.identify(unit(*frame))]
        assert len(set(names)) == len(names)
        for name in names:
            assert name is not None
            assert name <= newest + len(frame)
        newest = max(newest, *(name for name in names if name is not None))
        assert len(gallery) <= capacity


@pytest.mark.parametrize("asked", [{"threshold": 2}, {"threshhold": 0.5}, 5, "yes"])
def test_a_gallery_asked_for_wrongly_does_not_end_the_pipeline(asked: Any) -> None:
    node = {"model": "/m.onnx", "input": {"size": [8, 8]}, "task": {"type": "embedding", "gallery": asked}}
    assert galleries_of(parse_group({"name": "g", "nodes": {"who": node}})) == {}


@pytest.mark.parametrize("vector", [[], None, "x", [[1.0]], ["a"], [math.nan, 1.0]])
def test_what_is_no_vector_is_not_identified(vector: Any) -> None:
    galleries = {"who": Gallery(GallerySpec())}
    objects = [
        {"box": [0, 0, 1, 1], "who": {"embedding": vector}},
        {"box": [0, 0, 1, 1], "who": {"embedding": [1.0, 0.0]}},
    ]
    identify(galleries, objects, learn=True)
    assert "identity" not in objects[0]["who"]
    identify(galleries, [{"who": {"embedding": [1.0]}}, {"who": {"embedding": [1.0, 0.0]}}], learn=True)


def test_a_frames_objects_are_identified_at_any_depth() -> None:
    def node(parent: str | None = None, **task: Any) -> dict[str, Any]:
        return {"model": "/m.onnx", "input": {"size": [8, 8]}, "parent": parent, "task": {"type": "raw", **task}}

    spec = parse_group({"name": "g", "nodes": {"a": node(), "b": node("a"), "who": node("b", gallery={})}})
    galleries = galleries_of(spec)

    def frame() -> list[dict[str, Any]]:
        inner = {"box": [0, 0, 1, 1], "who": {"embedding": [1.0, 0.0]}}
        return [{"box": [0, 0, 1, 1], "b": {"objects": [inner, {"box": [0, 0, 1, 1]}]}}]

    for _ in range(2):
        objects = frame()
        identify(galleries, objects, learn=True)
        assert objects[0]["b"]["objects"][0]["who"]["identity"] == 0
