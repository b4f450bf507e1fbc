"""Follows the credentials file of a connection: one that changes is used from then on, without a restart."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Protocol

from hams_shared.errors import HamsError
from hams_shared.runtime.credentials import Credentials, load

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the file is looked at, s: one `stat`."""


class Renewable(Protocol):
    """A connection that can go on with other credentials."""

    async def renew(self, identity: Credentials) -> None:
        """Go on as `identity`. Raises HamsError: the broker does not accept it, and nothing has changed."""
        ...


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino


async def follow_file(connection: Renewable, identity: Credentials) -> None:
    """Hand each new content of the identity's file to `connection`, until cancelled.

    A file that is gone, half written or damaged changes nothing. One that the broker does not accept yet is tried again
    at each look.
    """
    path, seen, reported = identity.path, None, ""
    assert path is not None
    while True:
        stamp = _stamp(path)
        if stamp != seen and any(stamp):
            try:
                fresh = load(path, warn=False)
                if fresh.user != identity.user:
                    raise HamsError(
                        f"{path} is of {fresh.user} now, and this part is {identity.user}", "restart the part"
                    )
                if fresh != identity:
                    await connection.renew(fresh)
                    identity = fresh
                    log.info("the new credentials of %s are used from now on", fresh.user)
                seen, reported = stamp, ""
            except HamsError as error:
                if str(error) != reported:
                    log.warning("%s; the old credentials are used", error)
                reported = str(error)
        await asyncio.sleep(LOOK_S)
