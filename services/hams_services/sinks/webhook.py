"""Events sent to a web address, each at least once: what fails for now is tried again until it succeeds."""

from __future__ import annotations

import asyncio
import http.client
import logging
import random
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from hams_client import Event
from hams_shared.errors import BadInputError, SourceError
from hams_shared.runtime import files
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire import codec

log = logging.getLogger("hams.sinks")

ANSWER_S = 10.0
"""Deadline of one request, s."""
AGAIN = Backoff(first=0.5, longest=60.0, jitter=0.25)
"""Pauses between two tries."""
FOR_NOW = (408, 425, 429)
"""Statuses below 500 that another try may change."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are refusals: a redirected POST becomes a GET, and loses the event."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """Posts events as JSON to `url`, one after another. Raises BadInputError for what is no address of the web."""

    def __init__(self, url: str, again: Backoff = AGAIN) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInputError(f"{url!r} is not a web address", "for example https://example.org/hook")
        self._url = url
        self._again = again
        self._where = f"{parts.scheme}://{parts.hostname}"  # the rest may hold a secret
        self._opener = urllib.request.build_opener(_NoRedirect)
        self.sent = 0
        self.refused = 0
        """Events that the receiver refused for good; they are lost to it."""

    async def send(self, event: Event) -> None:
        """Post one event; return once the receiver has taken it (2xx), or refused it for good."""
        body = codec.pack_json(event.model_dump())
        failures = 0
        while True:
            try:
                await asyncio.to_thread(self._post, body)
            except (OSError, http.client.HTTPException) as error:
                status = error.code if isinstance(error, urllib.error.HTTPError) else None
                if status is not None and status < 500 and status not in FOR_NOW:
                    self.refused += 1
                    log.error("%s refuses event %s: %s", self._where, event.id, error)
                    return
                failures += 1
                pause = self._again.pause(failures, random.random())
                if failures & (failures - 1) == 0:
                    log.warning("%s takes no event: %s; trying again in %.1f s", self._where, error, pause)
                await asyncio.sleep(pause)
                continue
            self.sent += 1
            return

    def _post(self, body: bytes) -> None:
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json", "User-Agent": "hams"})
        with self._opener.open(request, timeout=ANSWER_S) as answer:
            answer.read(1)


class LastSequence:
    """The sequence of the last event that was dealt with, in a file; None: it is not kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> int | None:
        """Return it, or None where there is no file yet. Raises SourceError."""
        if self._path is None or not self._path.exists():
            return None
        try:
            return int(self._path.read_text())
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot read {self._path}: {error}", "delete it to begin with new events") from None

    def write(self, sequence: int) -> None:
        """Keep it. Raises SourceError."""
        if self._path is not None:
            try:
                files.write(self._path, b"%d\n" % sequence)
            except OSError as error:
                raise SourceError(f"cannot write {self._path}: {error.strerror}") from None
