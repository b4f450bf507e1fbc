"""Network cameras: RTSP over TCP, UDP or TLS; HTTP, as Motion JPEG or any video."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import replace
from typing import Literal

import av

from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.sources.media import Media, MediaOptions
from hams_shared.errors import SourceError
from hams_shared.group.camera_url import CameraUrl, parsed, redacted
from hams_shared.group.stream_spec import Hardware
from hams_shared.runtime.addresses import reachable
from hams_shared.runtime.reach import Use
from hams_shared.wire.frames import Pixels

OPEN_S = 4.0
READ_S = 5.0
"""Without a picture for this long the stream is lost, s."""
ASK_S = 2.0
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_LOCATION = re.compile(r"HTTP/1\.[01] 3\d\d .*?\r\nlocation: *([^\r\n]+)", re.I | re.S)
UNTOLD = ("Invalid data found when processing input", "Input/output error", "End of file")
"""What FFmpeg reports, whatever the reason."""
REFUSED = "Protocol not supported"
"""What FFmpeg reports when a server refuses the transport."""
RTSP = {"allowed_media_types": "video", "timeout": str(int(READ_S * 1e6))}
_HTTP = {"max_redirects": "0"}
"""FFmpeg would follow a redirect anywhere."""
AT_ONCE = {"probesize": "32768", "analyzeduration": "500000", "fpsprobesize": "0"}
"""Open at once: the size is in the first pictures, and the frame rate matters to nobody."""


class NetworkCamera(Media):
    """A network camera: it has no beginning and no end. Motion JPEG over HTTP has no times."""

    def __init__(
        self,
        address: str,
        *,
        transport: Literal["tcp", "udp"] = "tcp",
        keyframes: bool = False,
        hardware: Hardware = "none",
    ) -> None:
        url = there = parsed(address)
        try:
            there = _checked(url)
            super().__init__(
                MediaOptions(
                    url.redacted,
                    there.full,
                    endless=True,
                    options={**AT_ONCE, **_protocol(url, transport)},
                    open_s=OPEN_S,
                    read_s=READ_S,
                    keyframes=keyframes,
                    hardware=hardware,
                )
            )
            if self._container.format.name == "mpjpeg" and not self._stream.codec_context.width:
                self._take_any_parts()
        except SourceError as error:
            told = _reason(error, url, there)
            raise SourceError(told.text, told.hint or _hint(told.text, url, transport)) from None
        self.fps = None
        self._timed = self._container.format.name not in ("mpjpeg", "mjpeg")
        if url.scheme.startswith("http") and (length := self._container.duration):
            self.close()
            text = f"{url.redacted} is a file of {length / av.time_base:.1f} s, not the stream of a camera"
            raise SourceError(text, "download it, and give its path")

    def _take_any_parts(self) -> None:
        """Look for pictures in the bytes alone: some cameras send parts without a type, which FFmpeg refuses."""
        self.close()
        self._options = replace(self._options, format="mjpeg")
        self._open()

    def read(self, into: Pixels | None = None) -> Picture | None:
        """Next frame; see :class:`Source`."""
        picture = super().read(into)
        if picture is None:
            raise SourceError(f"{self._options.name} has ended: it sends no more frames")
        return picture if self._timed else Picture(picture.pixels)


def _protocol(url: CameraUrl, transport: str) -> dict[str, str]:
    """Return FFmpeg's options for the protocol of `url`."""
    match url.scheme:
        case "rtsp":
            return {**RTSP, "rtsp_transport": transport}
        case "rtsps":  # cameras have certificates of their own making, which nobody can check
            return {**RTSP, "rtsp_transport": "tcp", "tls_verify": "0"}
        case "https":
            paths = ssl.get_default_verify_paths()
            trusted = {"tls_verify": "1", "ca_file": paths.cafile or paths.openssl_cafile}
            return {**_HTTP, **trusted, "headers": f"Host: {url.place}\r\n", "verifyhost": url.host.strip("[]")}
    return {**_HTTP, "headers": f"Host: {url.place}\r\n"}


