"""Which addresses HAMS connects to when somebody else names them: a group file, a redirect, a name server. Pure.

=============  =========================================================  =========  =========  ====================
kind           addresses                                                  downloads  cameras    cameras over HTTP
=============  =========================================================  =========  =========  ====================
``public``     all others                                                 yes        yes        yes
``private``    10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7           allowed    yes        yes
``loopback``   127/8, ::1                                                 allowed    yes        allowed
``link``       169.254/16, fe80::/10, a cloud's metadata                  allowed    allowed    allowed
``no host``    0/8, multicast, reserved, documentation                    no         no         no
=============  =========================================================  =========  =========  ====================

*allowed*: if the operator's ``HAMS_ALLOW_PRIVATE_URLS`` has it. That is a list of networks, addresses and host names,
or ``private``: all of the kinds ``private`` and ``loopback``. Addresses that hold another one (IPv4 in IPv6, 6to4,
NAT64, Teredo) count as what they hold.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

VARIABLE = "HAMS_ALLOW_PRIVATE_URLS"

Kind = Literal["public", "private", "loopback", "link", "no host"]
Use = Literal["download", "camera", "http-camera", "typed"]
"""What for; ``typed``: a person at this host typed the address in a command."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_FREE: dict[Use, frozenset[Kind]] = {
    "download": frozenset({"public"}),
    "camera": frozenset({"public", "private", "loopback"}),
    "http-camera": frozenset({"public", "private"}),
    "typed": frozenset({"public", "private", "loopback", "link"}),
}
_METADATA = frozenset(
    ipaddress.ip_address(one) for one in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")
)
"""Of clouds (AWS, Google, Alibaba, Azure) outside the link's own range."""
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PRIVATE = tuple(
    ipaddress.ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")
)
_WORDS: dict[Kind, str] = {
    "public": "a public address",
    "private": "an address of a private network",
    "loopback": "an address of this host itself",
    "link": "an address of the link, or of a cloud's metadata",
    "no host": "no address of a single host",
}


@dataclass(frozen=True)
class Allowed:
    """What the operator allows besides."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    private: bool = False

    def has(self, host: str, address: Address, kind: Kind) -> bool:
        """Whether `address`, found by the name `host`, is among it."""
        named = host.lower().rstrip(".") in self.hosts
        listed = any(address in network for network in self.networks if network.version == address.version)
        return kind != "no host" and (named or listed or (self.private and kind in ("private", "loopback")))


def allowed(text: str) -> Allowed:
    """Read the operator's setting. Raises ValueError, whose text names the part that is wrong."""
    networks, hosts, private = [], set(), False
    for part in text.replace(",", " ").split():
        if part.lower() in ("private", "1", "true", "yes"):
            private = True
            continue
        try:
            networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            if "/" in part or part.strip("0123456789.") == "":
                raise ValueError(f"{part!r} is no network, address or host name") from None
            hosts.add(part.lower().rstrip("."))
    return Allowed(tuple(networks), frozenset(hosts), private)


def kind_of(address: Address) -> Kind:
    """Return what an address is, by what it holds where it holds another one."""
    address = _held(address)
    if address in _METADATA or address.is_link_local:
        return "link"
    if address.is_loopback:
        return "loopback"
    if any(address in one for one in (*_PRIVATE, _SHARED) if one.version == address.version):
        return "private"
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return "no host"
    return "public"


def _held(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if int(address) >> 32 == 0 and int(address) > 1:  # ::a.b.c.d, long obsolete
        return ipaddress.IPv4Address(int(address))
    return address.ipv4_mapped or address.sixtofour or address


def literal(host: str) -> Address | None:
    """Return the address that `host` is, as resolvers read it (``127.1``, ``0x7f000001`` too); None: it is a name."""
    text = host.strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return _old_form(text)


def _old_form(text: str) -> ipaddress.IPv4Address | None:
    """Read an IPv4 address in inet_aton's other forms: 1 to 4 numbers, decimal, octal or hexadecimal."""
    parts = text.split(".")
    try:
        numbers = [int(part, 0 if part.lower().startswith("0x") else 8 if part[:1] == "0" else 10) for part in parts]
    except ValueError:
        return None
    *first, last = numbers
    if len(parts) > 4 or any(not 0 <= one < 256 for one in first) or not 0 <= last < 256 ** (4 - len(first)):
        return None
    return ipaddress.IPv4Address(sum(one << (24 - 8 * place) for place, one in enumerate(first)) + last)


def refusal(host: str, addresses: Iterable[Address], use: Use, besides: Allowed) -> str:
    """Return why HAMS does not connect to `host`, which has `addresses`; empty: it does. One bad address is enough:
    a name that leads to several places is somebody's trick, or a mistake."""
    for address in addresses:
        kind = kind_of(address)
        if kind not in _FREE[use] and not besides.has(host, address, kind):
            leads = "" if str(address) == host.strip("[]") else f"leads to {address}, "
            return f"{host} {leads}{'which is ' if leads else 'is '}{_WORDS[kind]}: refused"
    return ""


def hint(host: str) -> str:
    """Return what to do about a refusal."""
    return f"if it is meant: {VARIABLE}={host.strip('[]')} in the environment of the part that connects"
