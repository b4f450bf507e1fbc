"""Forgets identities that are too old in galleries that no deployed group uses: nobody else does.

These are of groups that are not deployed, and of nodes that a deployed group no longer has, or no longer with a
gallery. All galleries of its other nodes are the :mod:`gallery_keeper`'s, those of other networks too.
"""

from __future__ import annotations

import asyncio
import logging
import time

from hams_services.pipeline.gallery import galleries_of
from hams_services.pipeline.gallery_pages import node_of
from hams_services.pipeline.gallery_store import GalleryStore
from hams_shared.bus.protocol import Bus, Entry
from hams_shared.errors import HamsError, MessageError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.group import GroupRecord

log = logging.getLogger("hams.pipeline")

FIRST_S, EVERY_S = 60.0, 3600.0
"""When it looks: after the pipeline began, and from then on, s."""


async def keep_clean(bus: Bus) -> None:
    """Look every EVERY_S until cancelled; an error is logged, and the next look tries again."""
    pause = FIRST_S
    while True:
        await asyncio.sleep(pause)
        pause = EVERY_S
        try:
            if count := await sweep(bus, time.time()):
                log.info("%d identities that no deployed group uses were too old, and are forgotten", count)
        except HamsError as error:
            log.warning("galleries that no deployed group uses are not looked at: %s", error)


async def sweep(bus: Bus, now: float) -> int:
    """Forget what is older than the `keep_days` with which a gallery was stored; return how many identities.

    `now` is Unix time. A damaged gallery is left to its group. Raises BrokerError and DeadlineError.
    """
    deployed = await (await bus.kv(subjects.bucket("groups"))).entries()
    count = 0
    for head in await (await GalleryStore.open(bus, "*")).heads():
        group = head.partition(".")[0]
        if _in_use(deployed.get(group), node_of(head)):
            continue
        store = await GalleryStore.open(bus, group)
        try:
            gallery = await store.load(head)
        except MessageError as error:
            log.warning("gallery %s is damaged: %s", head, error)
            continue
        if gallery is not None and (gone := gallery.expire(now)):
            await store.save(head, gallery, now)
            count += gone
    return count


def _in_use(entry: Entry | None, node: str) -> bool:
    """Whether the keeper of the deployed group, by its record, looks after the galleries of the node."""
    if entry is None or entry.value is None:
        return False
    try:
        return node in galleries_of(codec.decode(GroupRecord, entry.value).spec)
    except MessageError:
        return True  # of a later version, perhaps: what it uses is not known
