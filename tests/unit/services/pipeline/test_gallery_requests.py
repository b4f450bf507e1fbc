"""Listing, naming and forgetting, as `hams-ctl gallery` asks for it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from hams_services.pipeline.gallery import Gallery
from hams_services.pipeline.gallery_requests import Shelf, change, views
from hams_shared.errors import BadInputError, HamsError, NotFoundError
from hams_shared.group.node_spec import GallerySpec
from hams_shared.wire.messages.gallery import GalleryRequest

NOW = 100.0


def shelves(*nodes: str) -> list[Shelf]:
    """Galleries of four identities, 0 to 3, seen at 10, 20, 30 and 40 s; 1 and 2 are called Anna."""
    found = []
    for node in nodes:
        gallery = Gallery(GallerySpec(keep_days=None))
        for i in range(4):
            gallery.identify(np.eye(4)[i : i + 1], 10.0 * (i + 1))
        gallery.rename(1, "Anna")
        gallery.rename(2, "Anna")
        found.append(Shelf(node, gallery))
    return found


def ids(shelf: Shelf) -> list[int]:
    return sorted(one.identity for one in shelf.gallery.known.values())


def ask(found: list[Shelf], **request: Any) -> int:
    return change("g", GalleryRequest(**request), found, NOW)


@pytest.mark.parametrize(
    ("request_", "count", "left"),
    [
        ({"identity": 3}, 1, [0, 1, 2]),
        ({"name": "Anna"}, 2, [0, 3]),
        ({"older_than_s": 80}, 2, [2, 3]),
        ({"older_than_s": 200}, 0, [0, 1, 2, 3]),
        ({"everything": True}, 4, []),
        ({"everything": True, "count_only": True}, 4, [0, 1, 2, 3]),
        ({"name": "Anna", "count_only": True}, 2, [0, 1, 2, 3]),
    ],
)
def test_forget(request_: dict[str, Any], count: int, left: list[int]) -> None:
    found = shelves("who")
    assert ask(found, verb="forget", **request_) == count
    assert ids(found[0]) == left


@pytest.mark.parametrize(
    ("nodes", "request_", "error", "text"),
    [
        ("", {"verb": "list"}, NotFoundError, "group g has no gallery"),
        ("who", {"verb": "list", "node": "age"}, NotFoundError, "no gallery of a node age.*it has: who"),
        ("who", {"verb": "forget"}, BadInputError, "say which"),
        ("who", {"verb": "forget", "identity": 1, "everything": True}, BadInputError, "say which"),
        ("who", {"verb": "forget", "identity": 9}, NotFoundError, "no identity 9"),
        ("who", {"verb": "forget", "name": "Berta"}, NotFoundError, "'Berta'"),
        ("who face", {"verb": "forget", "identity": 1}, BadInputError, "--node: face, who"),
        ("who face", {"verb": "name", "identity": 1, "name": "A"}, BadInputError, "--node: face, who"),
        ("who", {"verb": "name", "identity": 9, "name": "A"}, NotFoundError, "no identity 9"),
        ("who", {"verb": "name", "identity": 1}, BadInputError, "a name is given"),
        ("who", {"verb": "name", "identity": 1, "name": "17"}, BadInputError, "taken for a number"),
        ("who", {"verb": "name", "identity": 1, "name": "a\nb"}, BadInputError, "printable"),
        ("who", {"verb": "name", "identity": 1, "name": " a"}, BadInputError, "blank"),
    ],
)
def test_what_cannot_be_done_is_named(nodes: str, request_: dict[str, Any], error: type[HamsError], text: str) -> None:
    found = shelves(*nodes.split())
    with pytest.raises(error) as caught:
        ask(found, **request_)
    assert re.search(text, str(caught.value))
    assert all(ids(shelf) == [0, 1, 2, 3] for shelf in found)


def test_a_name_and_an_age_are_of_all_galleries_and_node_chooses_one() -> None:
    found = shelves("who", "face")
    assert ask(found, verb="forget", name="Anna") == 4
    assert ask(found, verb="forget", everything=True, node="face") == 2
    assert [ids(shelf) for shelf in found] == [[0, 3], []]
    assert ask(found, verb="name", identity=0, name="Ötzi", node="who") == 1
    assert found[0].gallery.name_of(0) == "Ötzi"


def test_a_list_begins_with_the_newest_and_has_a_limit() -> None:
    found = shelves("who")
    (view,) = views(GalleryRequest(verb="list", limit=3), found)
    assert [(one.identity, one.name) for one in view.identities] == [(3, ""), (2, "Anna"), (1, "Anna")]
    assert (view.node, view.count, view.aside) == ("who", 4, False)
