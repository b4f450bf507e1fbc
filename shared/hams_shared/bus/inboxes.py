"""Answers go to inboxes, and nowhere else.

A client names the subject of the answer, and the broker does not check that name against the client's own rights:
a service that may answer (`allow_responses`) would write for the asker where the asker may not, for example over a plan
in a KV bucket (``$KV.…``). So a request that wants its answer elsewhere than on an inbox gets none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

_INBOX = re.compile(r"_INBOX(_[^.*>\s]+)?(\.[^.*>\s]+)+")
"""NATS's own, ``_INBOX.…``, or that of one user, ``_INBOX_<user>.…`` (:mod:`hams_shared.runtime.credentials`)."""


def answer_subject(reply: str, subject: str) -> str:
    """`reply` when it is an inbox, else nothing; `subject` is what was asked."""
    if not reply or _INBOX.fullmatch(reply):
        return reply
    log.warning("a message on %s wants its answer on %s, which is no inbox: it gets none", subject, reply)
    return ""


class InboxesOnly:
    """nats-py's client as :mod:`nats.micro` uses it, without the requests that want no inbox answered."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def subscribe(self, subject: str, queue: str = "", cb: Callable[[Any], Awaitable[None]] | None = None) -> Any:
        """As nats-py's."""
        assert cb is not None

        async def asked(message: Any) -> None:
            if answer_subject(message.reply, message.subject) == message.reply:
                await cb(message)

        return await self._client.subscribe(subject, queue=queue, cb=asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
