"""Motion JPEG over HTTP (``multipart/x-mixed-replace``), as cameras, ESP32 boards and our own sink send it."""

from __future__ import annotations

import base64
import http.client
import ssl
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from hams_services.pipeline.sources.base import OPEN_S, READ_S
from hams_services.pipeline.sources.image import decode_image
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels
from hams_shared.source_kind import shown

MAX_PART = 1 << 26
"""Largest picture, bytes."""
MAX_LINE = 4096
MAX_BAD = 10
"""So many pictures in a row that cannot be decoded are a broken source; a single one is passed over."""


class Mjpeg:
    """A connection that pictures come in by."""

    live = True
    fps: float | None = None

    def __init__(self, url: str) -> None:
        self._name = shown(url)
        self._connection, answer = self._ask(url)
        kind = answer.headers.get_content_type()
        boundary = answer.headers.get_param("boundary")
        if not kind.startswith("multipart/") or not isinstance(boundary, str):
            self._connection.close()
            raise SourceError(f"{self._name}: sends {kind}, not MJPEG (multipart/x-mixed-replace)")
        self._parts = Parts(answer, boundary)

    def _ask(self, url: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        parts = urlsplit(url)
        secure = parts.scheme.lower() == "https"
        host, path = parts.hostname or "", (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Accept": "multipart/x-mixed-replace", "User-Agent": "hams"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        connection = (
            http.client.HTTPSConnection(host, parts.port, timeout=OPEN_S, context=ssl.create_default_context())
            if secure
            else http.client.HTTPConnection(host, parts.port, timeout=OPEN_S)
        )
        try:
            connection.request("GET", path, headers=headers)
            if connection.sock is not None:
                connection.sock.settimeout(READ_S)
            answer = connection.getresponse()
        except TimeoutError:
            connection.close()
            raise SourceError(f"{self._name}: no answer from {host} within {OPEN_S:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise SourceError(f"{self._name}: cannot reach {host}: {reason}") from None
        if answer.status != 200:
            connection.close()
            where = f" to {shown(answer.headers['Location'])}" if "Location" in answer.headers else ""
            hint = "only Basic authentication is known" if answer.status == 401 and parts.username is not None else ""
            raise SourceError(f"{self._name}: {answer.status} {answer.reason}{where}", hint)
        return connection, answer

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`."""
        for bad in range(MAX_BAD):
            try:
                data = self._parts.read()
            except TimeoutError:
                raise SourceError(f"{self._name}: silent for {READ_S:g} s") from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise SourceError(f"{self._name}: {error}") from None
            if data is None:
                raise SourceError(f"{self._name}: the server ended the stream")
            try:
                return decode_image(data, self._name)
            except SourceError:
                if bad == MAX_BAD - 1:
                    raise
        raise AssertionError("not reached")

    def rewind(self) -> None:
        """A live source has no beginning."""
        raise SourceError(f"{self._name}: a live source cannot start over")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class Parts:
    """The parts of a multipart body, with or without Content-Length; what is before the first boundary is passed over.

    Raises ValueError for what is no multipart body.
    """

    def __init__(self, body: BinaryIO | http.client.HTTPResponse, boundary: str) -> None:
        self._body = body
        self._mark = b"--" + boundary.strip('"').removeprefix("--").encode("latin-1")
        self._started = False
        """Whether the boundary before the next part was read already."""

    def read(self) -> bytes | None:
        """Return the next part's content; None at the end."""
        while not self._started:
            line = self._line()
            if line is None:
                return None
            self._started = line.strip().startswith(self._mark)
        length: int | None = None
        while (line := self._line()) is not None and line.strip():
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        if line is None:
            return None
        return self._counted(length) if length is not None else self._delimited()

    def _line(self) -> bytes | None:
        line = self._body.readline(MAX_LINE)
        if len(line) >= MAX_LINE:
            raise ValueError("a line of the multipart body is longer than 4 KiB")
        return line or None

    def _counted(self, length: int) -> bytes | None:
        if not 0 <= length <= MAX_PART:
            raise ValueError(f"a picture of {length} bytes is more than {MAX_PART >> 20} MiB")
        data = self._body.read(length)
        self._started = False
        return data if len(data) == length else None

    def _delimited(self) -> bytes | None:
        """Read up to the next boundary, which stands at the start of a line."""
        data = bytearray()
        while line := self._body.readline(1 << 16):
            if line.startswith(self._mark):
                self._started = True
                return bytes(data.removesuffix(b"\n").removesuffix(b"\r"))
            data += line
            if len(data) > MAX_PART:
                raise ValueError(f"a picture is larger than {MAX_PART >> 20} MiB")
        return None
