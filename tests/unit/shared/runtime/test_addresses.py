"""Connections to hosts that others name: refused by address, at each redirect, and not by a second answer."""

from __future__ import annotations

import socket
import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from hams_shared.errors import BadInputError, ModelFetchError, SourceError
from hams_shared.runtime.addresses import check_literal, opener, reachable, resolved
from hams_shared.runtime.reach import VARIABLE


class Handler(BaseHTTPRequestHandler):
    hits: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Handler.hits.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv(VARIABLE, "127.0.0.1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    Handler.hits.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def answers(monkeypatch: pytest.MonkeyPatch, *each: list[str]) -> list[str]:
    """Have the name server give these addresses one call after the other, the last ones for ever; return the names."""
    left, asked = list(each), []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        now = [host] if host[0].isdigit() or ":" in host else left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in now]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def get(url: str) -> bytes:
    import urllib.request

    with opener("download", ModelFetchError, urllib.request.HTTPRedirectHandler()).open(url, timeout=10) as found:
        return bytes(found.read())


def test_an_allowed_address_is_opened(port: int) -> None:
    assert get(f"http://127.0.0.1:{port}/x") == b"ok"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "127.1", "2130706433"])
def test_a_refused_address_is_not_connected_to(port: int, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ModelFetchError, match=r"refused \(if it is meant: HAMS_ALLOW_PRIVATE_URLS="):
        get(f"http://{host}:{port}/x")
    assert Handler.hits == []


@pytest.mark.parametrize("to", ["169.254.169.254", "10.0.0.1", "[::ffff:169.254.169.254]", "2852039166"])
def test_each_redirect_is_checked(port: int, to: str) -> None:
    with pytest.raises(ModelFetchError, match="refused"):
        get(f"http://127.0.0.1:{port}/to/http://{to}/latest/meta-data")
    assert len(Handler.hits) == 1


def test_a_redirect_within_what_is_allowed_is_followed(port: int) -> None:
    assert get(f"http://127.0.0.1:{port}/to/http://127.0.0.1:{port}/x") == b"ok"


def test_other_schemes_are_not_opened(port: int) -> None:
    for url in ("file:///etc/passwd", f"ftp://127.0.0.1:{port}/x"):
        with pytest.raises(urllib.error.URLError, match="unknown url type"):
            get(url)
    with pytest.raises(urllib.error.HTTPError, match="not allowed"):
        get(f"http://127.0.0.1:{port}/to/file:///etc/passwd")


def test_a_name_that_leads_to_this_host_is_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    answers(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    with pytest.raises(ModelFetchError, match=r"evil\.example leads to 127\.0\.0\.1, .* this host itself: refused"):
        get(f"http://evil.example:{port}/x")
    assert Handler.hits == []


def test_the_name_server_is_asked_once(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])  # rebinding: the second answer would be another
    assert get(f"http://good.example:{port}/x") == b"ok"
    assert [one for one in asked if not one[0].isdigit()] == ["good.example"]


def test_a_proxy_gets_no_address_that_is_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.delenv(VARIABLE)
    assert get("http://models.example/x") == b"ok"  # the proxy itself may be anywhere
    with pytest.raises(ModelFetchError, match="refused"):
        get("http://169.254.169.254/x")
    assert Handler.hits == ["http://models.example/x"]


def test_of_several_addresses_the_one_that_answers(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["127.0.0.9", "127.0.0.1"])
    assert reachable("camera.example", port, "camera", SourceError, 1.0) == "127.0.0.1"


def test_a_literal_is_checked_without_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    asked = answers(monkeypatch, ["127.0.0.1"])
    check_literal("models.example", "download", ModelFetchError)
    for host in ("127.0.0.1", "localhost", "a.localhost.", "[::1]"):
        with pytest.raises(ModelFetchError, match="refused"):
            check_literal(host, "download", ModelFetchError)
    assert asked == []


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "10.0.0.0/99")
    with pytest.raises(BadInputError, match="HAMS_ALLOW_PRIVATE_URLS: '10.0.0.0/99' is no network"):
        resolved("127.0.0.1", 1, "download", ModelFetchError)
