"""A user's credentials: one text file with the broker's certificate authority and the user's NKey seed.

`hams-ctl init` makes them. The file is as secret as its seed, so it is named in arguments and logs, never its content.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path

from hams_shared.errors import CredentialsError

log = logging.getLogger(__name__)

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.S)
_SEED = re.compile(r"-----BEGIN USER NKEY SEED-----\s*(SU[A-Z2-7]{56})\s*-{5,6}END USER NKEY SEED-{5,6}")
_USER = re.compile(r"^# HAMS credentials of (\S+)$", re.M)

_HINT = "credentials are made by `hams-ctl init`; give the file by --credentials or HAMS_CREDENTIALS"


AGENT = "agent-"
"""Prefix of the users that are a box's agents."""


@dataclass(frozen=True)
class Credentials:
    """A client's identity, and the authority of the broker's certificate."""

    user: str
    """Name of the NATS user: ``scheduler``, ``agent-box1`` …; also its inbox's name."""
    authority: str
    """PEM certificates; the broker's must be signed by one of them."""
    seed: str = field(repr=False)
    """The user's NKey seed."""
    path: Path | None = field(default=None, compare=False)
    """The file they were read from, which a connection reads again when it changes."""

    @property
    def box(self) -> str:
        """The box whose agents these are for; empty: those of another role."""
        return self.user.removeprefix(AGENT) if self.user.startswith(AGENT) else ""

    @property
    def inbox_prefix(self) -> str:
        """First part of the subjects on which this user gets answers; no other user may listen there."""
        return f"_INBOX_{self.user}"

    def tls(self) -> ssl.SSLContext:
        """A context that trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.authority)
        return context

    def to_text(self) -> str:
        """The file's content, as :func:`load` reads it."""
        return (
            f"# HAMS credentials of {self.user}\n# Keep this file secret: who has it is {self.user} to the broker.\n"
            f"{self.authority.strip()}\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.seed}\n------END USER NKEY SEED------\n"
        )


def load(path: Path, *, warn: bool = True) -> Credentials:
    """Read a credentials file; with `warn`, a warning is logged when other users may read it.

    Raises:
        CredentialsError: it is not there, not readable, or something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise CredentialsError(f"cannot read the credentials {path}: {reason}", _HINT) from None
    credentials = replace(parse(text, str(path)), path=path)
    if warn and os.name == "posix" and mode & 0o007:
        log.warning("every user of this machine may use the credentials %s: chmod o-rwx them", path)
    return credentials


def parse(text: str, what: str) -> Credentials:
    """Read the content of a credentials file, which errors call `what`.

    Raises:
        CredentialsError: it is something else.
    """
    user, seed, authority = _USER.search(text), _SEED.search(text), "".join(_CERTIFICATE.findall(text))
    missing = [
        part
        for part, found in (("the user's name", user), ("a certificate", authority), ("an NKey seed", seed))
        if not found
    ]
    if user is None or seed is None or missing:
        raise CredentialsError(f"{what} is no credentials file: it lacks {', '.join(missing)}", _HINT)
    credentials = Credentials(user[1], authority, seed[1])
    try:
        credentials.tls()
    except ssl.SSLError as error:
        raise CredentialsError(f"{what}: its certificate cannot be read: {error.reason}", _HINT) from None
    return credentials


def check_box(credentials: Credentials | None, box: str) -> None:
    """Raise CredentialsError when they are for agents of another box: the broker would reject all messages of ours."""
    if credentials is not None and credentials.box not in ("", box):
        raise CredentialsError(
            f"these credentials are for the devices of {credentials.box}, and this box is called {box}",
            f"set HAMS_HOST={credentials.box}, or make others: hams-ctl init --box {box}",
        )


VARIABLE = "HAMS_CREDENTIALS"


def of_environment() -> Credentials | None:
    """The credentials whose file ``HAMS_CREDENTIALS`` names; None when it names none. Raises as :func:`load`."""
    path = os.environ.get(VARIABLE)
    return load(Path(path)) if path else None
