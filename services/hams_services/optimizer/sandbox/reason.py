"""The text of a tool's error, as a part of a sentence."""

from __future__ import annotations


def reason(error: BaseException, most: int = 200) -> str:
    """Return an error's text on one line, its first `most` characters."""
    return " ".join(str(error).split())[:most]
