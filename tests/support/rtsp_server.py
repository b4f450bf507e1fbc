"""A camera that sends H.264 over RTSP: a server in a process of its own, to be killed, frozen, and started again.

``python -m support.rtsp_server PORT …`` sends frames 0, 1, 2 … for ever (see :mod:`support.media`). It packs RTP
itself, so that loss, silence and its clock can be set. A client that comes later gets the frames of that moment.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import os
import random
import re
import secrets
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.media import STEPS, encoder_of, frames, value
from support.ports import free_port
from support.wait import until_sync

__all__ = ["FPS", "SIZE", "STEPS", "RtspServer", "value"]

SIZE = (320, 240)
FPS = 25
CLOCK = 90_000
"""Ticks of RTP's clock for video, 1/s."""
MTU = 1200
REALM = "camera"
UNIX_IN_NTP = 2_208_988_800
FIRST_STAMP = 2**32 - 5 * CLOCK
"""RTP time of frame 0; it starts over at 0 after 5 s."""
REPORT_S = 0.5
"""Time between two sender reports, s."""


class RtspServer:
    """`with` starts nothing and kills the server; `start`, `freeze` and `kill` as the test likes.

    Args:
        user: with a `password`, clients must log in, by basic or digest authentication (`auth`).
        sizes: of several, each is that of the frames for `STEPS` frames, in turn.
        transports: what SETUP accepts.
        loss: share of the RTP packets over UDP that are not sent; which ones, is the same each time.
        fps: frames/s.
        frames: none but the first so many are sent to each client; then it is silent and keeps the connection.
        hangs_up: then it closes the connection instead.
        clock: seconds that its wall clock is ahead of ours; None: it sends no reports (RTCP).
    """

    def __init__(
        self,
        *,
        user: str = "",
        password: str = "",
        auth: str = "digest",
        tls: bool = False,
        sizes: tuple[tuple[int, int], ...] = (SIZE,),
        transports: tuple[str, ...] = ("tcp", "udp"),
        loss: float = 0.0,
        fps: int = FPS,
        frames: int | None = None,
        hangs_up: bool = False,
        clock: float | None = 0.0,
    ) -> None:
        self.port = free_port()
        self.url = f"rtsp{'s' if tls else ''}://127.0.0.1:{self.port}/live"
        self._options = [f"--user={user}", f"--password={password}", f"--auth={auth}", f"--loss={loss}", f"--fps={fps}"]
        self._options += [f"--size={width}x{height}" for width, height in sizes]
        self._options += [f"--transport={transport}" for transport in transports]
        self._options += ["--tls"] if tls else []
        self._options += ["--hangs-up"] if hangs_up else []
        self._options += [] if frames is None else [f"--frames={frames}"]
        self._options += [] if clock is None else [f"--clock={clock}"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RtspServer:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
        command = [sys.executable, "-m", "support.rtsp_server", str(self.port), *self._options]
        self._process = subprocess.Popen(command, env=env)
        until_sync(self._listening, 60, "the RTSP server")
        return self

    def freeze(self) -> None:
        """It keeps its connections and sends nothing more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def _listening(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the RTSP server ended"
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", self.port)) == 0


# ── in its process ────────────────────────────────────────────────────────────────────────────────────────────────


def access_units(size: tuple[int, int], start: int) -> list[list[bytes]]:
    """`STEPS` frames from number `start`, as lists of NAL units; every twelfth is a key frame with parameter sets."""
    encoder = encoder_of("libx264", size)
    times = [(start + n, n / 25) for n in range(STEPS)]
    packets = [p for frame in (*frames(times, size), None) for p in encoder.encode(frame)]
    return [[unit for unit in re.split(b"\0{2,3}\1", bytes(packet)) if unit] for packet in packets]


def payloads(unit: bytes) -> Iterator[bytes]:
    """RTP payloads of a NAL unit: itself, or fragments of it (RFC 6184, FU-A)."""
    if len(unit) <= MTU:
        yield unit
        return
    indicator, kind, body = unit[0] & 0xE0 | 28, unit[0] & 0x1F, unit[1:]
    for at in range(0, len(body), MTU):
        first, last = (at == 0) << 7, (at + MTU >= len(body)) << 6
        yield bytes([indicator, first | last | kind]) + body[at : at + MTU]


@dataclass
class Client:
    """One connection: its requests, and the frames it gets."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    options: argparse.Namespace
    units: list[list[bytes]]
    began: float
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    udp: tuple[socket.socket, socket.socket] | None = None
    """Sockets of RTP and RTCP; None: both go through the connection."""
    ports: tuple[int, int] = (0, 0)
    playing: asyncio.Task[None] | None = None
    number: int = 0
    """Of its first frame."""
    sequence: int = 0
    lost: random.Random = field(default_factory=lambda: random.Random(1))

    async def serve(self) -> None:
        try:
            while (request := await self._request()) is not None:
                method, address, headers = request
                self._answer(method, headers.get("cseq", "0"), *self._act(method, address, headers))
                await self.writer.drain()
                if method == "TEARDOWN":
                    return
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            if self.playing is not None:
                self.playing.cancel()
                with suppress(asyncio.CancelledError, OSError):  # nothing is logged of a client that left
                    await self.playing
            for one in self.udp or ():
                one.close()
            self.writer.close()

    async def _request(self) -> tuple[str, str, dict[str, str]] | None:
        while (mark := await self.reader.read(1)) == b"$":  # the client's reports
            length = int.from_bytes((await self.reader.readexactly(3))[1:], "big")
            await self.reader.readexactly(length)
        if not mark:
            return None
        head = (mark + await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.strip().split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in rest)}
        await self.reader.readexactly(int(headers.get("content-length", 0)))
        return first.split()[0], first.split()[1], headers

    def _answer(self, method: str, number: str, status: str, headers: dict[str, str], body: str = "") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {number}", *(f"{k}: {v}" for k, v in headers.items())]
        lines += [f"Content-Length: {len(body)}"] if body else []
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        if method == "PLAY" and status.startswith("200"):
            self.playing = asyncio.create_task(self._play())

    def _act(self, method: str, address: str, headers: dict[str, str]) -> tuple[Any, ...]:
        """Status, headers and body of the answer."""
        if method == "OPTIONS":
            return "200 OK", {"Public": "DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"}
        if self.options.user and not self._allowed(method, headers.get("authorization", "")):
            ask = f'Basic realm="{REALM}"'
            if self.options.auth == "digest":
                ask = f'Digest realm="{REALM}", nonce="{self.nonce}"'
            return "401 Unauthorized", {"WWW-Authenticate": ask}
        session = {"Session": "12345678;timeout=60"}
        match method:
            case "DESCRIBE":
                return "200 OK", {"Content-Type": "application/sdp", "Content-Base": f"{address}/"}, self._sdp()
            case "SETUP":
                transport = self._set_up(headers["transport"])
                if transport is None:
                    return "461 Unsupported Transport", {}
                return "200 OK", {**session, "Transport": transport}
            case "PLAY":
                self.number = self._next_key_frame()
                info = f"url={address.rstrip('/')}/video;seq={self.sequence + 1};rtptime={self._stamp(self.number)}"
                return "200 OK", {**session, "Range": "npt=0.000-", "RTP-Info": info}
            case "TEARDOWN" | "GET_PARAMETER":
                return "200 OK", session
        return "501 Not Implemented", {}

    def _allowed(self, method: str, header: str) -> bool:
        user, password = self.options.user, self.options.password
        if self.options.auth == "basic":
            return header == "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        given = dict(re.findall(r'(\w+)="([^"]*)"', header))

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        login, request = md5(f"{user}:{REALM}:{password}"), md5(f"{method}:{given.get('uri')}")
        secret = f"{login}:{self.nonce}:{request}"
        return given.get("username") == user and given.get("response") == md5(secret)

    def _sdp(self) -> str:
        first = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 0.0.0.0", "t=0 0", "a=control:*"]
        video = ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=1", "a=control:video"]
        return "\r\n".join([*first, *video]) + "\r\n"

    def _set_up(self, wanted: str) -> str | None:
        """The transport as it will be, None where it is refused."""
        kind = "tcp" if "RTP/AVP/TCP" in wanted else "udp"
        if kind not in self.options.transport:
            return None
        if kind == "tcp":
            return "RTP/AVP/TCP;unicast;interleaved=0-1"
        found = re.search(r"client_port=(\d+)-(\d+)", wanted)
        assert found is not None, wanted
        self.ports = int(found[1]), int(found[2])
        self.udp = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
        for one in self.udp:
            one.bind(("127.0.0.1", 0))
            one.setblocking(False)
        mine = "-".join(str(one.getsockname()[1]) for one in self.udp)
        return f"RTP/AVP/UDP;unicast;client_port={found[1]}-{found[2]};server_port={mine}"

    def _next_key_frame(self) -> int:
        return -(-int((time.monotonic() - self.began) * self.options.fps) // 12) * 12

    def _stamp(self, number: int) -> int:
        """The RTP time of a frame."""
        return int(FIRST_STAMP + number * CLOCK // self.options.fps) % 2**32

    async def _play(self) -> None:
        number = self.number
        last = None if self.options.frames is None else number + self.options.frames
        reported = 0.0
        while (last is None or number < last) and not self.writer.transport.is_closing():
            await asyncio.sleep(max(0.0, self.began + number / self.options.fps - time.monotonic()))
            stamp = self._stamp(number)
            if self.options.clock is not None and time.monotonic() - reported > REPORT_S:
                self._send(1, self._report(number))
                reported = time.monotonic()
            self._send_frame(self.units[number % len(self.units)], stamp)
            await self.writer.drain()
            number += 1
        if self.options.hangs_up:
            self.writer.close()

    def _send_frame(self, units: list[bytes], stamp: int) -> None:
        packets = [payload for unit in units for payload in payloads(unit)]
        for n, payload in enumerate(packets):
            marker = (n == len(packets) - 1) << 7
            self.sequence = (self.sequence + 1) & 0xFFFF
            packet = struct.pack(">BBHII", 0x80, marker | 96, self.sequence, stamp, 1) + payload
            if self.udp is None or self.lost.random() >= self.options.loss:
                self._send(0, packet)

    def _report(self, number: int) -> bytes:
        """A sender report (RFC 3550): when a frame was taken, by the wall clock, and its RTP time."""
        taken = self.began + number / self.options.fps + time.time() - time.monotonic()
        whole, part = divmod(taken + self.options.clock + UNIX_IN_NTP, 1)
        stamp = self._stamp(number)
        return struct.pack(">BBHIIIIII", 0x80, 200, 6, 1, int(whole), int(part * 2**32), stamp, 0, 0)

    def _send(self, channel: int, packet: bytes) -> None:
        """Channel 0: RTP; 1: RTCP."""
        if self.udp is None:
            self.writer.write(b"$" + struct.pack(">BH", channel, len(packet)) + packet)
        else:
            self.udp[channel].sendto(packet, ("127.0.0.1", self.ports[channel]))


def certificate() -> ssl.SSLContext:
    """A server's context with a certificate that it signed itself."""
    import tempfile

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "camera")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    signed = made.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(private + signed.public_bytes(serialization.Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def run(options: argparse.Namespace) -> None:
    sizes = [tuple(map(int, size.split("x"))) for size in options.size]
    units = [unit for n, size in enumerate(sizes) for unit in access_units(size, n * STEPS)]
    began = time.monotonic()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Client(reader, writer, options, units, began).serve()

    context = certificate() if options.tls else None
    server = await asyncio.start_server(serve, "127.0.0.1", options.port, ssl=context)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    for name in ("user", "password", "auth"):
        parser.add_argument(f"--{name}", default="")
    for name in ("size", "transport"):
        parser.add_argument(f"--{name}", action="append", required=True)
    for name in ("tls", "hangs-up"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--fps", type=int, default=FPS)
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--clock", type=float)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
