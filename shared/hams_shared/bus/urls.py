"""Addresses of brokers."""

from __future__ import annotations

from hams_shared.group import camera_url


def redacted(urls: str) -> str:
    """Return broker addresses, separated by commas, without users and passwords."""
    return ",".join(
        camera_url.redacted(url) if "://" in url else url.rpartition("@")[2]  # a password may hold a comma
        for url in urls.split(",")
    )


def host_port(host: str, port: int) -> str:
    """Return HOST:PORT as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_tls(url: str) -> bool:
    """Whether the broker at `url` is to be spoken to by TLS only."""
    return url.strip().lower().startswith("tls://")
