"""Motion JPEG over HTTP: open it in a browser. Each viewer gets the newest picture once it has taken the last one."""

from __future__ import annotations

import html
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

import cv2

from hams_client import Result
from hams_services.sinks.painter import Painter
from hams_shared.errors import BadInputError
from hams_shared.runtime.listen import host_port
from hams_shared.wire.frames import Pixels

IDLE_S = 5.0
"""Without a new picture, a viewer gets the last one again after this long, s."""
SILENT_S = 20.0
"""A connection that sends no request, or takes no picture, for so long is closed, s: each holds a thread."""
MOST_VIEWERS = 64
"""Of all streams together; further ones are refused."""


class _Server(ThreadingHTTPServer):
    """An HTTP server on an IPv4 or IPv6 address."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, address = found[0][0], found[0][4]
        super().__init__((str(address[0]), port), handler)

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class MjpegServer:
    """``/`` lists the streams seen so far, ``/STREAM`` shows one; leading folders, as of a proxy, are ignored.

    `painter` draws the results.

    Raises:
        BadInputError: the address is in use.
    """

    def __init__(self, host: str, port: int, group: str, painter: Painter | None = None) -> None:
        self._painter = painter or Painter()
        self._pictures: dict[str, tuple[int, bytes]] = {}
        """By stream: the frame's number, and its part of the answer, with a head of its own."""
        self._new = threading.Condition()
        self._closed = False
        self._places = threading.BoundedSemaphore(MOST_VIEWERS)
        sink = self

        class Handler(BaseHTTPRequestHandler):
            timeout = SILENT_S

            def do_GET(self) -> None:
                name = unquote(urlsplit(self.path).path.rpartition("/")[2])
                if name:
                    sink._send_stream(self, name)
                else:
                    sink._send_list(self, group)

            def log_message(self, *args: object) -> None: ...

        try:
            self._server = _Server(host, port, Handler)
        except OSError as error:
            raise BadInputError(f"cannot listen on {host_port(host, port)}: {error.strerror or error}") from None
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="mjpeg", daemon=True)
        self._thread.start()

    def write(self, result: Result, image: Pixels) -> None:
        """Show one frame."""
        jpeg = cv2.imencode(".jpg", self._painter.paint(result, image))[1].tobytes()
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\nX-Timestamp: {result.captured:.6f}\r\n"
        if result.media_time_s is not None:
            head += f"X-Media-Time: {result.media_time_s:.6f}\r\n"
        part = f"--frame\r\n{head}\r\n".encode() + jpeg + b"\r\n"
        with self._new:
            self._pictures[result.stream] = (result.frame, part)
            self._new.notify_all()

    def close(self) -> None:
        """Disconnect all viewers and stop."""
        with self._new:
            self._closed = True
            self._new.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _send_list(self, to: BaseHTTPRequestHandler, group: str) -> None:
        with self._new:
            streams = sorted(self._pictures)
        figures = "".join(
            f'<figure><img src="./{quote(s)}"><figcaption>{html.escape(s)}</figcaption></figure>' for s in streams
        )
        page = (
            f"<!doctype html><title>{html.escape(group)}</title><style>body{{font-family:sans-serif;background:#111;"
            "color:#ddd;margin:1rem;display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}"
            "img{max-width:100%;max-height:88vh}</style>"
            f"{figures or 'no frame yet: reload in a moment'}"
        ).encode()
        to.send_response(200)
        to.send_header("Content-Type", "text/html; charset=utf-8")
        to.send_header("Content-Length", str(len(page)))
        to.end_headers()
        to.wfile.write(page)

    def _send_stream(self, to: BaseHTTPRequestHandler, name: str) -> None:
        with self._new:
            known = name in self._pictures
        if not known:
            to.send_error(404, "no such stream has sent a frame")
        elif not self._places.acquire(blocking=False):
            to.send_error(503, f"there are {MOST_VIEWERS} viewers already")
        else:
            try:
                self._show(to, name)
            finally:
                self._places.release()

    def _show(self, to: BaseHTTPRequestHandler, name: str) -> None:
        to.send_response(200)
        to.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        to.end_headers()
        seen = -1
        while True:
            with self._new:
                if self._pictures[name][0] == seen and not self._closed:
                    self._new.wait(IDLE_S)
                if self._closed:
                    return
                seen, part = self._pictures[name]
            try:
                to.wfile.write(part)
            except OSError:
                return
