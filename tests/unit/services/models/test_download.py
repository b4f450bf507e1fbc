"""Downloads from a server on the loopback: whole, cut, wrong, absent, redirected, slow."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from hams_services.models import download as module
from hams_services.models.download import download
from hams_services.models.files import no_progress
from hams_services.models.sources import fetch
from hams_shared.errors import DigestError, ModelFetchError
from hams_shared.runtime.backoff import Backoff

NET = bytes(range(256)) * 4000
SHA = hashlib.sha256(NET).hexdigest()


class Handler(BaseHTTPRequestHandler):
    seen: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        path = self.path
        self.seen[path] += 1
        if path == "/missing":
            self.send_error(404)
        elif path == "/busy" and self.seen[path] < 3:
            self.send_error(503)
        elif path == "/away":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/net.onnx")
            self.end_headers()
        elif path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/net.onnx")
            self.end_headers()
        elif path == "/nothing":
            self.close_connection = True
        else:
            cut = path == "/cut" or (path == "/cut-once" and self.seen[path] == 1)
            data = b"weights" if path.endswith(".bin") else NET
            self.send_response(200)
            self.send_header("Content-Length", str(10**12 if path == "/huge" else len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what is tested."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr(module, "RETRY", Backoff(0.01, 0.01))
    monkeypatch.setattr(module, "SILENCE_S", 60.0)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    Handler.seen.clear()
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(("name", "requests"), [("/net.onnx", 1), ("/moved", 1), ("/busy", 3), ("/cut-once", 2)])
def test_a_file_arrives_whole(url: str, tmp_path: Path, name: str, requests: int) -> None:
    reports: list[tuple[int, int]] = []
    download(url + name, SHA, tmp_path / "net", lambda done, total: reports.append((done, total)))
    assert (tmp_path / "net").read_bytes() == NET
    assert reports[-1] == (len(NET), len(NET))
    assert Handler.seen[name] == requests
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.sha256"]


@pytest.mark.parametrize(
    ("name", "text", "requests"),
    [
        ("/missing", "404", 1),
        ("/cut", "ended after 512000 of 1024000 bytes", 3),
        ("/nothing", "3 attempts: the connection was cut", 3),
        ("/away", "redirects to ftp://127.0.0.1/net.onnx", 1),
        ("/huge", "larger than 4 GiB", 1),
    ],
)
def test_a_file_that_does_not_arrive(url: str, tmp_path: Path, name: str, text: str, requests: int) -> None:
    with pytest.raises(ModelFetchError, match=text):
        download(url + name, SHA, tmp_path / "net", no_progress)
    assert Handler.seen[name] == requests
    left = ["net.part", "net.part.from"] if name == "/cut" else []
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_another_file_than_promised(url: str, tmp_path: Path) -> None:
    with pytest.raises(DigestError, match=f"has SHA-256 {SHA}, not 0000"):
        download(url + "/net.onnx", "0" * 64, tmp_path / "net", no_progress)
    assert Handler.seen["/net.onnx"] == 1
    assert list(tmp_path.iterdir()) == []


def test_nobody_listens(tmp_path: Path, server: ThreadingHTTPServer) -> None:
    with pytest.raises(ModelFetchError, match=r"could not be reached in 3 attempts: .*refused.*offline\?"):
        download("http://127.0.0.1:9/net.onnx", SHA, tmp_path / "net", no_progress)


def test_the_deadline_holds(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE_S", -1.0)
    with pytest.raises(ModelFetchError, match="not complete"):
        download(url + "/net.onnx", SHA, tmp_path / "net", no_progress)


@pytest.fixture
def secure(server: ThreadingHTTPServer, tmp_path: Path) -> str:
    """The same server behind TLS with a certificate of its own; returns its URL."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("no openssl to make a certificate with")
    command = [tool, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return f"https://127.0.0.1:{server.server_port}"


def test_https(secure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ModelFetchError, match="SSL_CERT_FILE"):
        fetch(f"{secure}/net.onnx", SHA, cache)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    path = fetch(f"{secure}/net.onnx", SHA, cache)
    assert path == cache / "https" / SHA / "net.onnx"
    assert path.read_bytes() == NET
    assert fetch(f"{secure}/net.onnx", SHA, cache) == path
    assert Handler.seen["/net.onnx"] == 1
    with pytest.raises(ModelFetchError, match="#weights=DIGEST_OF_BIN"):
        fetch(f"{secure}/net.xml", SHA, cache)
    weights = hashlib.sha256(b"weights").hexdigest()
    beside = f"#net.bin={weights}&more.bin={weights}"
    found = fetch(f"{secure}/net.onnx{beside}", SHA, cache)
    assert [found.with_name(name).read_bytes() for name in ("net.bin", "more.bin")] == [b"weights", b"weights"]
    for wrong in ("net.bin", "../net.bin=" + weights, "net.bin=12", f"net.onnx={weights}"):
        with pytest.raises(ModelFetchError, match="is not FILE=DIGEST"):
            fetch(f"{secure}/net.onnx#{wrong}", SHA, cache)
    ir = fetch(f"{secure}/net.xml#weights={weights}", SHA, cache)
    assert ir.with_suffix(".bin").read_bytes() == b"weights"


def test_https_needs_a_digest(tmp_path: Path) -> None:
    with pytest.raises(ModelFetchError, match="needs its sha256 or sha384"):
        fetch("https://127.0.0.1:9/net.onnx", None, tmp_path)
