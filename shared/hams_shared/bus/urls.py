"""Addresses of brokers."""

from __future__ import annotations

from hams_shared.group import camera_url


def redacted(urls: str) -> str:
    """Return broker addresses, separated by commas, without users and passwords."""
    return ",".join(
        camera_url.redacted(url) if "://" in url else url.rpartition("@")[2]  # a password may hold a comma
        for url in urls.split(",")
    )


def for_child(urls: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return arguments and environment by which a child process gets the broker's addresses.

    Those with a password are no argument: other users of the host can read arguments.
    """
    return (("--nats", urls), {}) if redacted(urls) == urls else ((), {"HAMS_NATS_URL": urls})


def is_tls(url: str) -> bool:
    """Whether the broker at `url` is to be spoken to by TLS only."""
    return url.strip().lower().startswith("tls://")
