"""Addresses as people may see them."""

from __future__ import annotations

import re


def redacted(url: str) -> str:
    """Return `url` without user and password."""
    return re.sub(r"//[^/@]*@", "//", url)


def is_tls(url: str) -> bool:
    """Whether the broker at `url` is to be spoken to by TLS only."""
    return url.strip().lower().startswith("tls://")
