"""Galleries on the broker: read, and written page by page.

They lie in a KV bucket and not in the object store: a page replaces its predecessor in one step, so that a save that is
interrupted leaves a whole gallery; the old bytes are overwritten at once; and a save writes only the pages that
changed. An object would be rewritten whole, and its old chunks stay on the broker's disk.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import aclosing

from hams_services.pipeline.gallery import Gallery
from hams_services.pipeline.gallery_pages import (
    HEAD,
    head_of,
    key,
    page_key,
    page_of,
    pages_of,
    part,
    read_head,
    restored,
)
from hams_shared.bus.protocol import Bus, Entry, KeyValue
from hams_shared.errors import DeadlineError, MessageError, RefusedError
from hams_shared.group.node_spec import GallerySpec
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.gallery import GalleryHead

log = logging.getLogger("hams.pipeline")

READ_S = 10.0
"""Deadline for reading a gallery, or the list of them, s."""
EVERYTHING = GallerySpec(capacity=100_000, keep_days=None)
"""For galleries whose group file is not at hand: nothing of them is left out."""


class GalleryStore:
    """The stored galleries of one group. A writer of another process is noticed by the revision of the head."""

    def __init__(self, bucket: KeyValue, group: str) -> None:
        self._bucket = bucket
        self.group = group
        self._writer = uuid.uuid4().hex[:12]
        self._revisions: dict[str, int] = {}
        """By head: the newest one that was read or written here."""
        self._pages: dict[str, int] = {}
        """By head: how many pages are stored."""
        self.next: dict[str, int] = {}
        """By head: its next number, also where its pages are damaged."""

    @classmethod
    async def open(cls, bus: Bus, group: str) -> GalleryStore:
        """Open the bucket, creating it when absent. Raises BrokerError and DeadlineError."""
        return cls(await bus.kv(subjects.bucket(subjects.GALLERIES), erase=True), group)

    def holds(self, head_key: str) -> bool:
        """Whether this head was read or written here, and is not deleted."""
        return head_key in self._revisions

    async def heads(self) -> list[str]:
        """Return the keys of all heads of the group. Raises BrokerError and DeadlineError."""
        return sorted(await self._read(key(self.group, "*", "*")))

    async def load(self, head_key: str, spec: GallerySpec | None = None) -> Gallery | None:
        """Return a stored gallery, None where there is none. Without a `spec` it has the one it was stored with.

        Raises:
            MessageError: it is damaged, or of another version.
            BrokerError, DeadlineError: the broker did not give it.
        """
        found = {part(one): entry for one, entry in (await self._read(pages_of(head_key))).items()}
        entry = found.pop(HEAD, None)
        pages = {int(number): one.value or b"" for number, one in found.items() if number.isdigit()}
        self._pages[head_key] = max(pages, default=-1) + 1
        if entry is None:
            self._revisions.pop(head_key, None)
            return None
        self._revisions[head_key] = entry.revision
        head = read_head(entry.value or b"")
        self.next[head_key] = head.next
        if spec is None:
            stored = None if head.keep_days is None or head.keep_days < 0 else head.keep_days
            spec = EVERYTHING.model_copy(update={"keep_days": stored})
        return restored(spec, head, {number: data for number, data in pages.items() if number < head.pages})

    async def save(self, head_key: str, gallery: Gallery, now: float) -> Gallery:
        """Write what changed; return the gallery, or the stored one where another process has written meanwhile.

        Raises BrokerError and DeadlineError; what was not written is written by the next call.
        """
        if not gallery.dirty and await self._is_newest(head_key):
            return gallery
        head = head_of(gallery, now, self._writer)
        try:
            await self._write_head(head_key, head, gallery)
        except RefusedError:
            log.warning("gallery %s was changed by another process: what it wrote counts", head_key)
            stored = await self.load(head_key, gallery.spec)
            return stored if stored is not None else Gallery(gallery.spec, gallery.network, gallery.next)
        for number in sorted(gallery.dirty):
            if gallery.dims != head.dims:
                return gallery  # all was forgotten meanwhile, and there is another network: the next save
            if number < head.pages:
                await self._write_page(head_key, gallery, number)
        for number in range(head.pages, self._pages.get(head_key, 0)):
            await self._bucket.delete(page_key(head_key, number))
        self._pages[head_key] = head.pages
        gallery.dirty -= set(range(gallery.pages, max(gallery.dirty, default=0) + 1))  # of longer vectors than now
        return gallery

    async def _is_newest(self, head_key: str) -> bool:
        """Whether the stored head is the one that is known here, or there is none; else it was lost or changed."""
        known = self._revisions.get(head_key)
        if known is None:
            return True
        newest = await self._bucket.get(head_key)
        return newest is not None and newest.revision == known

    async def _write_page(self, head_key: str, gallery: Gallery, number: int) -> None:
        gallery.dirty.discard(number)  # what changes while it is written makes it dirty again
        try:
            await self._bucket.put(page_key(head_key, number), page_of(gallery, number))
        except BaseException:
            gallery.dirty.add(number)
            raise

    async def _write_head(self, head_key: str, head: GalleryHead, gallery: Gallery) -> None:
        """Write a head where the newest one is known. Raises RefusedError: another process wrote or deleted it."""
        data, known = codec.encode(head), self._revisions.get(head_key)
        try:
            if known is None:
                self._revisions[head_key] = await self._bucket.create(head_key, data)
            else:
                self._revisions[head_key] = await self._bucket.update(head_key, data, known)
        except RefusedError:
            newest = await self._bucket.get(head_key)
            if newest is not None and self._is_ours(newest):  # a write without an answer was stored
                self._revisions[head_key] = await self._bucket.update(head_key, data, newest.revision)
            elif newest is None and known is not None:
                # Taken only where no head was ever deleted: the broker has lost its store.
                self._revisions[head_key] = await self._bucket.update(head_key, data, 0)
                gallery.dirty |= set(range(gallery.pages))
            else:
                raise

    def _is_ours(self, entry: Entry) -> bool:
        try:
            return read_head(entry.value or b"").writer == self._writer
        except MessageError:
            return False

    async def delete(self, head_key: str) -> None:
        """Delete a gallery, damaged or not, with all its pages. Raises BrokerError and DeadlineError."""
        await self._bucket.delete(head_key)
        for one in await self._read(pages_of(head_key)):
            await self._bucket.delete(one)
        self._revisions.pop(head_key, None)
        self._pages.pop(head_key, None)

    async def _read(self, pattern: str) -> dict[str, Entry]:
        """Return what is stored under keys of this pattern."""
        found: dict[str, Entry] = {}
        try:
            async with asyncio.timeout(READ_S), aclosing(self._bucket.watch(pattern)) as entries:
                async for entry in entries:
                    if entry is None:
                        break
                    if entry.value is not None:
                        found[entry.key] = entry
        except TimeoutError:
            raise DeadlineError(f"the broker did not give {pattern} within {READ_S:g} s", "is it busy?") from None
        return found
