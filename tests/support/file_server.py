"""An HTTP server on the loopback that gives files as real ones do, and misbehaves where it is told to."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """How one request is answered; the default is as it should be."""

    cut: int | None = None
    """Send so many bytes of the body, then hang up."""
    silent: float = 0
    """After these bytes say nothing for so long, s, instead of hanging up at once."""
    ranges: bool = True
    """Whether ``Range`` is understood."""
    if_range: bool = True
    """Whether ``If-Range`` is looked at."""
    shift: int = 0
    """Send another part than asked for."""
    length: bool = True
    """Whether the length is told."""
    status: int = 0
    etag: str = '"v1"'
    pause: float = 0
    """Between two pieces of 64 KiB, s."""


@dataclass
class Files:
    """What there is, how the next requests are answered, and what was asked for."""

    content: dict[str, bytes]
    answers: list[Answer] = field(default_factory=list)
    """For the next requests, in order; afterwards all is well."""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Path, Range and If-Range of each request."""
    url: str = ""

    @property
    def ranges(self) -> list[str | None]:
        return [each[1] for each in self.asked]


class _Handler(BaseHTTPRequestHandler):
    files: Files

    def do_GET(self) -> None:
        files = self.files
        how = files.answers.pop(0) if files.answers else Answer()
        asked = self.headers.get("Range")
        files.asked.append((self.path, asked, self.headers.get("If-Range")))
        data = files.content.get(self.path)
        if data is None or how.status:
            self.send_error(how.status or 404)
            return
        total, begin = len(data), 0
        match = re.match(r"bytes=(\d+)-$", asked or "") if how.ranges else None
        if match and how.if_range and self.headers.get("If-Range", how.etag) != how.etag:
            match = None
        if match and int(match.group(1)) >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.end_headers()
            return
        if match:
            begin = int(match.group(1)) + how.shift
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if how.etag:
            self.send_header("ETag", how.etag)
        body = data[begin:]
        if how.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._send(body if how.cut is None else body[: how.cut], how)

    def _send(self, body: bytes, how: Answer) -> None:
        for start in range(0, len(body), 1 << 16):
            self.wfile.write(body[start : start + (1 << 16)])
            if how.pause:
                time.sleep(how.pause)
        self.wfile.flush()
        time.sleep(how.silent)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what is tested."""


@contextmanager
def serving(content: dict[str, bytes]) -> Iterator[Files]:
    """Serve `content` by path while the block runs."""
    files = Files(content)
    handler: Any = type("Handler", (_Handler,), {"files": files})
    with _Server(("127.0.0.1", 0), handler) as server:
        files.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield files
        finally:
            server.shutdown()
            thread.join()
