"""What a client may make the gateway hold: requests, bytes, and what compressed bytes become."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hams_shared.errors import BadInputError, OverloadedError, TooLargeError

REQUESTS = 64
"""Most requests with images under way; as many as a pipeline takes of one group."""
BODY_BYTES = 256 << 20
"""Most bytes of the bodies of all requests under way."""
STREAMS = 256
"""Most clients that follow results or events."""
MAX_BODY = 32 << 20
"""Default of the largest body, bytes."""
ENCODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""By Content-Encoding: zlib's window bits."""


@dataclass
class Held:
    """The bytes of one request's body."""

    size: int = 0


class Admission:
    """Counts what is under way. Pure."""

    def __init__(self, requests: int = REQUESTS, body_bytes: int = BODY_BYTES, streams: int = STREAMS) -> None:
        self._most = {"requests": requests, "streams": streams}
        self._now = {"requests": 0, "streams": 0}
        self._most_bytes = body_bytes
        self._bytes = 0

    @contextmanager
    def request(self) -> Iterator[Callable[[int], None]]:
        """Hold a place for a request; gives a function that holds more bytes of its body, which may raise, too.

        Raises:
            OverloadedError: too many requests, or bytes, are under way.
        """
        held = Held()

        def grow(more: int) -> None:
            if self._bytes + more > self._most_bytes and self._bytes > held.size:
                raise OverloadedError(f"bodies of {self._bytes >> 20} MiB are under way already", "try again later")
            held.size += more
            self._bytes += more

        with self._counted("requests"):
            try:
                yield grow
            finally:
                self._bytes -= held.size

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Hold a place for a client that follows. Raises OverloadedError."""
        with self._counted("streams"):
            yield

    @contextmanager
    def _counted(self, what: str) -> Iterator[None]:
        if self._now[what] >= self._most[what]:
            raise OverloadedError(f"{self._now[what]} {what} are under way already", "try again later")
        self._now[what] += 1
        try:
            yield
        finally:
            self._now[what] -= 1


def check_length(text: str | None, limit: int) -> None:
    """Raise TooLargeError when a Content-Length tells that the body is too large."""
    if text is not None and text.isdecimal() and (len(text) > 15 or int(text) > limit):
        raise too_large(limit)


def too_large(limit: int) -> TooLargeError:
    """Return the error of a body that is larger than `limit` bytes."""
    return TooLargeError(f"the body is larger than {limit / 2**20:g} MiB", "send images as JPEG; see --max-body")


class Unpacker:
    """Unpacks a body as its parts come, and stops where it becomes too large: a bomb costs `limit` bytes at most."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._limit = limit
        self._size = 0
        name = encoding.strip().lower()
        if name in ("", "identity"):
            self._inner = None
        elif name in ENCODINGS:
            self._inner = zlib.decompressobj(ENCODINGS[name])
        else:
            raise BadInputError(f"the Content-Encoding {encoding[:32]!r}", f"there are {', '.join(ENCODINGS)}, or none")

    def feed(self, part: bytes) -> bytes:
        """Return what `part` becomes. Raises TooLargeError, BadInputError."""
        if self._inner is not None:
            try:
                part = self._inner.decompress(part, self._limit - self._size + 1)
            except zlib.error:
                raise BadInputError("the body is not what its Content-Encoding tells") from None
        self._size += len(part)
        if self._size > self._limit:
            raise too_large(self._limit)
        return part

    def end(self) -> None:
        """Raise BadInputError when the body ended too early."""
        if self._inner is not None and (not self._inner.eof or self._inner.unused_data):
            raise BadInputError("the compressed body is cut off, or something follows it")
