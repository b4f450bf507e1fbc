"""Tokens of clients that do not speak NATS: a file that names them and holds only the hash of each.

A token is 256 random bits, so that one SHA-256 of it is enough: there is nothing to guess. The file is read again when
it has changed. A file that cannot be read lets nobody in.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hams_shared.errors import BadInputError, CredentialsError, ForbiddenError, NotFoundError, UnauthenticatedError
from hams_shared.locks import wait_for_lock
from hams_shared.runtime import files
from hams_shared.runtime.process import state_folder

log = logging.getLogger(__name__)

Role = Literal["viewer", "app"]
ROLES: tuple[Role, ...] = ("viewer", "app")
"""In order: each may what those before it may. viewer: read results, events and state; app: also send images."""
PREFIX = "hams_"
LONGEST = 256
"""Of what a client may present as a token, characters."""
NAME = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$"


class Token(BaseModel):
    """One token, without the token itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    role: Role
    groups: tuple[str, ...] = ()
    """The groups it is for; empty: all."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created: float
    """Unix time, s."""
    expires: float | None = None
    """Unix time, s; None: never."""

    def allow(self, role: Role, group: str = "") -> None:
        """Raise ForbiddenError unless it may do what needs `role`, with `group` where one is named."""
        if ROLES.index(self.role) < ROLES.index(role):
            raise ForbiddenError(f"token {self.name} has the role {self.role}; this needs {role}")
        if group and self.groups and group not in self.groups:
            raise ForbiddenError(f"token {self.name} is for {', '.join(self.groups)}, not for {group}")

    def sees(self, group: str) -> bool:
        """Whether it may know of `group`."""
        return not self.groups or group in self.groups


class Tokens(BaseModel):
    """The content of a file of tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    tokens: tuple[Token, ...] = ()

    def find(self, presented: str, now: float) -> Token:
        """Return the token that `presented` is. It is compared with all, in constant time each.

        Raises:
            UnauthenticatedError: it is none of them, or has expired at `now`, Unix time.
        """
        digest = digest_of(presented)
        found = [one for one in self.tokens if hmac.compare_digest(one.sha256, digest)]
        if not found or len(presented) > LONGEST:
            raise UnauthenticatedError("the token is not known", "ask for one: hams-ctl token add NAME")
        if found[0].expires is not None and found[0].expires <= now:
            raise UnauthenticatedError(f"the token {found[0].name} has expired", "ask for another one")
        return found[0]


