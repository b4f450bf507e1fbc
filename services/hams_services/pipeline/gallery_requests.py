"""What `hams-ctl gallery` asks of the galleries of a group: list, name, forget. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hams_services.pipeline.gallery import Gallery
from hams_shared.errors import BadInputError, NotFoundError
from hams_shared.wire.messages.gallery import GalleryRequest, GalleryView


@dataclass(frozen=True)
class Shelf:
    """One gallery of a group."""

    node: str
    gallery: Gallery
    aside: bool = False
    """Whether it is of another network than the node's."""
    text: str = ""
    """What is wrong with it."""


def change(group: str, request: GalleryRequest, shelves: Sequence[Shelf], now: float) -> int:
    """Carry out a request to name or forget; return how many identities it concerns. `now` is Unix time.

    Raises:
        NotFoundError: there is no such gallery, identity or name.
        BadInputError: the request does not say which.
    """
    chosen = _of_node(group, request.node, shelves)
    if request.verb == "list":
        return 0
    if request.verb == "name":
        return _name(group, request, chosen)
    return _forget(group, request, chosen, now)


def views(request: GalleryRequest, shelves: Sequence[Shelf]) -> tuple[GalleryView, ...]:
    """Return the galleries for an answer; the identities of each, newest first, as far as the request's limit."""
    return tuple(
        GalleryView(
            node=shelf.node,
            network=shelf.gallery.network,
            count=len(shelf.gallery),
            aside=shelf.aside,
            text=shelf.text,
            identities=tuple(
                sorted(shelf.gallery.known.values(), key=lambda one: (-one.seen, one.identity))[: request.limit]
            ),
        )
        for shelf in shelves
        if request.node in ("", shelf.node)
    )


def _of_node(group: str, node: str, shelves: Sequence[Shelf]) -> list[Shelf]:
    nodes = sorted({shelf.node for shelf in shelves})
    if not nodes:
        raise NotFoundError(f"group {group} has no gallery", "a node has one by `gallery` of the task `embedding`")
    if node and node not in nodes:
        raise NotFoundError(f"group {group} has no gallery of a node {node}", f"it has: {', '.join(nodes)}")
    return [shelf for shelf in shelves if node in ("", shelf.node)]


def _name(group: str, request: GalleryRequest, shelves: Sequence[Shelf]) -> int:
    name, identity = request.name, request.identity
    if name is None or identity is None:
        raise BadInputError("a name is given to one identity", "hams-ctl gallery name GROUP IDENTITY NAME")
    check_name(name)
    for shelf in _only_node(group, shelves):
        if shelf.gallery.rename(identity, name):
            return 1
    raise _unknown(group, identity)


def _forget(group: str, request: GalleryRequest, shelves: Sequence[Shelf], now: float) -> int:
    ways = (request.identity is not None, request.name is not None, request.older_than_s is not None)
    if sum((*ways, request.everything)) != 1:
        raise BadInputError("say which to forget: an identity, a name, an age, or all", "one of them")
    if request.identity is not None:
        shelves = _only_node(group, shelves)
    found: Mapping[int, list[int]] = {i: _chosen(request, shelf, now) for i, shelf in enumerate(shelves)}
    count = sum(len(identities) for identities in found.values())
    if not count and request.identity is not None:
        raise _unknown(group, request.identity)
    if not count and request.name is not None:
        raise NotFoundError(f"group {group} has no identity named {request.name!r}", f"hams-ctl gallery list {group}")
    if not request.count_only:
        for i, identities in found.items():
            shelves[i].gallery.forget(identities)
    return count


def _chosen(request: GalleryRequest, shelf: Shelf, now: float) -> list[int]:
    known = shelf.gallery.known.values()
    if request.identity is not None:
        return [one.identity for one in known if one.identity == request.identity]
    if request.name is not None:
        return [one.identity for one in known if one.name == request.name]
    if request.older_than_s is not None:
        return shelf.gallery.older(now - request.older_than_s)
    return [one.identity for one in known]


def _only_node(group: str, shelves: Sequence[Shelf]) -> Sequence[Shelf]:
    """Return the galleries of one node. Raises BadInputError: there are several, which count on their own."""
    nodes = sorted({shelf.node for shelf in shelves})
    if len(nodes) > 1:
        text = f"group {group} has several galleries, and each has numbers of its own"
        raise BadInputError(text, f"add --node: {', '.join(nodes)}")
    return shelves


def _unknown(group: str, identity: int) -> NotFoundError:
    return NotFoundError(f"group {group} has no identity {identity}", f"hams-ctl gallery list {group}")


def check_name(name: str) -> None:
    """Check a new name; an empty one takes the name away. Raises BadInputError."""
    if name.isdigit():
        raise BadInputError(f"{name} as a name would be taken for a number", "add a letter")
    if len(name) > 64 or name != name.strip() or not all(c.isprintable() for c in name):
        raise BadInputError("a name has 64 printable characters at most, and no blank at its ends", "a shorter one")
