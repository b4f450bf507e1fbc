"""Motion JPEG over HTTP, as many cameras send it: ``multipart/x-mixed-replace``, one JPEG a part."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from email.message import Message
from typing import IO

from hams_services.pipeline.sources.base import Source, decode_image
from hams_shared.errors import SourceError
from hams_shared.group.camera_url import CameraUrl, parsed
from hams_shared.wire.frames import Pixels

SILENCE_S = 5.0
"""Without a byte for this long the stream is lost, s."""
MAX_JPEG = 64 * 1024 * 1024
MAX_BAD = 10
"""After this many parts in a row that are not images the stream is lost; fewer are skipped."""
MAX_HEADERS = 64
LINE = 4096


class Mjpeg(Source):
    """An HTTP stream. User and password in the address are sent by basic or digest authentication."""

    endless = True
    fps: float | None = None

    def __init__(self, address: str) -> None:
        url = parsed(address)
        self._name = url.redacted
        try:
            answer = _opener(url).open(url.bare, timeout=SILENCE_S)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = _reason(error)
            raise SourceError(
                f"{self._name} cannot be opened: {reason}", "is the camera on, and the address right?"
            ) from None
        self._answer: IO[bytes] = answer
        self._boundary = _boundary(answer.headers)
        if self._boundary is None:
            kind = answer.headers.get_content_type()
            answer.close()
            raise SourceError(f"{self._name} sends {kind}, not multipart/x-mixed-replace")

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`."""
        for bad in range(MAX_BAD):
            try:
                return decode_image(self._part(), f"a part of {self._name}")
            except SourceError:
                if bad == MAX_BAD - 1:
                    raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise SourceError(f"{self._name} is lost: {error}") from None
        raise AssertionError("not reached")

    def rewind(self) -> None:
        """It has no beginning."""

    def close(self) -> None:
        """Disconnect."""
        self._answer.close()

    def _part(self) -> bytes:
        """Read one part: its headers, then the bytes of Content-Length, or up to the next boundary."""
        assert self._boundary is not None
        for _ in range(MAX_HEADERS):
            line = self._line()
            if line.startswith(self._boundary):
                break
        length = 0
        for _ in range(MAX_HEADERS):
            line = self._line().strip()
            if not line:
                break
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
        if length > MAX_JPEG:
            raise ValueError(f"a part of {length} bytes")
        if length:
            data = self._answer.read(length)
            if len(data) < length:
                raise ValueError("it ended")
            return data
        return self._until_boundary()

    def _until_boundary(self) -> bytes:
        data = bytearray()
        while len(data) <= MAX_JPEG:
            line = self._line()
            if line.startswith(self._boundary or b"--"):
                self._pending = line
                return bytes(data)
            data += line
        raise ValueError("a part without end")

    _pending = b""

    def _line(self) -> bytes:
        line, self._pending = self._pending, b""
        line = line or self._answer.readline(LINE)
        if not line:
            raise ValueError("it ended")
        return line


def _boundary(headers: Message) -> bytes | None:
    if headers.get_content_maintype() != "multipart":
        return None
    name = headers.get_boundary()
    return b"--" + name.removeprefix("--").encode() if name else None


def _opener(url: CameraUrl) -> urllib.request.OpenerDirector:
    if url.user is None:
        return urllib.request.build_opener()
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url.bare, url.user, url.password or "")
    basic = urllib.request.HTTPBasicAuthHandler(passwords)
    return urllib.request.build_opener(basic, urllib.request.HTTPDigestAuthHandler(passwords))


def _reason(error: Exception) -> str:
    """Return the error of the server or of the connection: `404 Not Found`, `Connection refused`."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return inner.strerror or str(inner) if isinstance(inner, OSError) else str(inner)
