"""A simulated ONVIF camera: a SOAP server on loopback, and answers to WS-Discovery. Nothing of ours is in it.

It checks WS-UsernameToken digests as ONVIF Core, 5.9.2 has it, by its own clock, and uses each nonce once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import socket
import struct
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast
from xml.etree import ElementTree

SOAP = "http://www.w3.org/2003/05/soap-envelope"
NAMESPACES = (
    f'xmlns:e="{SOAP}" xmlns:d="http://www.onvif.org/ver10/device/wsdl" xmlns:m="http://www.onvif.org/ver10/media/wsdl"'
    ' xmlns:t="http://www.onvif.org/ver10/schema" xmlns:r="http://www.onvif.org/ver10/error"'
)
ENVELOPE = f'<?xml version="1.0" encoding="UTF-8"?><e:Envelope {NAMESPACES}><e:Body>{{}}</e:Body></e:Envelope>'
VALID = timedelta(minutes=5)
OPEN = {"GetSystemDateAndTime", "GetServices", "GetCapabilities"}
"""What is answered without a login."""


@dataclass(frozen=True)
class Profile:
    token: str
    width: int
    height: int
    uri: str
    video: str = "VideoSource_1"
    codec: str = "H264"
    fps: int = 25


MAIN = Profile("main", 1920, 1080, "rtsp://{host}:554/Streaming/Channels/101?transportmode=unicast")
SUB = Profile("sub", 640, 360, "rtsp://{host}:554/Streaming/Channels/102?transportmode=unicast", fps=10)


@dataclass
class OnvifDevice:
    """`async with` starts and stops it. `mood`, what it does instead of answering: silent, malformed, html, breaks."""

    name: str = "Front door"
    user: str = "admin"
    password: str = ""
    """Empty: everybody may ask."""
    profiles: tuple[Profile, ...] = (MAIN, SUB)
    mood: str = ""
    refused: int = 400
    """HTTP status of a refused login; many cameras send 401."""
    clock: timedelta = timedelta(0)
    """How far its clock is ahead."""
    old: bool = False
    """It does not know GetServices."""
    says: str = ""
    """The host in the addresses that it states; empty: its own."""
    multicast: tuple[str, int] | None = None
    """Group and port where it answers WS-Discovery, on the loopback network."""
    asked: list[str] = field(default_factory=list)
    """Operations, in order."""
    probes: list[bytes] = field(default_factory=list)
    """Questions of WS-Discovery, in order."""
    nonces: set[str] = field(default_factory=set)
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> OnvifDevice:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._links: set[asyncio.StreamWriter] = set()
        self._hears: asyncio.DatagramTransport | None = None
        if self.multicast is not None:
            loop = asyncio.get_running_loop()
            self._hears, _ = await loop.create_datagram_endpoint(lambda: _Hears(self), sock=joined(*self.multicast))
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._hears is not None:
            self._hears.close()
        self._server.close()
        for link in self._links:
            link.transport.abort()

    # HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._links.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                assert length is not None
                request = await reader.readexactly(int(length[1]))
                if self.mood == "breaks":
                    return
                if self.mood == "silent":
                    continue
                status, body = self._answer(request)
                kind = "text/html" if self.mood == "html" else "application/soap+xml; charset=utf-8"
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._links.discard(writer)
            writer.close()

    def _answer(self, request: bytes) -> tuple[int, bytes]:
        root = ElementTree.fromstring(request)
        body = root.find(f"{{{SOAP}}}Body")
        assert body is not None
        operation = body[0].tag.rpartition("}")[2]
        self.asked.append(operation)
        if self.mood == "malformed":
            return 200, b"<e:Envelope><unclosed"
        if self.mood == "html":
            return 200, b"<html><body>Welcome</body></html>"
        if operation not in OPEN and self.password and not self._may(root):
            return self.refused, _fault("r:NotAuthorized", "Sender not Authorized") if self.refused == 400 else b""
        handler = getattr(self, f"_{operation}", None)
        if handler is None or (self.old and operation == "GetServices"):
            return 400, _fault("r:ActionNotSupported", f"{operation} is not known")
        return 200, ENVELOPE.format(handler(body[0])).encode()

    def _may(self, root: ElementTree.Element) -> bool:
        """Whether the request has a digest of the password, of now by this camera's clock, and never seen."""
        texts = {one.tag.rpartition("}")[2]: one.text or "" for one in root.iter()}
        nonce, created = texts.get("Nonce", ""), texts.get("Created", "")
        if texts.get("Username") != self.user or not created.endswith("Z") or nonce in self.nonces:
            return False
        self.nonces.add(nonce)
        digest = hashlib.sha1(base64.b64decode(nonce) + created.encode() + self.password.encode()).digest()
        late = abs(datetime.fromisoformat(created) - (datetime.now(UTC) + self.clock)) > VALID
        return base64.b64encode(digest).decode() == texts.get("Password") and not late

    # operations

    def _GetSystemDateAndTime(self, _: ElementTree.Element) -> str:  # noqa: N802
        now = datetime.now(UTC) + self.clock
        return (
            "<d:GetSystemDateAndTimeResponse><d:SystemDateAndTime><t:DateTimeType>NTP</t:DateTimeType>"
            "<t:DaylightSavings>false</t:DaylightSavings><t:UTCDateTime>"
            f"<t:Time><t:Hour>{now.hour}</t:Hour><t:Minute>{now.minute}</t:Minute><t:Second>{now.second}</t:Second></t:Time>"
            f"<t:Date><t:Year>{now.year}</t:Year><t:Month>{now.month}</t:Month><t:Day>{now.day}</t:Day></t:Date>"
            "</t:UTCDateTime></d:SystemDateAndTime></d:GetSystemDateAndTimeResponse>"
        )

    def _GetServices(self, _: ElementTree.Element) -> str:  # noqa: N802
        version = "<d:Version><t:Major>2</t:Major><t:Minor>40</t:Minor></d:Version>"
        services = "".join(
            f"<d:Service><d:Namespace>http://www.onvif.org/ver10/{name}/wsdl</d:Namespace>"
            f"<d:XAddr>{self._url(path)}</d:XAddr>{version}</d:Service>"
            for name, path in (("device", "device_service"), ("media", "Media"))
        )
        return f"<d:GetServicesResponse>{services}</d:GetServicesResponse>"

    def _GetCapabilities(self, _: ElementTree.Element) -> str:  # noqa: N802
        return (
            f"<d:GetCapabilitiesResponse><d:Capabilities><t:Media><t:XAddr>{self._url('Media')}</t:XAddr>"
            "<t:StreamingCapabilities/></t:Media></d:Capabilities></d:GetCapabilitiesResponse>"
        )

    def _GetDeviceInformation(self, _: ElementTree.Element) -> str:  # noqa: N802
        return (
            "<d:GetDeviceInformationResponse><d:Manufacturer>Acme</d:Manufacturer><d:Model>DS-2CD\x9b31m</d:Model>"
            "<d:FirmwareVersion>5.7</d:FirmwareVersion><d:SerialNumber>1</d:SerialNumber>"
            "<d:HardwareId>88</d:HardwareId></d:GetDeviceInformationResponse>"
        )

    def _GetProfiles(self, _: ElementTree.Element) -> str:  # noqa: N802
        return f"<m:GetProfilesResponse>{''.join(map(_profile, self.profiles))}</m:GetProfilesResponse>"

    def _GetStreamUri(self, request: ElementTree.Element) -> str:  # noqa: N802
        token = next(one.text for one in request.iter() if one.tag.endswith("}ProfileToken"))
        uri = next(one.uri for one in self.profiles if one.token == token).format(host=self.says or "127.0.0.1")
        return (
            f"<m:GetStreamUriResponse><m:MediaUri><t:Uri>{uri.replace('&', '&amp;')}</t:Uri>"
            "<t:InvalidAfterConnect>false</t:InvalidAfterConnect><t:InvalidAfterReboot>false</t:InvalidAfterReboot>"
            "<t:Timeout>PT0S</t:Timeout></m:MediaUri></m:GetStreamUriResponse>"
        )

    def _url(self, path: str) -> str:
        return f"http://{f'{self.says}:80' if self.says else self.place}/onvif/{path}"

    # WS-Discovery

    def match(self, question: bytes) -> bytes | None:
        """The answer to a probe for network video transmitters."""
        if b"NetworkVideoTransmitter" not in question:
            return None
        if self.mood == "malformed":
            return b"<e:Envelope><unclosed"
        asked = re.search(rb"MessageID>([^<]*)<", question)
        scopes = f"onvif://www.onvif.org/name/{self.name.replace(' ', '%20')} onvif://www.onvif.org/hardware/DS-2CD"
        return (
            f'<?xml version="1.0"?><e:Envelope xmlns:e="{SOAP}" xmlns:n="http://www.onvif.org/ver10/network/wsdl"'
            ' xmlns:w="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
            ' xmlns:p="http://schemas.xmlsoap.org/ws/2005/04/discovery">'
            f"<e:Header><w:RelatesTo>{asked[1].decode() if asked else ''}</w:RelatesTo></e:Header>"
            "<e:Body><p:ProbeMatches><p:ProbeMatch>"
            f"<w:EndpointReference><w:Address>urn:uuid:{self.id}</w:Address></w:EndpointReference>"
            f"<p:Types>n:NetworkVideoTransmitter</p:Types><p:Scopes>{scopes}</p:Scopes>"
            f"<p:XAddrs>http://[fe80::1]/onvif/device_service {self._url('device_service')}</p:XAddrs>"
            "<p:MetadataVersion>1</p:MetadataVersion></p:ProbeMatch></p:ProbeMatches></e:Body></e:Envelope>"
        ).encode()


