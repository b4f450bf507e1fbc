"""What is known of an ONVIF camera, and which of its streams suit a group file. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import chain, count

from hams_shared.errors import HamsError
from hams_shared.group.camera_url import parse

LONGEST = 200
"""Longer texts of cameras are cut, characters; addresses are not."""
ENOUGH = 640
"""Width of a substream that suits most detectors, pixels."""


@dataclass(frozen=True)
class Profile:
    """One stream that a camera offers."""

    name: str
    video: str
    """Which of the device's video inputs it shows: a recorder has several."""
    width: int
    height: int
    """0: the camera does not tell."""
    fps: float | None
    codec: str
    url: str
    """RTSP address without user and password; empty: the camera gives none."""


@dataclass(frozen=True)
class OnvifCamera:
    """One device."""

    address: str
    """URL of its device service."""
    name: str = ""
    model: str = ""
    profiles: tuple[Profile, ...] = ()
    error: HamsError | None = None
    """Why it could not be asked, or not to the end."""


@dataclass(frozen=True)
class Suggestion:
    """A stream for a group file: one video input of a device."""

    name: str
    source: str
    substream: str | None


def suggestions(cameras: Iterable[OnvifCamera]) -> list[Suggestion]:
    """Return for each video input of each camera its largest stream, and as substream a smaller one if there is one.

    The substream is the smallest of at least `ENOUGH` pixels in width, else the largest below; of the same shape where
    one is. Names are those of the cameras, made fit for a group file and different.
    """
    found: dict[str, Suggestion] = {}
    for camera in cameras:
        inputs: dict[str, list[Profile]] = {}
        for profile in camera.profiles:
            if profile.url:
                inputs.setdefault(profile.video, []).append(profile)
        for offered in inputs.values():
            name = _free(_fit(camera.name), found)
            found[name] = _suggestion(name, offered)
    return list(found.values())


def _suggestion(name: str, offered: list[Profile]) -> Suggestion:
    large = max(offered, key=_area)
    small = [one for one in offered if 0 < 2 * _area(one) <= _area(large)]
    small = [one for one in small if _same_shape(one, large)] or small
    wide = [one for one in small if one.width >= ENOUGH]
    best = min(wide, key=_area) if wide else max(small, key=_area, default=None)
    return Suggestion(name, large.url, best.url if best else None)


def _fit(name: str) -> str:
    """Return a name such as group files take: ``Front door`` becomes ``front-door``."""
    fit = "-".join(re.findall(r"[a-z0-9_]+", name.lower()))
    return (fit if fit[:1].isalpha() else f"camera-{fit}" if fit else "camera")[:40]


def _free(name: str, taken: Container[str]) -> str:
    return next(one for one in chain([name], (f"{name}-{number}" for number in count(2))) if one not in taken)


def _area(profile: Profile) -> int:
    return profile.width * profile.height


def _same_shape(one: Profile, other: Profile) -> bool:
    """Return whether the ratios of width to height differ by at most a twentieth: 640×352 is 16:9."""
    return abs(one.width * other.height / (one.height * other.width) - 1) <= 0.05


def as_text(value: object) -> str:
    """Return a text of a camera without control characters, which terminals would obey."""
    text = " ".join(("" if value is None else str(value)).split())
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def stream_url(value: object, host: str) -> str:
    """Return a camera's RTSP address without user, password and secrets; empty: it is none.

    Some cameras state 0.0.0.0 or 127.0.0.1 as their host: `host` replaces it.
    """
    try:
        url = parse("".join(str(value or "").split()))
    except ValueError:
        return ""
    if url.scheme not in ("rtsp", "rtsps") or not url.rest.isprintable():
        return ""
    shown = url.redacted
    wrong = url.host if url.host == "0.0.0.0" or url.host.startswith("127.") else ""
    return shown.replace(f"://{wrong}", f"://{host}", 1) if wrong else shown
