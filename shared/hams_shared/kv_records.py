"""Records in a key-value bucket, decoded as they come."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import TypeVar

from pydantic import BaseModel

from hams_shared import codec
from hams_shared.bus import KeyValue
from hams_shared.errors import MessageError

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)


async def watched(bucket: KeyValue, kind: type[M]) -> AsyncGenerator[tuple[str, M | None], None]:
    """Yield (key, record) for every entry and change of `bucket`, None for one deleted; a bad one is only logged."""
    async for entry in bucket.watch():
        if entry is None:
            continue
        try:
            record = codec.decode(kind, entry.value) if entry.value is not None else None
        except MessageError as error:
            log.error("record %s ignored: %s", entry.key, error)
            continue
        yield entry.key, record
