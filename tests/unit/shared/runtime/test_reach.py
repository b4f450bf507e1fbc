"""Which addresses are refused: by range, whatever form they are written in, and by what they hold."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_shared.runtime.reach import Allowed, Kind, Use, allowed, kind_of, literal, refusal

KINDS: list[tuple[str, Kind]] = [
    ("8.8.8.8", "public"),
    ("2606:4700::1111", "public"),
    ("10.1.2.3", "private"),
    ("172.16.0.1", "private"),
    ("172.32.0.1", "public"),
    ("192.168.1.7", "private"),
    ("100.64.0.1", "private"),
    ("fd12:3456::1", "private"),
    ("127.0.0.1", "loopback"),
    ("127.255.1.1", "loopback"),
    ("::1", "loopback"),
    ("169.254.1.1", "link"),
    ("169.254.169.254", "link"),
    ("fe80::1", "link"),
    ("fd00:ec2::254", "link"),
    ("100.100.100.200", "link"),
    ("168.63.129.16", "link"),
    ("0.0.0.0", "no host"),
    ("::", "no host"),
    ("224.0.0.1", "no host"),
    ("255.255.255.255", "no host"),
    ("240.0.0.1", "no host"),
    ("ff02::1", "no host"),
    ("192.0.2.1", "no host"),
    # what holds another address
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:169.254.169.254", "link"),
    ("::127.0.0.1", "loopback"),
    ("64:ff9b::a9fe:a9fe", "link"),
    ("64:ff9b::808:808", "public"),
    ("2002:7f00:1::", "loopback"),
    ("2002:a00:1::", "private"),
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", "loopback"),  # Teredo: the client's address is inverted
]


@pytest.mark.parametrize(("text", "kind"), KINDS)
def test_the_kind_of_an_address(text: str, kind: Kind) -> None:
    assert kind_of(ipaddress.ip_address(text)) == kind


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("0xa9.0xfe.0xa9fe", "169.254.169.254"),
    ],
)
def test_an_address_in_any_form_is_the_address(host: str, address: str) -> None:
    assert literal(host) == ipaddress.ip_address(address)


@pytest.mark.parametrize("host", ["example.org", "1.2.3.4.5", "256.1.1.1", "4294967296", "0x", "", "cafe", "1.2.3.-4"])
def test_what_is_no_address(host: str) -> None:
    assert literal(host) is None


TABLE: list[tuple[str, str, dict[Use, bool]]] = [
    ("8.8.8.8", "", {"download": True, "camera": True, "http-camera": True}),
    ("192.168.1.7", "", {"download": False, "camera": True, "http-camera": True}),
    ("192.168.1.7", "private", {"download": True}),
    ("192.168.1.7", "192.168.0.0/16", {"download": True}),
    ("192.168.1.7", "cam", {"download": True}),
    ("192.168.1.7", "10.0.0.0/8 other", {"download": False}),
    ("127.0.0.1", "", {"download": False, "camera": True, "http-camera": False, "typed": True}),
    ("127.0.0.1", "1", {"download": True, "http-camera": True}),
    ("169.254.169.254", "", {"download": False, "camera": False, "http-camera": False}),
    ("169.254.169.254", "private", {"download": False, "camera": False}),
    ("169.254.169.254", "169.254.169.254", {"download": True, "camera": True}),
    ("224.0.0.1", "private,224.0.0.0/4,cam", {"download": False, "camera": False, "typed": False}),
]


@pytest.mark.parametrize(("address", "setting", "uses"), TABLE)
def test_what_is_refused_for_what(address: str, setting: str, uses: dict[Use, bool]) -> None:
    for use, free in uses.items():
        assert (refusal("cam", [ipaddress.ip_address(address)], use, allowed(setting)) == "") is free, use


def test_one_bad_address_of_a_name_is_enough() -> None:
    addresses = [ipaddress.ip_address(one) for one in ("8.8.8.8", "127.0.0.1")]
    said = refusal("evil.example", addresses, "download", Allowed())
    assert said == "evil.example leads to 127.0.0.1, which is an address of this host itself: refused"


@pytest.mark.parametrize("text", ["10.0.0.0/99", "300.1.1.1", "a/b"])
def test_a_wrong_setting_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no network, address or host name"):
        allowed(text)


@given(st.ip_addresses(v=4))
def test_an_address_within_another_is_what_it_holds(address: ipaddress.IPv4Address) -> None:
    number, kind = int(address), kind_of(address)
    for within in ((0xFFFF << 32) + number, (0x64FF9B << 96) + number, (0x2002 << 112) + (number << 80)):
        assert kind_of(ipaddress.IPv6Address(within)) == kind
    assert literal(str(number)) == address
