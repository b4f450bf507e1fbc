"""Cameras at this host by names that stay. The kernel numbers /dev/video0, 1, … anew each time one is plugged in.

udev links each name in /dev/v4l/by-id (vendor, model, serial number) to the numbered device. Pure but for reading
folders: `dev` is where they are, /dev except in tests.
"""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from hams_shared.errors import SourceError

DEV = Path("/dev")
QUERYCAP, SIZE, CARD, CAPABILITIES = 0x80685600, 104, slice(16, 48), slice(88, 92)
"""VIDIOC_QUERYCAP, the size of its struct v4l2_capability, and where name and capabilities of the device are in it."""
CAPTURE = 0x1 | 0x1000
"""V4L2_CAP_VIDEO_CAPTURE, with one plane and with several."""
SETTINGS = {
    "size": ("video_size", r"[1-9]\d{0,4}x[1-9]\d{0,4}"),
    "fps": ("framerate", r"[1-9]\d{0,2}(\.\d+)?"),
    "format": ("input_format", r"[a-z0-9_]+"),
}
"""What a source may ask of its camera, as FFmpeg's option, and how it is written."""
_NUMBERED = re.compile(r"(?:/dev/video)?(\d+)")
_INDEX = re.compile(r"-video-index(\d+)$")


@dataclass(frozen=True)
class Found:
    """What to open."""

    path: str
    name: str
    """Its name in /dev/v4l/by-id; empty: it has none, or none is known."""


@dataclass(frozen=True)
class LocalCamera:
    """A camera of this host, as `hams-ctl cameras list` shows it."""

    source: str
    """For a group file: ``camera:…``, by a name that stays where it has one."""
    path: str
    """``/dev/video0``, now."""
    card: str
    """Its driver's name for it; empty: it could not be asked."""


def settings(wanted: str) -> tuple[str, dict[str, str]]:
    """Split ``NAME?size=1280x720&fps=30&format=mjpeg`` into the name and FFmpeg's options. Raises SourceError."""
    name, _, query = wanted.partition("?")
    options = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        option, pattern = SETTINGS.get(key, ("", ""))
        if not option or not re.fullmatch(pattern, value):
            raise SourceError(
                f"camera {wanted} cannot be opened: {part}", "there are size=1280x720, fps=30, format=mjpeg"
            )
        options[option] = value
    return name, options


def find(wanted: str, known: str = "", dev: Path = DEV) -> Found:
    """Return the device for what stands after ``camera:`` in a source.

    `wanted` is a number, a path, or a part of a name in /dev/v4l/by-id. `known` is the name that this source had when
    it was opened before: a numbered camera is found by it under another number.

    Raises:
        SourceError: there is none, or several names fit.
    """
    numbered = _NUMBERED.fullmatch(wanted)
    if numbered is None:
        return Found(wanted, "") if wanted.startswith("/") else _by_name(wanted, dev)
    path = dev / f"video{int(numbered[1])}"
    names = _names(dev, "by-id")
    if not known:
        return Found(str(path), _name_of(path, names))
    if known not in names:
        other = _name_of(path, names)
        hint = f"{path} is another camera now: camera:{other}" if other else "plug it in again"
        raise SourceError(f"camera {wanted} cannot be opened: {known} is not plugged in", hint)
    return Found(str(names[known]), known)


def _by_name(wanted: str, dev: Path) -> Found:
    """Return the device whose name is or holds `wanted`; of several devices of one camera the first."""
    names = _names(dev, "by-id")
    fitting = [wanted] if wanted in names else sorted(name for name in names if wanted.lower() in name.lower())
    if not fitting:
        there = f"there are {', '.join(sorted(names))}" if names else f"{dev}/v4l/by-id holds none"
        raise SourceError(f"camera {wanted} cannot be opened: no camera has this name", there)
    if len({_INDEX.sub("", name) for name in fitting}) > 1:
        raise SourceError(f"camera {wanted} is ambiguous", f"it may be {', '.join(fitting)}")
    name = min(fitting, key=_index)
    return Found(str(names[name]), name)


def cameras(dev: Path = DEV) -> list[LocalCamera]:
    """Return all cameras of this host, by path. Devices that give no pictures (metadata) are left out."""
    by_id, by_path = _names(dev, "by-id"), _names(dev, "by-path")
    found = []
    for path in sorted(dev.glob("video[0-9]*"), key=lambda path: (len(path.name), path.name)):
        card, captures = ask(path)
        if captures:
            stable = _name_of(path, by_id) or ((name := _name_of(path, by_path)) and f"{dev}/v4l/by-path/{name}")
            found.append(LocalCamera(f"camera:{stable or path}", str(path), card))
    return found


def ask(path: Path) -> tuple[str, bool]:
    """Return the driver's name for a device, and whether it gives pictures: yes where it cannot be asked."""
    answer = bytearray(SIZE)
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(device, QUERYCAP, answer)
        finally:
            os.close(device)
    except OSError:
        return "", True
    card = bytes(answer[CARD]).split(b"\0")[0].decode(errors="replace")
    return card, bool(int.from_bytes(answer[CAPABILITIES], "little") & CAPTURE)


def _names(dev: Path, kind: str) -> dict[str, Path]:
    """Return the names of cameras, with the numbered device that each is linked to now."""
    folder = dev / "v4l" / kind
    try:
        links = sorted(os.listdir(folder))
    except OSError:
        return {}
    targets = {name: Path(os.path.realpath(folder / name)) for name in links}
    return {name: path for name, path in targets.items() if path.exists()}


def _name_of(path: Path, names: dict[str, Path]) -> str:
    real = Path(os.path.realpath(path))
    return next((name for name, target in names.items() if target == real), "")


def _index(name: str) -> int:
    found = _INDEX.search(name)
    return int(found[1]) if found else 0
