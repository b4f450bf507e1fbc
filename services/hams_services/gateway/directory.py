"""The deployed groups, as the pipeline knows them: asked for at most once a second, however many clients ask."""

from __future__ import annotations

import asyncio
import re

from hams_client import GroupSummary, Hams
from hams_shared.errors import BrokerError, HamsError, NotFoundError

FRESH_S = 1.0
"""How long an answer of the pipeline, or that it gives none, holds, s."""
ASK_S = 3.0
"""Deadline of the request, s."""
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_name(name: str, what: str = "group") -> str:
    """Return `name` when it can be one. Others are part of a NATS subject that means something else.

    Raises:
        NotFoundError: there can be none of that name.
    """
    if not _NAME.fullmatch(name):
        raise NotFoundError(f"there is no {what} {name[:64]!r}", "names have letters, digits, - and _")
    return name


class Directory:
    """Answers from the newest view of the groups."""

    def __init__(self, hams: Hams) -> None:
        self._hams = hams
        self._lock = asyncio.Lock()
        self._at = float("-inf")
        self._known: tuple[GroupSummary, ...] | HamsError = ()

    async def all(self) -> tuple[GroupSummary, ...]:
        """Return all groups.

        Raises:
            BrokerError, DeadlineError: no pipeline runs, or answers. It is no NotFoundError.
        """
        clock = asyncio.get_running_loop().time
        async with self._lock:
            if clock() - self._at > FRESH_S:
                self._known = await self._ask()
                self._at = clock()
        if isinstance(self._known, HamsError):
            raise type(self._known)(self._known.text, self._known.hint)
        return self._known

    async def _ask(self) -> tuple[GroupSummary, ...] | HamsError:
        try:
            return await self._hams.groups(deadline=ASK_S)
        except NotFoundError as error:
            return BrokerError(error.text, error.hint)
        except HamsError as error:
            return error

    async def get(self, name: str) -> GroupSummary:
        """Return one group. Raises NotFoundError: it is not deployed; or as :meth:`all`."""
        check_name(name)
        groups = await self.all()
        for one in groups:
            if one.name == name:
                return one
        raise NotFoundError(f"group {name} is not deployed", "see /v1/groups")

    async def stream(self, group: str, stream: str) -> None:
        """Check that `group` has a stream of this name; ``*``: any. Raises NotFoundError; or as :meth:`all`."""
        found = await self.get(group)
        if stream != "*" and stream not in found.streams:
            has = ", ".join(found.streams) or "none"
            raise NotFoundError(f"group {group} has no stream {stream[:64]!r}", f"it has {has}")
