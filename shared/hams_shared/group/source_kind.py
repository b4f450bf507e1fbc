"""The kinds of a stream's ``source``: a file, a camera of some kind, or frames that applications push. Pure."""

from __future__ import annotations

from typing import Literal

from hams_shared.group.camera_url import parse

SourceKind = Literal["file", "rtsp", "http", "camera", "push"]


_KINDS: dict[str, SourceKind] = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "http": "http",
    "https": "http",
    "camera": "camera",
}
_FILES = frozenset({"file", "pypi", "zoo"})
"""Schemes of sources that are files."""


def check_source(source: str) -> None:
    """Raise ValueError, without secrets in its text, when a stream's ``source`` cannot be one."""
    if any(ord(character) < 32 for character in source):
        raise ValueError("must not hold control characters")
    scheme, colon, after = source.partition(":")
    scheme = scheme.strip().lower()
    if colon and source_kind(source) in ("rtsp", "http"):
        parse(source)
    elif after.startswith("//") and scheme not in _FILES:
        known = ", ".join(f"{name}://" for name in sorted({*_KINDS, "file"} - {"camera"}))
        raise ValueError(f"{scheme}:// is no kind of source: there are {known}, camera:0, pypi:…, push and paths")


def source_kind(source: str) -> SourceKind:
    """What a stream's ``source`` is; all but files give frames as they are made, without end."""
    scheme = source.partition(":")[0].lower() if ":" in source else ""
    if source == "push":
        return "push"
    return _KINDS.get(scheme.strip(), "file")