class _Hears(asyncio.DatagramProtocol):
    def __init__(self, device: OnvifDevice) -> None:
        self._device = device

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._device.probes.append(data)
        answer = self._device.match(data)
        if answer is not None:
            self._transport.sendto(answer, addr)


def joined(group: str, port: int) -> socket.socket:
    """A socket that hears `group` on the loopback network."""
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    link.bind((group, port))
    member = struct.pack("4s4si", socket.inet_aton(group), b"", socket.if_nametoindex("lo"))
    link.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    link.setblocking(False)
    return link


def _profile(of: Profile) -> str:
    multicast = (
        "<t:Multicast><t:Address><t:Type>IPv4</t:Type><t:IPv4Address>0.0.0.0</t:IPv4Address></t:Address><t:Port>0</t:Port>"
        "<t:TTL>1</t:TTL><t:AutoStart>false</t:AutoStart></t:Multicast>"
    )
    return (
        f'<m:Profiles token="{of.token}" fixed="true"><t:Name>{of.token}Stream</t:Name>'
        f'<t:VideoSourceConfiguration token="{of.video}_c"><t:Name>v</t:Name><t:UseCount>2</t:UseCount>'
        f'<t:SourceToken>{of.video}</t:SourceToken><t:Bounds x="0" y="0" width="1920" height="1080"/>'
        f'</t:VideoSourceConfiguration><t:VideoEncoderConfiguration token="{of.token}_e"><t:Name>e</t:Name>'
        f"<t:UseCount>1</t:UseCount><t:Encoding>{of.codec}</t:Encoding>"
        f"<t:Resolution><t:Width>{of.width}</t:Width><t:Height>{of.height}</t:Height></t:Resolution>"
        f"<t:Quality>3</t:Quality><t:RateControl><t:FrameRateLimit>{of.fps}</t:FrameRateLimit>"
        "<t:EncodingInterval>1</t:EncodingInterval><t:BitrateLimit>2048</t:BitrateLimit></t:RateControl>"
        f"{multicast}<t:SessionTimeout>PT5S</t:SessionTimeout></t:VideoEncoderConfiguration></m:Profiles>"
    )


def _fault(code: str, text: str) -> bytes:
    return ENVELOPE.format(
        f"<e:Fault><e:Code><e:Value>e:Sender</e:Value><e:Subcode><e:Value>{code}</e:Value></e:Subcode></e:Code>"
        f'<e:Reason><e:Text xml:lang="en">{text}</e:Text></e:Reason></e:Fault>'
    ).encode()