def _checked(url: CameraUrl) -> CameraUrl:
    """Return the address with its host resolved, once; SourceError: the host is refused, or cannot be resolved."""
    use: Use = "camera" if url.scheme.startswith("rtsp") else "http-camera"
    host = url.host.strip("[]")
    try:
        found = reachable(host, url.port or PORTS[url.scheme], use, SourceError, ASK_S)
    except (OSError, UnicodeError) as cause:
        raise SourceError(f"{url.redacted} cannot be opened: {_unreached(cause, url)}") from None
    except SourceError as error:
        raise SourceError(f"{url.redacted} cannot be opened: {error.text}", error.hint) from None
    return url if found == host else replace(url, host=f"[{found}]" if ":" in found else found)


def _hint(text: str, url: CameraUrl, transport: str) -> str:
    if url.doubtful:
        return "in user and password write @ as %40, / as %2F, ? as %3F, # as %23"
    if text.endswith(REFUSED):
        return f"the camera refuses {transport}: try `transport: {'udp' if transport == 'tcp' else 'tcp'}`"
    if url.scheme == "rtsp" and transport == "udp":
        return "does a firewall block UDP? `transport: tcp` passes"
    return f"is the camera on, and the address right, with user and password ({url.scheme}://USER:PASSWORD@HOST/PATH)?"


def _reason(error: SourceError, url: CameraUrl, there: CameraUrl) -> SourceError:
    """Return the error with a reason where FFmpeg gives none: ask the server, as a player's first request does.

    `there` is `url` with the address that was checked.
    """
    if not error.text.endswith(UNTOLD):
        return error
    place, where = (there.host.strip("[]"), url.port or PORTS[url.scheme]), _where(url)
    try:
        with socket.create_connection(place, ASK_S) as link:
            why = _answer(link, url, where) if url.scheme in ("rtsp", "rtsps") else _redirect(link, url, where)
        if not why:
            distrusted = url.scheme == "https" and not url.doubtful and _distrusted(place, url.host.strip("[]"))
            why = distrusted or "the server sends no video"
    except (OSError, UnicodeError) as cause:
        why = _unreached(cause, url)
    return SourceError(f"{url.redacted} cannot be opened: {why}", error.hint)


def _where(url: CameraUrl) -> str:
    return f"{url.host.strip('[]')}:{url.port or PORTS[url.scheme]}" if not url.doubtful else "its host"


def _unreached(cause: Exception, url: CameraUrl) -> str:
    """Return why a host does not answer, or is not known."""
    if isinstance(cause, TimeoutError):
        return f"no answer from {_where(url)} within {ASK_S:g} s"
    return f"cannot reach {_where(url)}: {getattr(cause, 'strerror', None) or cause}"


def _answer(link: socket.socket, url: CameraUrl, where: str) -> str:
    """Return what is wrong with the answer of an RTSP server. Raises OSError where it does not answer."""
    link.settimeout(ASK_S)
    link.sendall(f"OPTIONS {url.bare} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
    if link.recv(256).startswith(b"RTSP/"):
        return "the server answers, but sends no video that can be decoded"
    return f"{where} does not speak RTSP" + (" over TLS" if url.scheme == "rtsps" else "")


def _redirect(link: socket.socket, url: CameraUrl, where: str) -> str:
    """Return where an HTTP server redirects to; empty: nowhere, or it is asked over TLS. Raises OSError."""
    if url.scheme != "http" or url.doubtful:
        return ""
    link.settimeout(ASK_S)
    path = url.rest.partition("#")[0] or "/"
    link.sendall(f"GET {path} HTTP/1.1\r\nHost: {url.place}\r\nConnection: close\r\n\r\n".encode())
    found = _LOCATION.match(link.recv(4096).decode("latin-1"))
    return f"{where} redirects to {redacted(found[1])[:200]}: give that address, if it is the camera's" if found else ""


def _distrusted(place: tuple[str, int], host: str) -> str:
    """Return why the certificate of `host`, at `place`, is not accepted; empty: it is, or there is no answer."""
    try:
        with (
            socket.create_connection(place, ASK_S) as link,
            ssl.create_default_context().wrap_socket(link, server_hostname=host),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted: {error.verify_message}"
    except (OSError, UnicodeError):
        return ""
