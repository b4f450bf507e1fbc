"""An event in a few words, for people; and texts with its fields in braces. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from hams_client import Event
from hams_shared.errors import BadInputError

SENTENCES: dict[str, str] = {
    "new": "{group}: {label} appeared",
    "update": "{group}: {label} is there since {age} s",
    "end": "{group}: {label} is gone after {age} s",
    "zone_entered": "{group}: {label} entered {zone}",
    "zone_left": "{group}: {label} left {zone} after {dwell} s",
    "zone_dwell": "{group}: {label} stayed {dwell} s in {zone}",
    "line_crossed": "{group}: {label} crossed {line} ({direction})",
    "rule": "{group}: {rule}: {label}{in_zones}, {age} s",
}

_FIELD = re.compile(r"\{(\w*)\}")

FIELDS: dict[str, Callable[[Event], str]] = {
    "group": lambda event: event.group,
    "stream": lambda event: event.stream,
    "kind": lambda event: event.kind,
    "label": lambda event: event.label or "object",
    "track": lambda event: str(event.track),
    "score": lambda event: f"{event.score:.2f}",
    "age": lambda event: f"{event.age_s:.0f}",
    "zone": lambda event: event.zone,
    "zones": lambda event: ", ".join(event.zones),
    "in_zones": lambda event: f" in {', '.join(event.zones)}" if event.zones else "",
    "dwell": lambda event: f"{event.dwell_s:.0f}",
    "line": lambda event: event.line,
    "direction": lambda event: event.direction,
    "rule": lambda event: event.rule,
    "reason": lambda event: event.reason,
    "id": lambda event: event.id,
}
"""What may stand in braces."""


def sentence(event: Event) -> str:
    """Return what happened, as ``yard: person stayed 10 s in entrance``."""
    return fill(SENTENCES[event.kind], event)


def check_template(text: str) -> str:
    """Return `text`. Raises BadInputError for a field in braces that no event has."""
    for name in _FIELD.findall(text):
        if name not in FIELDS and name != "text":
            known = ", ".join(["text", *FIELDS])
            raise BadInputError(f"no event has the field {{{name}}}", f"there are {known}")
    return text


def fill(template: str, event: Event) -> str:
    """Return `template` with the fields of an event; ``{text}`` is its sentence."""
    return _FIELD.sub(lambda found: sentence(event) if found[1] == "text" else FIELDS[found[1]](event), template)
