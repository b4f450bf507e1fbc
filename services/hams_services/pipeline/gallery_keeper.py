"""Keeps the galleries of one group: loads them, saves what changed, and answers `hams-ctl gallery`.

The pipeline is the only writer while it runs: a request to forget is carried out in memory, and stored before it is
answered, so that nothing writes back what was forgotten. Without a pipeline, hams-ctl uses the same :class:`Shelves`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from hams_services.pipeline.gallery import Gallery, galleries_of
from hams_services.pipeline.gallery_pages import key, node_of
from hams_services.pipeline.gallery_requests import Shelf, change, views
from hams_services.pipeline.gallery_store import EVERYTHING, GalleryStore
from hams_services.pipeline.selection_rules import networks_of
from hams_shared.bus.protocol import Bus, Message, Subscription
from hams_shared.errors import HamsError, MessageError, as_hams_error
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.gallery import GalleryAnswer, GalleryRequest
from hams_shared.wire.messages.group import GroupRecord

log = logging.getLogger("hams.pipeline")

SAVE_S = 5.0
"""Time between two saves, s; so much is lost when the pipeline is killed."""
ASIDE_S = 3600.0
"""How often galleries that were set aside are searched for identities that are too old, s."""
STOP_S = 3.0
"""Deadline of the last save, s."""
ASIDE = 1
"""Galleries of other networks that are kept for each node; older ones are deleted."""


@dataclass
class Shelves:
    """The galleries of a group on the broker: those in use, by node, and the others.

    Without a pipeline none is in use: hams-ctl lists and changes them as they are stored.
    """

    store: GalleryStore
    galleries: dict[str, Gallery] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    """By node: why its stored gallery could not be read."""
    set_aside: dict[str, str] = field(default_factory=dict)
    """By node: that there is a gallery of another network."""
    left: dict[str, Gallery] = field(default_factory=dict)
    """By key: galleries that are in use no more, and are written a last time."""

    async def load(self, now: float, into: dict[str, Gallery] | None = None) -> None:
        """Replace the galleries in use, or those of `into`, by what is stored. Raises BrokerError and DeadlineError."""
        galleries = self.galleries if into is None else into
        heads = await self.store.heads()
        for node, gallery in list(galleries.items()):
            own = key(self.store.group, node, gallery.network)
            if gallery.spec.keep_days == 0:
                await self._delete_of(node, heads)
                continue
            self.set_aside.pop(node, None)
            if own in heads:
                galleries[node] = await self._load(node, own, gallery)
            await self._set_aside(galleries[node], node, [one for one in heads if node_of(one) == node and one != own])
            galleries[node].expire(now)

    async def _delete_of(self, node: str, heads: list[str]) -> None:
        for one in [one for one in heads if node_of(one) == node]:
            await self.store.delete(one)

    async def _load(self, node: str, own: str, empty: Gallery) -> Gallery:
        try:
            found = await self.store.load(own, empty.spec)
        except MessageError as error:
            self._complain(self.damaged, node, f"the stored gallery is damaged, and begins empty: {error.text}")
            empty.next = max(empty.next, self.store.next.get(own, 0))
            return empty
        if found is not None and found.network == empty.network:
            log.info("gallery %s of group %s: %d identities", node, self.store.group, len(found))
            return found
        return empty

    async def _set_aside(self, mine: Gallery, node: str, others: list[str]) -> None:
        """Leave galleries of other networks as they are, but for the oldest; numbers go on after theirs."""
        found: list[tuple[str, Gallery]] = []
        for one in others:
            try:
                gallery = await self.store.load(one)
                found += [(one, gallery)] if gallery is not None else []
            except MessageError as error:
                log.warning("gallery %s is damaged, and deleted: %s", one, error.text)
                await self.store.delete(one)
        found.sort(key=lambda pair: max((k.seen for k in pair[1].known.values()), default=0.0), reverse=True)
        mine.next = max([mine.next, *(gallery.next for _, gallery in found)])
        for one, _ in found[ASIDE:]:
            await self.store.delete(one)
        for _, gallery in found[:ASIDE]:
            if len(gallery):
                text = f"{len(gallery)} identities of network {gallery.network[:12]} are set aside"
                self._complain(self.set_aside, node, f"{text}: vectors of another network cannot be compared")

    def text(self, node: str) -> str:
        """Return what is wrong with the gallery of a node."""
        gallery = self.galleries.get(node)
        wrong = ""
        if gallery is not None and gallery.mismatch:
            wrong = f"its vectors have {gallery.dims} numbers, those of the node {gallery.mismatch}: not compared"
        texts = filter(None, [self.damaged.get(node, ""), self.set_aside.get(node, ""), wrong])
        return "; ".join(texts)

    def _complain(self, texts: dict[str, str], node: str, text: str) -> None:
        texts[node] = text
        log.warning("group %s: gallery %s: %s", self.store.group, node, text, extra={"group": self.store.group})

    async def save(self, now: float) -> None:
        """Forget what is too old, and write what changed. Raises BrokerError and DeadlineError."""
        for one, gallery in list(self.left.items()):
            await self.store.save(one, gallery, now)
            self.left.pop(one, None)
        for node, gallery in list(self.galleries.items()):
            gallery.expire(now)
            own = key(self.store.group, node, gallery.network)
            if gallery.spec.keep_days != 0:
                saved = await self.store.save(own, gallery, now)
                if self.galleries.get(node) is gallery:  # else the group was changed meanwhile
                    self.galleries[node] = saved
            elif self.store.holds(own):  # it was stored before the group was changed
                await self._delete_of(node, await self.store.heads())

    async def aside(self) -> dict[str, Gallery]:
        """Return the galleries that are not in use, by key; a damaged one is empty.

        Raises BrokerError and DeadlineError.
        """
        own = {key(self.store.group, node, gallery.network) for node, gallery in self.galleries.items()}
        found: dict[str, Gallery] = {}
        for one in await self.store.heads():
            if one in own:
                continue
            try:
                gallery = await self.store.load(one)
            except MessageError as error:
                gallery = Gallery(EVERYTHING)
                self.damaged[node_of(one)] = f"a stored gallery is damaged: {error.text}"
            if gallery is not None:
                found[one] = gallery
        return found

    async def expire_aside(self, now: float) -> None:
        """Forget what is too old in galleries that are not in use, of nodes that have one.

        Those of other nodes are the :mod:`gallery_janitor`'s. Raises BrokerError and DeadlineError.
        """
        for one, gallery in (await self.aside()).items():
            mine = self.galleries.get(node_of(one))
            if mine is not None:
                gallery.spec = mine.spec
                gallery.expire(now)
                await self.store.save(one, gallery, now)

    async def answer(self, request: GalleryRequest, now: float) -> GalleryAnswer:
        """Carry out a request, and store what it changed.

        Raises:
            NotFoundError, BadInputError: see :func:`hams_services.pipeline.gallery_requests.change`.
            BrokerError, DeadlineError: it is not stored; of the galleries in use, the next save stores it.
        """
        aside = await self.aside()
        shelves = [Shelf(node, gallery, False, self.text(node)) for node, gallery in sorted(self.galleries.items())]
        for one, gallery in sorted(aside.items()):
            used = node_of(one) in self.galleries
            shelves.append(Shelf(node_of(one), gallery, used, "" if used else self.text(node_of(one)) or "not in use"))
        changed = change(self.store.group, request, shelves, now)
        if request.verb != "list" and not request.count_only:
            await self.save(now)
            for one, gallery in aside.items():
                await self.store.save(one, gallery, now)
            if request.everything:
                await self._remove([one for one in aside if request.node in ("", node_of(one))])
        return GalleryAnswer(galleries=views(request, shelves), changed=changed)

    async def _remove(self, keys: list[str]) -> None:
        """Delete galleries that are not in use; of those in use the numbers stay, so that none is given twice."""
        for one in keys:
            await self.store.delete(one)
            self.set_aside.pop(node_of(one), None)
            self.damaged.pop(node_of(one), None)


class GalleryKeeper:
    """The galleries of a deployed group. `galleries` changes in place; a group without any costs nothing."""

    def __init__(self, bus: Bus, record: GroupRecord) -> None:
        self.galleries = _galleries_of(record)
        self._before: dict[str, Gallery] = {}
        """By node: of the network that it had before, for the frames that are still under way with it."""
        self._ready: dict[str, Gallery] = {}
        """By node: loaded for a network that a plan is to bring."""
        self._missing: dict[str, Gallery] = {}
        """By node: in use, and not loaded yet: its plan came unannounced."""
        self._bus, self._group = bus, record.spec.name
        self._shelves: Shelves | None = None
        self._subscription: Subscription | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._failures = 0
        self._trouble: list[str] = []

    def serving(self, record: GroupRecord) -> Mapping[str, Gallery]:
        """Return the galleries for the vectors of a frame that ran under `record`, by node."""
        if not self._before:
            return self.galleries
        found = {}
        for node, ref in record.models.items():
            for gallery in (self.galleries.get(node), self._before.get(node)):
                if gallery is not None and gallery.network == ref.digest:
                    found[node] = gallery
                    break
        return found

    async def prepare(self, record: GroupRecord, owner: asyncio.TaskGroup) -> None:
        """The group is to be changed: load the galleries of the networks that are new in `record`."""
        known = self.galleries
        new = {n: one for n, one in _galleries_of(record).items() if n not in known or known[n].network != one.network}
        self._ready = new
        if not new:
            return
        if known:
            await self._tried(self._save)

        async def load() -> None:
            async with self._lock:
                await (await self._open()).load(time.time(), new)

        await self._tried(load)
        await self._start(owner)

    def take(self, record: GroupRecord) -> None:
        """From now on frames run under `record`; galleries of networks that stay go on, by its rules."""
        wanted, self._before = _galleries_of(record), {}
        for node, gallery in list(self.galleries.items()):
            if node in wanted and wanted[node].network == gallery.network:
                gallery.change(wanted[node].spec)
                continue
            self._before[node] = self.galleries.pop(node)
            if self._shelves is not None and gallery.spec.keep_days != 0:
                self._shelves.left[key(self._group, node, gallery.network)] = gallery
        for node in wanted.keys() - self.galleries.keys():
            ready, gallery = self._ready.pop(node, None), wanted[node]
            if ready is not None and ready.network == gallery.network:
                ready.change(gallery.spec)
                gallery = ready
            else:
                self._missing[node] = gallery
            if (before := self._before.get(node)) is not None:
                gallery.next = max(gallery.next, before.next)
            self.galleries[node] = gallery

    @property
    def text(self) -> str:
        """What is wrong with the galleries, for `status`."""
        shelves = self._shelves
        texts = {node: shelves.text(node) for node in self.galleries} if shelves is not None else {}
        return "; ".join([*(f"gallery {node}: {text}" for node, text in texts.items() if text), *self._trouble])

    async def start(self, owner: asyncio.TaskGroup) -> None:
        """Load the galleries; while the broker does not give them, they begin empty. Then save every SAVE_S."""
        if self.galleries:
            await self._tried(self._open)
            await self._start(owner)

    async def _start(self, owner: asyncio.TaskGroup) -> None:
        if self._task is None:
            self._subscription = await self._bus.subscribe(subjects.gallery(self._group), self._on_request, limit=64)
            self._task = owner.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(SAVE_S):
                    await self._stopping.wait()
            await self._tried(self._save)
            if loop.time() - looked > ASIDE_S:
                looked = loop.time()
                await self._tried(self._expire_aside)

    async def stop(self) -> None:
        """Save a last time, and answer no more. A save under way is not cancelled: the store would not know its end."""
        if self._subscription is None or self._task is None:
            return
        await self._subscription.unsubscribe()
        self._stopping.set()
        _, late = await asyncio.wait([self._task], timeout=STOP_S)
        if late:
            log.warning("galleries of group %s: the newest changes are not stored", self._group)
            self._task.cancel()

    async def _open(self) -> Shelves:
        """Return the shelves; what was seen before they could be opened is given up for what is stored."""
        if self._shelves is None:
            shelves = Shelves(await GalleryStore.open(self._bus, self._group), self.galleries)
            await shelves.load(time.time())
            self._shelves = shelves
        return self._shelves

    async def _save(self) -> None:
        async with self._lock:
            shelves, now = await self._open(), time.time()
            await self._load_missing(shelves, now)
            await shelves.save(now)

    async def _load_missing(self, shelves: Shelves, now: float) -> None:
        """Load what is in use and is not loaded, before anything is written over it."""
        missing = dict(self._missing)
        if not missing:
            return
        found = dict(missing)
        await shelves.load(now, found)
        for node, empty in missing.items():
            if self.galleries.get(node) is empty:
                self.galleries[node] = found[node]
            if self._missing.get(node) is empty:
                del self._missing[node]

    async def _expire_aside(self) -> None:
        async with self._lock:
            await (await self._open()).expire_aside(time.time())

    async def _tried(self, what: Callable[[], Awaitable[object]]) -> None:
        """Run; an error is reported, and a later call tries again."""
        try:
            await what()
        except Exception as error:
            self._failures += 1
            self._trouble = [f"galleries are not stored: {as_hams_error(error).text}"]
            if self._failures & (self._failures - 1) == 0:
                text = "group %s: galleries are not stored: %s (%d so far)"
                log.warning(text, self._group, error, self._failures, exc_info=not isinstance(error, HamsError))
        else:
            self._failures, self._trouble = 0, []

    async def _on_request(self, message: Message) -> None:
        try:
            request = codec.decode(GalleryRequest, message.data)
            async with self._lock:
                shelves, now = await self._open(), time.time()
                await self._load_missing(shelves, now)
                answer = await shelves.answer(request, now)
        except Exception as error:
            if not isinstance(error, HamsError):
                log.exception("%s failed", message.subject)
            answer = GalleryAnswer(error=WireError(**as_hams_error(error).to_wire()))
        await message.respond(codec.encode(answer))


def _galleries_of(record: GroupRecord) -> dict[str, Gallery]:
    return galleries_of(record.spec, networks_of(record))
