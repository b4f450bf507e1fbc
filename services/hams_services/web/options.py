"""The options of `hams-web`, checked together: what would let strangers in is refused. Pure but for folders."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from hams_services.web.headers import is_loopback
from hams_shared.errors import BadInputError
from hams_shared.runtime.listen import host_port, own_address

DEFAULT_LISTEN = "127.0.0.1:8090"


@dataclass(frozen=True)
class WebOptions:
    """What the page is served with."""

    host: str = "127.0.0.1"
    port: int = 8090
    root_path: str = ""
    """The folder of the page's address behind a reverse proxy, such as /hams; empty: none."""
    credentials: bool = False
    """Whether the broker asks for credentials: then people log in."""
    public_view: bool = False
    """Whether everybody who reaches the page may view, without login."""
    proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies, whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    files: tuple[Path, ...] = ()
    """Folders whose files group files of the page may name; see `files`."""
    upload_mib: int = 512
    """Largest network that people may upload, MiB."""

    @property
    def url(self) -> str:
        """The page's address on this host."""
        where = host_port(own_address(self.host), self.port)
        return f"{'https' if self.tls_cert else 'http'}://{where}{self.root_path}/"

    @property
    def cookie(self) -> str:
        """The session cookie's name: cookies are shared by all ports of a host."""
        return f"hams_session_{self.port}"


def listen_address(text: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 address is in brackets. Raises BadInputError."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or not port.isascii() or not port.isdigit() or int(port) > 65535 or "[" in bare:
        raise BadInputError(f"{text!r} is not HOST:PORT", "for example 127.0.0.1:8090 or [::1]:8090")
    if ":" in bare and bare == host:
        raise BadInputError(f"{text!r}: an IPv6 address stands in brackets", f"[{host}]:{port}")
    return bare, int(port)


def prefix(text: str) -> str:
    """Return a root path as /a/b, or nothing. Raises BadInputError."""
    bare = text.strip().strip("/")
    if any(not (c.isalnum() or c in "/-_.~") for c in bare) or "//" in bare or ".." in bare:
        raise BadInputError(f"--root-path {text!r} is no path", "for example /hams")
    return f"/{bare}" if bare else ""


def check(options: WebOptions) -> None:
    """Refuse options that would open the page to strangers. Raises BadInputError."""
    where = host_port(options.host, options.port)
    if not options.credentials:
        if not is_loopback(options.host):
            raise BadInputError(
                f"without credentials hams-web listens on loopback only, not on {where}: whoever reaches it could "
                "change everything",
                "make credentials (`hams-ctl init`), and give --credentials dashboard.creds",
            )
        for given, name in ((options.proxies, "--behind-proxy"), (options.public_view, "--public-view")):
            if given:
                raise BadInputError(f"{name} needs credentials", "see `hams-ctl init`, and --credentials")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise BadInputError("--tls-cert and --tls-key belong together", "give both, or none")
    for folder in options.files:
        if not folder.is_dir():
            raise BadInputError(f"--files {folder} is no folder", "make it first, or leave it out")
    for proxy in options.proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise BadInputError(
                f"--behind-proxy {proxy!r} is no IP address or network", "for example 127.0.0.1, or 172.18.0.0/16"
            ) from None
