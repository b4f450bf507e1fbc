"""Galleries as they are stored: a head and pages of identities. Pure.

A page is rewritten when one of its identities changed, so that a save costs what is in view and not the whole gallery.
The head is written first; numbers that it has counted are never given again, even if a page did not follow it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hams_services.pipeline.gallery import BYTES, MAX_BYTES, Gallery, rows_of
from hams_shared.errors import MessageError
from hams_shared.group.node_spec import GallerySpec
from hams_shared.wire import codec
from hams_shared.wire.messages.gallery import GALLERY_VERSION, GalleryHead, GalleryPage, Identity

CAPACITY = 100_000
"""Most identities of any gallery (`GallerySpec.capacity`)."""
NETWORK = 16
"""Hexadecimal digits of a network's digest in a key."""


HEAD = "head"
"""The part of a key that names a head; that of a page is its number."""


def key(group: str, node: str, network: str) -> str:
    """Return the key of a gallery's head."""
    return f"{group}.{node}.{network[:NETWORK] or 'none'}.{HEAD}"


def page_key(head_key: str, number: int) -> str:
    """Return the key of a page."""
    return f"{head_key.removesuffix(HEAD)}{number}"


def pages_of(head_key: str) -> str:
    """Return the pattern of the keys of a gallery: its head and its pages."""
    return f"{head_key.removesuffix(HEAD)}*"


def part(key_: str) -> str:
    """Return what of a gallery lies under a key: HEAD, or the number of a page."""
    return key_.rsplit(".", 1)[-1]


def node_of(key_: str) -> str:
    """Return the node of a key."""
    return key_.split(".")[1]


def head_of(gallery: Gallery, now: float, writer: str = "") -> GalleryHead:
    """Return the head to store."""
    return GalleryHead(
        network=gallery.network,
        dims=gallery.dims,
        next=gallery.next,
        pages=gallery.pages,
        count=len(gallery),
        saved=now,
        keep_days=gallery.spec.keep_days,
        writer=writer,
    )


def page_of(gallery: Gallery, number: int) -> bytes:
    """Return one page to store."""
    first = number * gallery.rows
    slots = [slot for slot in range(first, first + gallery.rows) if slot in gallery.known]
    page = GalleryPage(
        slots=tuple(slots),
        identities=tuple(gallery.known[slot] for slot in slots),
        vectors=gallery.vectors[slots].astype("<f2").tobytes() if slots else b"",
    )
    return codec.encode(page)


def read_head(data: bytes) -> GalleryHead:
    """Decode a head. Raises MessageError: it is damaged, or of another version."""
    head = codec.decode(GalleryHead, data)
    if head.version != GALLERY_VERSION:
        raise MessageError(f"it has version {head.version}, and this HAMS knows version {GALLERY_VERSION}")
    slots = min(CAPACITY, MAX_BYTES // (BYTES * max(head.dims, 1)))
    if head.pages > (-(-slots // rows_of(head.dims)) if head.dims else 0):
        raise MessageError(f"its head claims {head.pages} pages of vectors of {head.dims} numbers")
    return head


def restored(spec: GallerySpec, head: GalleryHead, pages: Mapping[int, bytes]) -> Gallery:
    """Return a stored gallery. Raises MessageError: it is damaged."""
    gallery = Gallery(spec, head.network, head.next)
    known: list[Identity] = []
    slots: list[int] = []
    vectors = [np.zeros((0, head.dims), np.float32)]
    for number, data in sorted(pages.items()):
        try:
            page, found = _read_page(head, number, data)
        except MessageError as error:
            raise MessageError(f"page {number}: {error.text}") from None
        known += page.identities
        slots += page.slots
        vectors.append(found)
    if len(set(slots)) < len(slots) or len({one.identity for one in known}) < len(known):
        raise MessageError("an identity or a slot occurs twice")
    gallery.fill(known, np.concatenate(vectors), slots)
    return gallery


def _read_page(head: GalleryHead, number: int, data: bytes) -> tuple[GalleryPage, NDArray[np.float32]]:
    page = codec.decode(GalleryPage, data)
    count, rows = len(page.slots), rows_of(head.dims)
    size = count * head.dims * BYTES
    if len(page.identities) != count or len(page.vectors) != size:
        raise MessageError(f"{len(page.vectors)} bytes of vectors, not {size}")
    if any(slot // rows != number for slot in page.slots):
        raise MessageError("it has slots of another page")
    vectors = np.frombuffer(page.vectors, "<f2").astype(np.float32).reshape(count, head.dims)
    if not np.isfinite(vectors).all():
        raise MessageError("its vectors are not finite")
    return page, vectors
