"""A receiver of webhooks on the loopback that answers with the statuses that a test gives it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hooks:
    """What was posted, and how the next requests are answered."""

    statuses: list[int] = field(default_factory=list)
    """For the next requests, in order; 0: hang up. Afterwards 204."""
    posted: list[dict[str, Any]] = field(default_factory=list)
    """Each request's body, refused ones too."""
    bodies: list[bytes] = field(default_factory=list)
    """The same, as they came."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Those of each request; names in lower case."""
    paths: list[str] = field(default_factory=list)
    """Those of each request, with the query."""
    retry_after: str | None = None
    """A header of each answer."""
    url: str = ""


@contextmanager
def hook_server() -> Iterator[Hooks]:
    """Run one; ``url`` is its address."""
    hooks = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hooks.headers.append({name.lower(): value for name, value in self.headers.items()})
            hooks.paths.append(self.path)
            hooks.bodies.append(body)
            hooks.posted.append(json.loads(body))
            status = hooks.statuses.pop(0) if hooks.statuses else 204
            if status:
                self.send_response(status)
                self.send_header("Location", hooks.url)
                if hooks.retry_after is not None:
                    self.send_header("Retry-After", hooks.retry_after)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.close_connection = True

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hooks.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hooks
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
