"""Addresses of cameras, one parser for all: to connect, and to show without their secrets. Pure.

People paste passwords as they are, with ``@``, ``/``, ``#`` or ``]`` in them, or percent-encoded; both are understood.
User and password end at the last ``@`` before the path. If the part before the path is no host, the password holds a
``/``, ``?`` or ``#`` itself, and ends at the first later ``@`` that a host follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from hams_shared.errors import SourceError

_SCHEME = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.S)
_LOOKS_LIKE_URL = re.compile(r"\s*(rtsps?|https?|rtmps?|srt|udp|tcp)\s*:", re.I)
_HOST = re.compile(r"(\[[0-9a-fA-F:.%a-zA-Z]+\]|[^\s:/?#@\[\]%]+)(?::([0-9]{1,5}))?(?=[/?#]|$)")
_NAME = re.compile(r"([^=&;#?/|]*)=")
_SECRET_NAME = re.compile(
    r"(?i)pass|psw|pwd|loginpas|token|auth|secret|key|sig|cred|session|jwt|bearer|^(p|pw|pin|sid|code|access|hash|login)$"
)
_NEXT = re.compile(r"[&;|](?=[^&;|=]+=)|$")
"""Where a secret ends: before the next name. What has no name may belong to it, a fragment also."""
_LOGIN = re.compile(r"(?i)(?<=[=?&])[^=?&]*?(?::|%3a)[^&]*(?:@|%40)")
"""User and password of an address within a query."""
_NO_SCHEME = re.compile(r"[^/\s]*[:：].*@", re.S)
"""``user:password@`` where the scheme was forgotten or is written wrongly."""
HIDDEN = "***"


def _without_secrets(rest: str) -> str:
    """Hide secrets by their names, in paths too: some cameras take ``/user=a_password=b``."""
    parts, at = [], 0
    for found in _NAME.finditer(rest):
        if found.start() >= at and _SECRET_NAME.search(unquote(found[1])):
            parts += [rest[at : found.end()], HIDDEN]
            end = _NEXT.search(rest, found.end())
            at = end.start() if end else len(rest)
    return _LOGIN.sub(f"{HIDDEN}@", "".join(parts) + rest[at:])


@dataclass(frozen=True)
class CameraUrl:
    """An address in its parts; user and password are decoded."""

    scheme: str
    """Lower case."""
    user: str | None
    password: str | None
    host: str
    """A name, an address, or ``[…]``."""
    port: int | None
    rest: str
    """Path and query, as written."""

    @property
    def bare(self) -> str:
        """The address without user and password."""
        return f"{self.scheme}://{self.place}{self.rest}"

    @property
    def place(self) -> str:
        """Host and, if one was given, port."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def full(self) -> str:
        """The address with user and password, percent-encoded."""
        if self.user is None:
            return self.bare
        secret = quote(self.user, safe="") + ("" if self.password is None else ":" + quote(self.password, safe=""))
        return f"{self.scheme}://{secret}@{self.place}{self.rest}"

    @property
    def doubtful(self) -> bool:
        """Whether the host may be a part of the password, which a later ``@`` ends: ``user:12/34@host``."""
        return "@" in self._perhaps_secret

    @property
    def _perhaps_secret(self) -> str:
        """What follows the host, without its query where an ``@`` in that proves nothing."""
        whole = self.user is not None or not self.rest.startswith("/")
        return self.rest if whole else self.rest.partition("?")[0]

    @property
    def redacted(self) -> str:
        """The address as people may see it: no user, no password, no secrets in the query.

        Where a later ``@`` may end a password (``user:12/34@host``, ``user:1?3@host``, ``user:a@b#c@host``), only what
        follows it.
        """
        if self.doubtful:
            return f"{self.scheme}://{HIDDEN}@{_without_secrets(self._perhaps_secret.rpartition('@')[2])}"
        return f"{self.scheme}://{self.place}{_without_secrets(self.rest)}"


def parse(text: str) -> CameraUrl:
    """Take an address apart. Raises ValueError, without the address in its text, when it is none."""
    found = _SCHEME.fullmatch(text)
    if found is None:
        raise ValueError("not an address of the form SCHEME://HOST/PATH")
    scheme, after = found[1].lower(), found[2].rstrip()
    secret, place = _split(after)
    host = _HOST.match(place)
    if host is None or (host[2] is not None and int(host[2]) > 65535):
        raise ValueError(
            "no host can be found in it; in user and password write @ as %40, / as %2F, # as %23, ? as %3F, ] as %5D"
        )
    user, colon, password = secret.partition(":") if secret is not None else ("", "", "")
    return CameraUrl(
        scheme,
        unquote(user) if secret is not None else None,
        unquote(password) if colon else None,
        host[1],
        int(host[2]) if host[2] else None,
        place[host.end() :],
    )


def parsed(text: str) -> CameraUrl:
    """As :func:`parse`, for a source that is to be opened. Raises SourceError, without secrets in its text."""
    try:
        return parse(text)
    except ValueError as error:
        raise SourceError(f"{redacted(text)} cannot be opened: {error}") from None


def _split(after: str) -> tuple[str | None, str]:
    """User and password, and what follows."""
    authority = re.split(r"[/?#]", after, maxsplit=1)[0]
    if "@" in authority:
        secret, _, _ = authority.rpartition("@")
        return secret, after[len(secret) + 1 :]
    plain = _HOST.match(after) is not None
    if plain and not after[len(authority) :].startswith("#"):
        return None, after
    for at in (i for i, c in enumerate(after) if c == "@"):
        if _HOST.match(after, at + 1):
            return after[:at], after[at + 1 :]
    return None, after


def redacted(text: str) -> str:
    """Return `text`, an address or anything else, as people may see it; an address that cannot be parsed is hidden."""
    if "://" not in text and not _LOOKS_LIKE_URL.match(text):
        return _NO_SCHEME.sub(f"{HIDDEN}@", text)
    try:
        return parse(text).redacted
    except ValueError:
        return f"{text.strip().partition(':')[0]}:{HIDDEN}"
