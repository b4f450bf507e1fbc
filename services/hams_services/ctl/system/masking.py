"""Secrets taken out of text that leaves the site. Pure.

Addresses lose their passwords (:mod:`hams_shared.group.camera_url`); passwords that are known from the groups'
sources are hidden wherever they stand; keys and seeds are hidden by their form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from hams_shared.group import camera_url
from hams_shared.group.camera_url import HIDDEN

_ADDRESS = re.compile(r"""[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>|\\]+""")
_FORMS = (
    re.compile(r"-----BEGIN [^-]*(?:PRIVATE KEY|SEED)-----.*?(?:-----END [^-]*-----+|\Z)", re.S),
    re.compile(r"\bS[ACNOUX][A-Z2-7]{56}\b"),  # seeds of NKeys
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),  # JSON web tokens
)
_NAMED = re.compile(
    r"""(?i)((?:pass(?:word|wd|phrase)?|pwd|secret|token|api_?key|authorization)["']?\s*[=:]\s*["']?)"""
    r"""((?:(?:basic|bearer)\s+)?[^\s"',;&}\])]+)"""
)
SOURCE = "source"
"""Key under which an address of a camera stands, whatever its password holds."""
LEAST = 4
"""Known passwords of fewer characters are hidden in addresses only: elsewhere they would hide ordinary words."""


def secrets_of(source: str) -> set[str]:
    """What may be the password in a stream's source, as it may be written.

    An address with several ``@`` can be read in more than one way; then all that may be the password counts.
    """
    try:
        password = camera_url.parse(source).password
    except ValueError:
        password = None
    _, colon, longest = source.partition("://")[2].rpartition("@")[0].partition(":")
    found = {one for one in (password, longest if colon else None) if one}
    written = {form for one in found for form in (one, quote(one, safe=""), unquote(one))}
    return {one for one in written if len(one) >= LEAST}


class Mask:
    """Hides secrets; `known` are hidden wherever they stand."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = sorted(set(known), key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        for known in self._known:
            text = text.replace(known, HIDDEN)
        text = _ADDRESS.sub(lambda found: camera_url.redacted(found[0]), text)
        for form in _FORMS:
            text = form.sub(HIDDEN, text)
        return _NAMED.sub(lambda found: found[1] + HIDDEN, text)

    def value(self, value: Any, key: str = "") -> Any:
        """Return plain values (maps, lists, texts, numbers) without secrets; `key` is what the value stands under."""
        if isinstance(value, str):
            return self.text(camera_url.redacted(self.text(value)) if key == SOURCE else value)
        if isinstance(value, Mapping):
            return {str(name): self.value(one, str(name)) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one, key) for one in value]
        if isinstance(value, bytes):
            return f"{len(value)} bytes"
        return value
