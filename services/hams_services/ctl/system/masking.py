"""Hides secrets in text that leaves the site. Pure.

It removes passwords from addresses (:mod:`hams_shared.group.camera_url`), the known passwords of the groups' cameras
anywhere in the text, and keys and seeds by their form.
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
ADDRESSES = frozenset({"source", "substream"})
"""The keys of a camera's addresses, whose passwords may hold any character."""
LEAST = 4
"""Shorter known passwords are hidden in addresses only: elsewhere they match ordinary words. Characters."""


def secrets_of(address: str) -> set[str]:
    """Return the possible passwords in a camera's address, in all forms that they may be written in.

    An address with several ``@`` can be parsed in more than one way; then each candidate counts.
    """
    try:
        password = camera_url.parse(address).password
    except ValueError:
        password = None
    _, colon, longest = address.partition("://")[2].rpartition("@")[0].partition(":")
    return forms_of(one for one in (password, longest if colon else None) if one)


def forms_of(secrets: Iterable[str]) -> set[str]:
    """Return all forms that `secrets` may be written in, without those that are too short to hide anywhere."""
    written = {form for one in secrets for form in (one, quote(one, safe=""), unquote(one))}
    return {one for one in written if len(one) >= LEAST}


class Mask:
    """Hides secrets; `known` ones anywhere in a text."""

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
        """Return plain values (maps, lists, texts, numbers) without secrets; `key` is the key of the value."""
        if isinstance(value, str):
            return self.text(camera_url.redacted(self.text(value)) if key in ADDRESSES else value)
        if isinstance(value, Mapping):
            return {str(name): self.value(one, str(name)) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one, key) for one in value]
        if isinstance(value, bytes):
            return f"{len(value)} bytes"
        return value
