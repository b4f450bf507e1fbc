"""Addresses as people may see them."""

from __future__ import annotations

import re


def redacted(url: str) -> str:
    """Return `url` without user and password."""
    return re.sub(r"//[^/@]*@", "//", url)