def digest_of(token: str) -> str:
    """Return the SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def default_path() -> Path:
    """The file that is used where none is named: ``tokens.json`` beside the state of a running HAMS."""
    return state_folder() / "tokens.json"


def read(path: Path) -> Tokens:
    """Read a file of tokens; a warning is logged when other users may read it.

    Raises:
        CredentialsError: it is not there, not readable, or no file of tokens.
    """
    try:
        data, mode = path.read_bytes(), path.stat().st_mode
        tokens = Tokens.model_validate(json.loads(data))
    except OSError as error:
        raise CredentialsError(f"cannot read the tokens {path}: {error.strerror}", _HINT) from None
    except (ValueError, RecursionError, ValidationError):
        raise CredentialsError(f"{path} is no file of tokens", _HINT) from None
    if os.name == "posix" and mode & 0o077:
        log.warning("other users of this machine may read the tokens' hashes in %s: chmod 600 it", path)
    return tokens


_HINT = "tokens are made by `hams-ctl token add`"


def add(path: Path, name: str, role: Role, groups: tuple[str, ...], lasts_s: float | None, now: float) -> str:
    """Make a token, keep its hash in `path`, and return it: it cannot be read again.

    Raises:
        BadInputError: there is one of that name, or the name cannot be one.
        CredentialsError: the file cannot be read or written.
    """
    with _alone(path):
        return _add(path, name, role, groups, lasts_s, now)


def _add(path: Path, name: str, role: Role, groups: tuple[str, ...], lasts_s: float | None, now: float) -> str:
    known = read(path) if path.exists() else Tokens()
    if any(one.name == name for one in known.tokens):
        raise BadInputError(f"there is a token {name} already", f"remove it first: hams-ctl token remove {name}")
    token = PREFIX + secrets.token_urlsafe(32)
    expires = None if lasts_s is None else now + lasts_s
    try:
        made = Token(name=name, role=role, groups=groups, sha256=digest_of(token), created=now, expires=expires)
    except ValidationError:
        raise BadInputError(f"{name!r} is no name of a token", "letters, digits, . _ and -, 64 at most") from None
    _write(path, Tokens(tokens=(*known.tokens, made)))
    return token


def remove(path: Path, name: str) -> None:
    """Take the token `name` out of `path`; who uses it is refused from then on.

    Raises:
        NotFoundError: there is none.
        CredentialsError: the file cannot be read or written.
    """
    with _alone(path):
        known = read(path)
        left = tuple(one for one in known.tokens if one.name != name)
        if len(left) == len(known.tokens):
            raise NotFoundError(f"there is no token {name}", f"there are {', '.join(t.name for t in left) or 'none'}")
        _write(path, Tokens(tokens=left))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time change `path`: two at once would lose a change. Its folder is locked, since a change
    replaces the file. Raises CredentialsError: there can be no such folder, or another process keeps it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise CredentialsError(f"cannot write the tokens {path}: {error.strerror}") from None
    try:
        try:
            wait_for_lock(folder)
        except TimeoutError as error:
            raise CredentialsError(f"cannot write the tokens {path}: {error.strerror}") from None
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP):
                raise  # those are file systems that lock no folders (NFS)
        yield
    finally:
        os.close(folder)


def _write(path: Path, tokens: Tokens) -> None:
    """Replace the file; its owner and mode stay, since a container reads it as another user than who writes it."""
    try:
        old = path.stat() if path.exists() else None
        with files.replaced(path, 0o600 if old is None else stat.S_IMODE(old.st_mode)) as file:
            file.write(tokens.model_dump_json(indent=2).encode() + b"\n")
            new = os.fstat(file.fileno())
            if old is not None and (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
    except OSError as error:
        raise CredentialsError(f"cannot write the tokens {path}: {error.strerror}") from None


Stamp = tuple[int, int, int, int] | None
AGAIN_S = 1.0
"""A file that could not be read is read again after so long, s, even if it has not changed."""


class TokenFile:
    """A file of tokens as a server uses it; it may appear, change or break while the server runs."""

    def __init__(self, path: Path, required: bool, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._required = required
        self._clock = clock
        self._stamp: Stamp = None
        self._again = float("inf")
        """When a file that could not be read is read again, monotonic time."""
        self._tokens: Tokens | None = None

    @property
    def used(self) -> bool:
        """Whether clients need a token: one is required, or the file is there (once it is, for good)."""
        self._look()
        return self._required or self._tokens is not None

    def check(self, presented: str) -> Token:
        """Return the token that `presented` is, where :attr:`used`. Raises UnauthenticatedError."""
        self._look()
        if not presented:
            raise UnauthenticatedError("a token is needed", "send `Authorization: Bearer TOKEN`")
        return (self._tokens or Tokens()).find(presented, self._clock())

    def _look(self) -> None:
        """Read the file again if it has changed."""
        try:
            found = self.path.stat()
            stamp: Stamp = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
        except (FileNotFoundError, NotADirectoryError):
            stamp = None
        except OSError as error:  # it may be there: then nobody is let in
            stamp = (error.errno or 0, 0, 0, 0)
        changed = stamp != self._stamp
        if not changed and time.monotonic() < self._again:
            return
        self._stamp, self._again = stamp, float("inf")
        try:
            self._tokens = read(self.path)
            log.info("%d tokens are known, from %s", len(self._tokens.tokens), self.path)
        except CredentialsError as error:
            self._tokens = Tokens()
            self._again = time.monotonic() + AGAIN_S
            log.log(logging.ERROR if changed else logging.DEBUG, "nobody is let in: %s", error)
