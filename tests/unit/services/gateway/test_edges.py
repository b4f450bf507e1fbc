"""What keeps clients within bounds: tokens' guard, limits, statuses of errors, and the document of it all."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs hams[gateway]")

from hams_services.gateway import failures, openapi
from hams_services.gateway.app import ENDPOINTS
from hams_services.gateway.form import file_of
from hams_services.gateway.guard import Guard, check_listen, is_loopback
from hams_services.gateway.limits import Admission, Unpacker
from hams_services.security.tokens import TokenFile
from hams_shared import errors
from hams_shared.errors import BadInputError, ForbiddenError, HamsError, OverloadedError, TooLargeError
from support.wait import PATIENCE


def test_without_the_extra_it_says_what_to_install() -> None:
    """In a process of its own: modules that are imported again are others than those that tests have."""
    code = "import sys; sys.modules['starlette'] = None; from hams_services.gateway import __main__ as m; m._service()"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=60 * PATIENCE
    )
    assert re.search(r"BadInputError: .*needs the package starlette \(install hams\[gateway\]", done.stderr)


def test_a_key_without_a_certificate_is_refused() -> None:
    argv = [sys.executable, "-m", "hams_services.gateway", "--tls-key", "key.pem", "--nats", "nats://127.0.0.1:1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert (done.returncode, "--tls-key without --tls-cert" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_this_machine(host: str, tmp_path: Path) -> None:
    assert is_loopback(host)
    check_listen("--http", host, TokenFile(tmp_path / "none", required=False))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "box1", "", "localhost.evil.org", "127.0.0.1.org"])
def test_others_are_let_in_by_tokens_only(host: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"can be reached from other machines.*hams-ctl token add"):
        check_listen("--http", host, TokenFile(tmp_path / "none", required=False))
    check_listen("--http", host, TokenFile(tmp_path / "none", required=True))


@pytest.mark.parametrize("headers", [{"host": "[x"}, {"host": "localhost", "origin": "http://["}])
def test_an_address_that_is_none_is_not_let_in(headers: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ForbiddenError):
        Guard(TokenFile(tmp_path / "none", required=False)).of_http(headers)


def test_packed_bodies_are_unpacked_up_to_the_limit_and_no_further() -> None:
    data = bytes(range(256)) * 40
    for name, packed in (("gzip", gzip.compress(data)), ("deflate", zlib.compress(data)), ("", data)):
        unpacker = Unpacker(name, len(data))
        assert b"".join(unpacker.feed(packed[at : at + 7]) for at in range(0, len(packed), 7)) == data
        unpacker.end()
        small = Unpacker(name, len(data) - 1)
        with pytest.raises(TooLargeError):
            small.feed(packed)
            small.end()
    cut = Unpacker("gzip", 1 << 20)
    cut.feed(gzip.compress(data)[:-1])
    with pytest.raises(BadInputError, match="cut off"):
        cut.end()
    twice = Unpacker("gzip", 1 << 20)
    twice.feed(gzip.compress(data) * 2)
    with pytest.raises(BadInputError, match="something follows"):
        twice.end()


def test_requests_and_their_bytes_are_counted() -> None:
    admission = Admission(requests=2, body_bytes=100, streams=1)
    with admission.request() as one, admission.request() as two:
        one(60)
        two(40)
        for grow in (one, two):
            with pytest.raises(OverloadedError, match="are under way"):
                grow(1)
        with pytest.raises(OverloadedError, match="2 requests"), admission.request():
            pass
    with admission.request() as alone:
        alone(1000)  # one alone is bounded by its own limit
    with admission.stream(), pytest.raises(OverloadedError, match="1 streams"), admission.stream():
        pass
    with admission.stream(), admission.request() as grow:
        grow(100)


def test_each_error_has_a_status() -> None:
    grpc = pytest.importorskip("grpc", reason="needs hams[gateway]")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HamsError)]
    assert len(kinds) > 20
    for kind in kinds:
        error = kind("text", "hint")
        assert 400 <= failures.http_status(error) < 600
        assert hasattr(grpc.StatusCode, failures.grpc_status(error))
        assert failures.body(error) == {"error": "text (hint)", "code": kind.code, "hint": "hint"}
    assert [failures.http_status(kind("x")) for kind in (errors.TooLargeError, errors.SourceError)] == [413, 400]
    assert failures.http_status(errors.InternalError("x")) == 500


def test_the_document_is_openapi_and_has_every_route() -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="needs openapi-spec-validator")
    document = openapi.document(ENDPOINTS, "/hams")
    validator.validate(document)
    named = {(path, method.upper()) for path, one in document["paths"].items() for method in one}
    assert named == {(one.path, one.method) for one in ENDPOINTS}
    assert "/v2/models/{group}/versions/{version}/infer" in document["paths"]
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))


def test_the_page_lists_every_path_and_needs_nothing_from_elsewhere() -> None:
    page = openapi.page(ENDPOINTS)
    assert all(f"<code>{one.path}</code>" in page for one in ENDPOINTS)
    assert "http" not in page.replace("<th>", "").replace("over HTTP", "").lower().replace("http.", "")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "cut off"),
        (b"--b--\r\n", "no file"),
        (b"--x\r\n", "cannot be read"),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n--b--\r\n', "no file"),
        (b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nabc', "cut off"),
        (b"--b\r\n" + b"a: b\r\n" * 100 + b"\r\n\r\n--b--", "cannot be read: Maximum header count"),
    ],
)
def test_a_form_that_is_none_is_named(body: bytes, text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        file_of("multipart/form-data; boundary=b", body)


def test_the_first_file_of_a_form() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = (
        part % (b"a", b"", b"v")
        + part % (b"i", b'; filename="x.jpg"', b"\r\n--x\r\n")
        + part % (b"j", b'; filename="y"', b"z")
    )
    assert file_of('multipart/form-data; boundary="b"', body + b"--b--\r\n") == b"\r\n--x\r\n"
    with pytest.raises(BadInputError, match="no boundary"):
        file_of("multipart/form-data", body)
