"""A web address that takes events as JSON, signed as Standard Webhooks are.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. The signature is the
HMAC-SHA256 of ``ID.TIMESTAMP.BODY``, in Base64 after ``v1,``. The timestamp is that of the attempt (Unix time, s), the
id is the same in each attempt. Several secrets give several signatures, so that a secret can be replaced.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import hashlib
import hmac
import http.client
import os
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from email.message import Message
from pathlib import Path
from typing import Any

from hams_services.sinks.courier import LaterError, RefusedForGoodError
from hams_shared.errors import BadInputError, CredentialsError

ANSWER_S = 20.0
"""Longest wait for each step of a request, s; the standard recommends 15 to 30."""
FOR_NOW = (408, 425, 429)
"""Statuses below 500 that another try may change."""
SECRET = "HAMS_WEBHOOK_SECRET"
PREFIX = "whsec_"
KEY_BYTES = (24, 64)
"""Least and most bytes of a secret."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are refusals: a redirected POST becomes a GET, and loses the event."""

    def redirect_request(self, *_: Any) -> None:
        return None


def secrets_of(file: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[bytes, ...]:
    """Return the secrets in `file`, one a line, or in the environment; none: requests are not signed.

    Raises:
        CredentialsError: the file cannot be read, or a secret is none. The secret is not repeated.
    """
    where, text = f"the secret in {SECRET}", environment.get(SECRET, "")
    if file is not None:
        where = f"the secret in {file}"
        try:
            text = file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise CredentialsError(f"cannot read {where}: {reason}") from None
        if not text.split():
            raise CredentialsError(f"{where} is empty", _MAKE)
    return tuple(_secret(word, where) for word in text.split())


_MAKE = 'make one: echo "whsec_$(openssl rand -base64 32)" > secret'


def _secret(word: str, where: str) -> bytes:
    try:
        key = base64.b64decode(word.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not word.startswith(PREFIX) or not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
        raise CredentialsError(f"{where} is not {PREFIX} and 24 to 64 bytes in Base64", _MAKE)
    return key


def message_id(event_id: str) -> str:
    """Return an event's id as `webhook-id`: without dots, which separate the parts of what is signed."""
    return urllib.parse.quote(event_id, safe="").replace(".", "~") if "~" not in event_id else _digest(event_id)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def signed(keys: Sequence[bytes], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of one attempt; without `keys` there is no signature."""
    content = b"%s.%d.%s" % (id.encode(), timestamp, body)
    signatures = (b"v1," + base64.b64encode(hmac.digest(key, content, "sha256")) for key in keys)
    headers = {"webhook-id": id, "webhook-timestamp": str(timestamp), "Idempotency-Key": id}
    return headers | ({"webhook-signature": b" ".join(signatures).decode()} if keys else {})


def sendable(url: str) -> tuple[str, dict[str, str]]:
    """Return a web address as urllib takes it, and the headers that stand for its user and password (RFC 7617).

    A host's name becomes IDNA, other letters become ``%C3%A4`` (RFC 3987, 3.1).

    Raises:
        BadInputError: it is none. It is not repeated, because it may hold a secret.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
        valid = parts.scheme in ("http", "https") and host and url.isprintable() and " " not in url
    except ValueError:  # UnicodeError is one
        valid = False
    if not valid:
        raise BadInputError("this is not a web address", "for example https://example.org/hook")
    where = f"[{host}]" if ":" in host else host
    plain = parts._replace(netloc=where if port is None else f"{where}:{port}", fragment="").geturl()
    return urllib.parse.quote(plain, safe=string.punctuation), _login(parts)


def _login(parts: urllib.parse.SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    user, password = (urllib.parse.unquote(one or "") for one in (parts.username, parts.password))
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class Webhook:
    """Posts events as JSON to `url`. Raises BadInputError for what is no address of the web."""

    def __init__(self, url: str, keys: Sequence[bytes] = ()) -> None:
        self._url, self._login = sendable(url)
        self._keys = keys
        parts = urllib.parse.urlsplit(self._url)
        self.where = f"{parts.scheme}://{parts.hostname}"  # the rest may hold a secret
        self._opener = urllib.request.build_opener(_NoRedirect)

    def deliver(self, id: str, body: bytes) -> None:
        """Post one event; it blocks. Raises LaterError or RefusedForGoodError unless the receiver takes it (2xx)."""
        headers = {"Content-Type": "application/json", "User-Agent": "hams"} | self._login
        headers |= signed(self._keys, message_id(id), int(time.time()), body)
        request = urllib.request.Request(self._url, body, headers)
        try:
            with self._opener.open(request, timeout=ANSWER_S) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in FOR_NOW:
                raise RefusedForGoodError(str(error)) from None
            raise LaterError(str(error), _retry_after(error.headers)) from None
        except (OSError, http.client.HTTPException) as error:
            raise LaterError(str(error) or type(error).__name__) from None


def _retry_after(headers: Message) -> float:
    """Return what the receiver asks to wait, s; 0: nothing."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
