"""WS-Discovery: one multicast question on each network, and all cameras answer with the address of their service.

Standard: OASIS WS-Discovery 2005/04, and ONVIF Core Specification, 7. IPv4 only.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import uuid
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from hams_services.ctl.onvif.camera import as_text
from hams_shared.errors import BrokerError, MessageError

GROUP = ("239.255.255.250", 3702)
"""WS-Discovery's multicast group."""
AGAIN_S = 0.3
"""The question is sent twice, so far apart, s: datagrams get lost."""
MOST = 256
"""Answers beyond are ignored."""
_SCOPES = "onvif://www.onvif.org/"
_QUESTION = """<?xml version="1.0" encoding="UTF-8"?>
<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"
 xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery">
<e:Header><a:MessageID>urn:uuid:{id}</a:MessageID><a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>
<a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action></e:Header>
<e:Body><d:Probe><d:Types xmlns:n="{namespace}">n:{type}</d:Types></d:Probe></e:Body></e:Envelope>"""
_TYPES = (
    ("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter"),
    ("http://www.onvif.org/ver10/device/wsdl", "Device"),
)
"""What is asked for: cameras know one or both."""


@dataclass(frozen=True)
class Answer:
    """What one device answered."""

    address: str
    """URL of its device service; where its answer cannot be read, the host that sent it."""
    name: str = ""
    model: str = ""
    id: str = ""
    """Of the device, for ever; a device on two networks answers on both."""
    error: MessageError | None = None


async def search(seconds: float, group: tuple[str, int] = GROUP) -> list[Answer]:
    """Return the devices that answer within `seconds`, in the order of their addresses.

    Raises:
        BrokerError: no network of this host takes multicast.
    """
    loop = asyncio.get_running_loop()
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setblocking(False)
    link.bind(("", 0))
    transport, heard = await loop.create_datagram_endpoint(_Heard, sock=link)
    try:
        async with asyncio.timeout(seconds):
            _ask(link, group)
            await asyncio.sleep(AGAIN_S)
            _ask(link, group)
            await asyncio.Event().wait()
    except TimeoutError:
        pass
    finally:
        transport.close()
    return sorted(heard.answers.values(), key=lambda answer: answer.address)


def _ask(link: socket.socket, group: tuple[str, int]) -> None:
    """Send the question to all networks."""
    sent, why = 0, "it has no network"
    for index, _ in socket.if_nameindex():
        for namespace, type_ in _TYPES:
            question = _QUESTION.format(id=uuid.uuid4(), namespace=namespace, type=type_).encode()
            try:
                link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", b"", b"", index))
                link.sendto(question, group)
                sent += 1
            except OSError as error:  # it is down, or has no IPv4 address
                why = error.strerror or str(error)
    if not sent:
        raise BrokerError(f"no network of this host takes multicast: {why}", "ask one camera: --address HOST")


class _Heard(asyncio.DatagramProtocol):
    """Collects answers; each camera answers several times."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take one answer."""
        try:
            found = read(data, addr[0])
        except MessageError as error:
            found = [Answer(addr[0], error=error)]
        for answer in found:
            if len(self.answers) < MOST:
                self.answers.setdefault(answer.id or answer.address, answer)


def read(data: bytes, sender: str) -> list[Answer]:
    """Return the ONVIF devices in an answer, which is mostly one. Raises MessageError: it is no such answer."""
    try:
        if b"<!DOCTYPE" in data:
            raise ValueError("a document type, which SOAP forbids")
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise MessageError(f"{sender} answers the search with malformed XML: {error}") from None
    found = []
    for match in root.findall(".//{*}ProbeMatch"):
        scopes = _words(match, "Scopes")
        addresses = [one for one in _words(match, "XAddrs") if _is_http(one)]
        if not addresses or not any(one.startswith(_SCOPES) for one in scopes):
            continue  # a printer, for example
        best = min(addresses, key=lambda one: _distance(urlsplit(one).hostname or "", sender))
        id_ = " ".join(_words(match, "EndpointReference/{*}Address"))
        found.append(Answer(as_text(best), _scope(scopes, "name"), _scope(scopes, "hardware"), id_))
    return found


def _words(match: ElementTree.Element, name: str) -> list[str]:
    return (match.findtext(f"{{*}}{name}") or "").split()


def _distance(host: str, sender: str) -> int:
    """Return how unlikely a device can be reached at `host`: least where it sent its answer from."""
    return 0 if host == sender else 1 + host.startswith("fe80:")


def _scope(scopes: list[str], name: str) -> str:
    """Return the value of a scope such as ``onvif://www.onvif.org/name/Front%20door``."""
    start = f"{_SCOPES}{name}/"
    return as_text(unquote(next((one[len(start) :] for one in scopes if one.startswith(start)), "")))


def _is_http(address: str) -> bool:
    with suppress(ValueError):
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    return False
