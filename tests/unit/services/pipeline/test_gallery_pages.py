"""What is stored of a gallery gives the same gallery; what is damaged is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.gallery import MAX_BYTES, Gallery, rows_of
from hams_services.pipeline.gallery_pages import head_of, key, node_of, page_key, page_of, pages_of, read_head, restored
from hams_shared.errors import MessageError
from hams_shared.group.node_spec import GallerySpec
from hams_shared.wire import codec
from hams_shared.wire.messages.gallery import GalleryHead, GalleryPage, Identity

DIMS = 256
SPEC = GallerySpec(threshold=0.9, capacity=1000)


def persons(count: int, dims: int = DIMS, seed: int = 0) -> np.ndarray:
    """Unlike vectors of length 1."""
    found = np.random.default_rng(seed).normal(size=(count, dims))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def stored(gallery: Gallery) -> tuple[GalleryHead, dict[int, bytes]]:
    return head_of(gallery, 5.0, "me"), {number: page_of(gallery, number) for number in range(gallery.pages)}


def test_keys_are_of_one_group_node_and_network() -> None:
    head = key("g", "who", "ab" * 32)
    assert head == "g.who.abababababababab.head"
    assert (page_key(head, 3), pages_of(head), node_of(head)) == (
        "g.who.abababababababab.3",
        "g.who.abababababababab.*",
        "who",
    )


@given(st.integers(0, 150), st.sets(st.integers(0, 149)), st.integers(1, 200))
def test_a_stored_gallery_is_the_same_one(count: int, forgotten: set[int], capacity: int) -> None:
    gallery = Gallery(SPEC, "ab" * 32)
    vectors = persons(count)
    if count:
        gallery.identify(vectors, 7.0)
    for identity in range(0, count, 9):
        gallery.rename(identity, f"n{identity}")
    gallery.forget(forgotten)
    head, pages = stored(gallery)
    again = restored(SPEC.model_copy(update={"capacity": capacity}), read_head(codec.encode(head)), pages)
    assert again.next == gallery.next == count
    if len(gallery) <= capacity:
        assert again.known == gallery.known
        assert not again.dirty
        if count:
            assert np.abs(again.vectors - gallery.vectors[: len(again.vectors)]).max() < 1e-3
    else:
        assert len(again) == capacity
        assert again.dirty == set(range(again.pages))  # the others are to go from the broker, too
        names = [one.name for one in gallery.known.values() if one.name]
        assert len([1 for one in again.known.values() if one.name]) == min(capacity, len(names))
    for identity in sorted(one.identity for one in again.known.values())[:5]:
        assert again.identify(vectors[identity : identity + 1], learn=False)[0][0] == identity


def test_only_pages_that_changed_are_to_be_stored() -> None:
    gallery = Gallery(SPEC)
    rows = rows_of(DIMS)
    assert rows == 64
    vectors = persons(3 * rows)
    gallery.identify(vectors)
    assert gallery.dirty == {0, 1, 2}
    gallery.dirty.clear()
    gallery.identify(vectors[rows : rows + 2])
    assert gallery.dirty == {1}
    gallery.dirty.clear()
    gallery.rename(0, "Anna")
    gallery.forget([2 * rows])
    assert gallery.dirty == {0, 2}


def test_the_bytes_of_a_gallery_are_bounded_whatever_its_capacity() -> None:
    gallery = Gallery(GallerySpec(capacity=100_000))
    gallery.identify(persons(1, 4096))
    assert gallery.limit == MAX_BYTES // (2 * 4096) == 8192
    gallery.identify(persons(1, 4096, seed=1))
    assert gallery.limit * 2 * gallery.dims <= MAX_BYTES


def good() -> tuple[GalleryHead, dict[int, bytes]]:
    gallery = Gallery(SPEC)
    gallery.identify(persons(70))
    return stored(gallery)


def twice(head: GalleryHead, pages: dict[int, bytes]) -> None:
    page = codec.decode(GalleryPage, pages[1])
    same = tuple(one.model_copy(update={"identity": 0}) for one in page.identities)
    pages[1] = codec.encode(page.model_copy(update={"identities": same}))


def moved(head: GalleryHead, pages: dict[int, bytes]) -> None:
    pages[1] = pages[0]


def infinite(head: GalleryHead, pages: dict[int, bytes]) -> None:
    page = codec.decode(GalleryPage, pages[0])
    pages[0] = codec.encode(page.model_copy(update={"vectors": b"\xff" * len(page.vectors)}))


def short(head: GalleryHead, pages: dict[int, bytes]) -> None:
    page = codec.decode(GalleryPage, pages[0])
    pages[0] = codec.encode(page.model_copy(update={"vectors": page.vectors[:-1]}))


def garbage(head: GalleryHead, pages: dict[int, bytes]) -> None:
    pages[0] = b"\xc1garbage"


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (twice, "occurs twice"),
        (moved, "page 1: it has slots of another page"),
        (infinite, "page 0: its vectors are not finite"),
        (short, "page 0: 32767 bytes of vectors, not 32768"),
        (garbage, "page 0: not msgpack"),
    ],
)
def test_a_damaged_page_is_named(damage: Callable[[GalleryHead, dict[int, bytes]], None], text: str) -> None:
    head, pages = good()
    restored(SPEC, head, pages)
    damage(head, pages)
    with pytest.raises(MessageError, match=text):
        restored(SPEC, head, pages)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, "version 2"),
        ({"pages": 150_000, "dims": 60_000}, "150000 pages"),
        ({"pages": -1}, "pages"),
        ({"pages": 1564, "dims": 256}, "1564 pages"),
        ({"pages": 1}, "1 pages of vectors of 0 numbers"),
    ],
)
def test_a_head_that_cannot_be_is_named(change: dict[str, int], text: str) -> None:
    with pytest.raises(MessageError, match=text):
        read_head(codec.encode(head_of(Gallery(SPEC), 0.0).model_copy(update=change)))


def test_identities_have_finite_times() -> None:
    with pytest.raises(ValueError, match="finite"):
        Identity(identity=0, since=float("nan"), seen=0.0)
