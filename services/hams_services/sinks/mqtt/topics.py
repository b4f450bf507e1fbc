"""Names of the MQTT topics. Pure.

    <base>/status                                         online, offline: whether the rest is current
    <base>/<group>/bridge                                 where the bridge reads on, and the tracks that are open
    <base>/<group>/<stream>/event                         each event, JSON; the only topic that is not retained
    <base>/<group>/<stream>/availability                  online while the stream plays
    <base>/<group>/<stream>/state, fps, latency_ms        how the stream runs
    <base>/<group>/<stream>/snapshot                      JPEG
    <base>/<group>/<stream>/occupancy, count              of the whole picture
    <base>/<group>/<stream>/label/<label>/occupancy, count
    <base>/<group>/<stream>/zone/<zone>/occupancy, count
    <base>/<group>/<stream>/zone/<zone>/label/<label>/occupancy, count
    <base>/<group>/<stream>/line/<line>/in, out           tracks that crossed it since the stream began
    <discovery>/device/<id>/config                        for Home Assistant

MQTT forbids ``+``, ``#`` and NUL in a topic, and ``/`` separates its levels (MQTT 3.1.1, 4.7). In a name they are
written as in a URL: ``%2B``, ``%23``, ``%2F``; so is ``%``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from hams_shared.errors import BadInputError

STATUS, BRIDGE, CONFIG = "status", "bridge", "config"
ONLINE, OFFLINE = b"online", b"offline"
LONGEST = 120
"""Characters of an escaped name; what is longer is cut and gets a digest."""

_PLACE = r"(?:zone/[^/]+/)?(?:label/[^/]+/)?(?:occupancy|count)"
_OWN = re.compile(
    rf"{STATUS}|[^/]+/{BRIDGE}|[^/]+/[^/]+/(?:availability|state|fps|latency_ms|snapshot|{_PLACE}|line/[^/]+/(?:in|out))"
)


def escape(name: str) -> str:
    """Return `name` as one level of a topic; different names stay different."""
    text = "".join(f"%{ord(c):02X}" if c in "+#/%" or not c.isprintable() else c for c in name) or "%"
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 9]}%{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def identifier(*names: str) -> str:
    """Return names as one id of letters, digits, ``_`` and ``-``, which is all that a discovery topic takes."""
    text = "_".join(names)
    kept = re.sub(r"[^a-zA-Z0-9_-]", "_", text)
    ambiguous = kept != text or len(kept) > LONGEST or any("_" in name for name in names)
    return f"{kept[:LONGEST]}_{_digest('/'.join(map(escape, names)))}" if ambiguous else kept


def check_prefix(text: str, what: str) -> str:
    """Return a base topic without slashes around it. Raises BadInputError for one that MQTT does not take."""
    plain = text.strip("/")
    levels = plain.split("/")
    if not plain or len(plain) > 200 or not plain.isprintable() or re.search(r"[+#]|^\$", plain) or "" in levels:
        raise BadInputError(f"{text!r} is no {what}", "one or more words without + and #, as hams or home/hams")
    return plain


@dataclass(frozen=True)
class Topics:
    """The topics below `base`, and those of discovery below `discovery`; empty: there is no discovery."""

    base: str = "hams"
    discovery: str = "homeassistant"

    @property
    def status(self) -> str:
        """Whether what is below the base topic is current."""
        return f"{self.base}/{STATUS}"

    @property
    def birth(self) -> str:
        """Where Home Assistant reports that it has started."""
        return f"{self.discovery}/status"

    @property
    def site(self) -> str:
        """What begins all ids of this bridge: those of one with another base topic are others."""
        return identifier(*self.base.split("/"))

    def bridge(self, group: str) -> str:
        """Where the bridge reads a group's events on."""
        return f"{self.base}/{escape(group)}/{BRIDGE}"

    def of(self, group: str, stream: str, *levels: str) -> str:
        """Return a topic of a stream."""
        return "/".join((self.base, escape(group), escape(stream), *map(escape, levels)))

    def config(self, group: str, stream: str) -> str:
        """Return the discovery topic of a stream, which is a device in Home Assistant."""
        return f"{self.discovery}/device/{identifier(self.site, group, stream)}/{CONFIG}"

    def is_config(self, topic: str) -> bool:
        """Whether it is the discovery topic of a device, of this bridge or of another program."""
        return (
            bool(self.discovery)
            and re.fullmatch(rf"{re.escape(self.discovery)}/device/[^/]+/{CONFIG}", topic) is not None
        )

    def is_own(self, topic: str) -> bool:
        """Whether it is one that this bridge retains below its base topic."""
        return topic.startswith(f"{self.base}/") and _OWN.fullmatch(topic[len(self.base) + 1 :]) is not None

    def subscriptions(self) -> list[str]:
        """Return the filters that match everything a bridge with this base topic may have retained."""
        return [f"{self.base}/#", *([f"{self.discovery}/device/+/{CONFIG}"] if self.discovery else [])]
