"""Galleries: what the broker keeps of them, and the requests of `hams-ctl gallery`.

A gallery lies in the KV bucket ``hams-galleries`` as ``<group>.<node>.<network>.head`` and, beside it, pages
``<group>.<node>.<network>.<n>``; <network> are the first 16 hexadecimal digits of the network's digest.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.base import Wire, WireError

GALLERY_VERSION = 1
"""Of the stored form."""


class GalleryHead(Wire):
    """The part of a stored gallery that is written first; a page that is missing then is an empty one."""

    version: int = GALLERY_VERSION
    network: str = Field(description="digest of the network that made the vectors")
    dims: int = Field(ge=0, le=65_536, description="numbers in a vector; 0: no vector yet")
    next: int = Field(ge=0, description="the number of the next new identity: none is given twice")
    pages: int = Field(ge=0, le=200_000)
    count: int = Field(ge=0, description="identities")
    saved: float = Field(description="Unix time, s")
    keep_days: float | None = Field(
        -1.0,
        ge=-1,
        description="as the group file had it when it was stored; -1: unknown, of an earlier version of HAMS",
    )
    writer: str = Field("", max_length=64, description="the process that wrote it")


class Identity(Wire):
    """One identity without its vector."""

    identity: int = Field(ge=0)
    name: str = Field("", max_length=64)
    since: float = Field(allow_inf_nan=False, description="first seen, Unix time, s")
    seen: float = Field(allow_inf_nan=False, description="last seen, Unix time, s")


class GalleryPage(Wire):
    """Some identities of a stored gallery."""

    slots: tuple[int, ...] = Field(description="where in the gallery each identity lies")
    identities: tuple[Identity, ...]
    vectors: bytes = Field(description="identities × dims float16, little endian, each of length 1")


class GalleryRequest(Wire):
    """Request on ``hams.v1.pipeline.gallery.<group>``."""

    verb: Literal["list", "name", "forget"]
    node: str = Field("", description="only the gallery of this node; empty: all of the group")
    identity: int | None = Field(None, ge=0)
    name: str | None = Field(None, max_length=64, description="name: the new one, empty: none; forget: all called so")
    older_than_s: float | None = Field(None, ge=0, description="forget: those not seen for so long")
    everything: bool = Field(False, description="forget: all")
    count_only: bool = Field(False, description="forget: only say how many it would be")
    limit: int = Field(1000, ge=0, le=5000, description="list: most identities of each gallery, newest first")


class GalleryView(Wire):
    """The gallery of one node."""

    node: str
    network: str
    count: int = Field(description="identities")
    aside: bool = Field(False, description="of another network: stored, but not compared")
    text: str = Field("", description="what is wrong with it")
    identities: tuple[Identity, ...] = Field((), description="the newest ones, last seen first")


class GalleryAnswer(Wire):
    """The answer to a :class:`GalleryRequest`."""

    galleries: tuple[GalleryView, ...] = ()
    changed: int = Field(0, description="identities that were named or forgotten")
    error: WireError | None = None
