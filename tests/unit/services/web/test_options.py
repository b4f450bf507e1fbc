"""Options of hams-web: addresses, and what would let strangers in."""

from __future__ import annotations

from pathlib import Path

import pytest

from hams_services.web.headers import POLICY, from_here, host_of, is_loopback
from hams_services.web.options import WebOptions, check, listen_address, prefix
from hams_shared.errors import BadInputError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8090", "127.0.0.1", 8090), ("[::1]:8090", "::1", 8090), ("[::]:0", "::", 0), ("box:80", "box", 80)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert listen_address(text) == (host, port)


@pytest.mark.parametrize("text", ["8090", ":8090", "::1:8090", "host:", "host:http", "host:70000", "[::1:80", "a:٣"])
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(BadInputError, match=r"HOST:PORT|brackets"):
        listen_address(text)


@pytest.mark.parametrize(
    ("options", "url"),
    [
        (WebOptions(), "http://127.0.0.1:8090/"),
        (WebOptions("::1", 80), "http://[::1]:80/"),
        (WebOptions("0.0.0.0", 80, "/hams", tls_cert=Path("c"), tls_key=Path("k")), "https://127.0.0.1:80/hams/"),
    ],
)
def test_the_address_to_open(options: WebOptions, url: str) -> None:
    assert options.url == url


@pytest.mark.parametrize(("text", "path"), [("", ""), ("/", ""), ("hams", "/hams"), ("/a/b/", "/a/b")])
def test_root_paths(text: str, path: str) -> None:
    assert prefix(text) == path


@pytest.mark.parametrize("text", ["/a b", "http://x/", "/a//b", "/../x", '/"'])
def test_what_is_no_root_path_is_named(text: str) -> None:
    with pytest.raises(BadInputError, match="root-path"):
        prefix(text)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (WebOptions("0.0.0.0"), "loopback only"),
        (WebOptions("::"), "loopback only"),
        (WebOptions("192.168.1.2"), "loopback only"),
        (WebOptions(public_view=True), "needs credentials"),
        (WebOptions(proxies=("127.0.0.1",)), "needs credentials"),
        (WebOptions(tls_cert=Path("c")), "belong together"),
        (WebOptions(credentials=True, proxies=("proxy.example",)), "no IP address"),
    ],
)
def test_options_that_would_let_strangers_in_are_refused(options: WebOptions, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        check(options)


@pytest.mark.parametrize(
    "options",
    [
        WebOptions(),
        WebOptions("::1"),
        WebOptions("localhost"),
        WebOptions("0.0.0.0", credentials=True),
        WebOptions("::", credentials=True, public_view=True, proxies=("10.0.0.0/8", "::1")),
    ],
)
def test_options_that_are_fine(options: WebOptions) -> None:
    check(options)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "LOCALHOST", "[::1]", "::1", "::ffff:127.0.0.1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com", "::", "0.0.0.0"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_hosts_of_headers() -> None:
    assert [host_of(h) for h in ("a:80", "a", "[::1]:80", "[::1]")] == ["a", "a", "[::1]", "[::1]"]


@pytest.mark.parametrize(
    ("site", "origin", "fine"),
    [
        ("same-origin", "", True),
        ("none", "", True),
        ("cross-site", "http://box:80", False),
        ("same-site", "", False),
        ("", "http://box:80", True),
        ("", "http://evil:80", False),
        ("", "null", False),
        ("", "", True),
    ],
)
def test_requests_of_other_sites(site: str, origin: str, fine: bool) -> None:
    assert from_here(site, origin, "box:80") is fine


def test_the_policy_allows_nothing_inline_and_nothing_foreign() -> None:
    assert "unsafe" not in POLICY
    assert "http:" not in POLICY
    assert "frame-ancestors 'none'" in POLICY
