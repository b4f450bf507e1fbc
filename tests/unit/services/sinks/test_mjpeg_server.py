"""The live page, where it is looked at: by IPv6, and behind a proxy that serves it under a path of its own."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email import message_from_bytes
from urllib.parse import urljoin, urlsplit

import numpy as np
import pytest

from hams_services.sinks.mjpeg_server import MjpegServer
from hams_shared.errors import BadInputError
from hams_shared.runtime.listen import host_port
from support.ports import has_ipv6
from support.results import result
from support.wait import until_sync

HOSTS = ["127.0.0.1", "localhost", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6"))]


@contextmanager
def serving(host: str, *streams: str) -> Iterator[str]:
    with closing(MjpegServer(host, 0, "face")) as server:
        for stream in streams:
            found = result(0, 2.25, captured=1e9 + 0.5, stream=stream)
            server.write(found, np.full((48, 64, 3), 90, np.uint8))
        yield f"http://{host_port(host, server.port)}/"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("folder", ["", "cameras/door/"])
def test_the_page_s_links_lead_to_streams_under_any_path(host: str, folder: str) -> None:
    with serving(host, "lobby", "yard") as address:
        page = urljoin(address, folder)
        with urllib.request.urlopen(page, timeout=30) as answer:
            links = re.findall(r'src="([^"]+)"', answer.read().decode())
        assert [urljoin(page, link) for link in links] == [f"{page}lobby", f"{page}yard"]
        with urllib.request.urlopen(urljoin(page, links[1]), timeout=30) as stream:
            assert stream.headers.get_content_type() == "multipart/x-mixed-replace"
            assert stream.readline() == b"--frame\r\n"
            head = message_from_bytes(b"".join(iter(stream.readline, b"\r\n")))
            assert (head["X-Timestamp"], head["X-Media-Time"]) == ("1000000000.500000", "2.250000")
            assert stream.read(int(head["Content-Length"]))[:2] == b"\xff\xd8"  # JPEG
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{page}nobody", timeout=30)


def test_a_connection_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hams_services.sinks.mjpeg_server.SILENT_S", 0.2)
    with serving("127.0.0.1") as address:
        silent = socket.create_connection(("127.0.0.1", urlsplit(address).port or 0), 10)
        with silent:
            assert silent.recv(1) == b""


def test_a_viewer_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hams_services.sinks.mjpeg_server.SILENT_S", 1.0)
    monkeypatch.setattr("hams_services.sinks.mjpeg_server.MOST_VIEWERS", 1)
    monkeypatch.setattr("hams_services.sinks.mjpeg_server.IDLE_S", 0.0)  # pictures without a pause
    with serving("127.0.0.1", "yard") as address, urllib.request.urlopen(f"{address}yard", timeout=30):
        until_sync(lambda: is_viewable(f"{address}yard"), 30, "room for another viewer")


def is_viewable(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=30).close()
    except OSError:  # refused, or let go before it had asked
        return False
    return True


def test_viewers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hams_services.sinks.mjpeg_server.MOST_VIEWERS", 1)
    with serving("127.0.0.1", "yard") as address, urllib.request.urlopen(f"{address}yard", timeout=30) as first:
        assert first.readline() == b"--frame\r\n"
        with pytest.raises(urllib.error.HTTPError, match="503: there are 1 viewers already"):
            urllib.request.urlopen(f"{address}yard", timeout=30)


def test_an_address_that_is_taken_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(BadInputError, match=r"cannot listen on 127\.0\.0\.1:\d+: "),
    ):
        MjpegServer("127.0.0.1", taken.getsockname()[1], "face")
    with pytest.raises(BadInputError, match=r"cannot listen on no-such-host\.invalid:1: "):
        MjpegServer("no-such-host.invalid", 1, "face")


def test_addresses_stand_in_urls_with_brackets() -> None:
    assert host_port("::1", 8088) == "[::1]:8088"
    assert host_port("box1", 8088) == "box1:8088"
