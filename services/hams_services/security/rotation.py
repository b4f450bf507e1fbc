"""Changes of a site's users in its folder: each step leaves files with which a broker and `init` can go on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hams_services.security.folder import NEXT, keyring, public_key, set_up_site, write_keyring, write_new
from hams_services.security.keyring import SYSTEM, Keyring, check_name
from hams_services.security.roles import LEAF, roles
from hams_shared.errors import BadInputError, RefusedError
from hams_shared.runtime.credentials import AGENT, load

State = Literal["valid", "rotating", "revoked"]
FIXED = [role.user for role in roles([])]


@dataclass(frozen=True)
class UserKeys:
    """One user of the site."""

    user: str
    state: State
    key: str
    """The present public key; empty: none."""
    old: tuple[str, ...]
    """Keys before it that the broker still accepts."""
    since: float
    """When the present key was made, or the user was revoked; Unix time, s."""


class Folder:
    """A folder that `hams-ctl init` made. Every method may raise BadInputError: it is none, or a file is damaged."""

    def __init__(self, path: Path, max_payload: int) -> None:
        self.path = path.expanduser().absolute()
        self._max_payload = max_payload
        if not (self.path / "authority.key").is_file():
            raise BadInputError(
                f"{path} holds no authority.key", "name the folder that `hams-ctl init` made, with --dir"
            )

    def creds(self, user: str) -> Path:
        """The credentials file of `user`."""
        return self.path / f"{user}.creds"

    def following(self, user: str) -> Path:
        """The file of the key that will replace the user's."""
        return self.creds(user).with_suffix(NEXT)

    def boxes(self) -> list[str]:
        """Folders of a cluster's boxes, which have to be copied after each change."""
        return [f"{kind}/{one.name}" for kind in ("cluster", "leaf") for one in sorted((self.path / kind).glob("*"))]

    def users(self) -> list[UserKeys]:
        """Return all users, those that have no key any more last."""
        ring = keyring(self.path)
        found = []
        for path in sorted(self.path.glob("*.creds"), key=lambda path: (path.stem not in FIXED, path.stem)):
            old = ring.old.get(path.stem, ())
            state: State = "rotating" if old or self.following(path.stem).exists() else "valid"
            found.append(UserKeys(path.stem, state, public_key(load(path).seed), old, path.stat().st_mtime))
        return [*found, *(UserKeys(user, "revoked", "", (), at) for user, at in sorted(ring.revoked.items()))]

    def names(self) -> list[str]:
        """Users that have a key."""
        return [one.user for one in self.users() if one.key]

    def check(self, user: str) -> None:
        """Raise NotFoundError unless `user` has a key."""
        keyring(self.path).check_known(user, self.names())

    def add(self, user: str) -> None:
        """Make a key for a new user, or for one that was revoked.

        Raises:
            BadInputError: it cannot be a user's name.
            RefusedError: it has a key.
        """
        check_name(user, FIXED)
        if self.creds(user).exists():
            raise RefusedError(f"{user} has credentials", f"for a new key: hams-ctl credentials rotate {user}")
        self._change(lambda ring: ring.with_again(user))
        if user not in FIXED and not user.startswith(AGENT):
            write_new(self.creds(user), user, (self.path / "broker" / "ca.crt").read_text())
        boxes = [user.removeprefix(AGENT)] if user.startswith(AGENT) else []
        self._apply(boxes)

    def begin(self, user: str) -> None:
        """Make the next key of `user`, unless there is one; the broker is to accept both.

        Raises NotFoundError: it has no key. RefusedError: it is a leaf's broker.
        """
        self.check(user)
        if user.startswith(LEAF):  # it takes a new key only by its folder, and no broker tells which one it uses
            raise RefusedError(
                f"the key of {user}, a leaf's broker, cannot be rotated without a pause",
                f"hams-ctl credentials revoke {user}, then hams-ctl init --leaf HOST, and copy the new folder to it",
            )
        if not self.following(user).exists():
            write_new(self.following(user), user, (self.path / "broker" / "ca.crt").read_text())
        self._apply()

    def switch(self, user: str) -> None:
        """Put the next key in place of the present one, which stays valid."""
        following, present = self.following(user), self.creds(user)
        text = following.read_bytes()
        old = public_key(load(present).seed)
        if old != public_key(load(following).seed):
            self._change(lambda ring: ring.switched(user, old))
            _overwrite(present, text)
        following.unlink()
        self._apply()

    def finish(self, user: str) -> None:
        """Let the old keys of `user` be refused."""
        self._change(lambda ring: ring.finished(user))
        self._apply()

    def revoke(self, user: str, now: float) -> None:
        """Delete the keys of `user`, and the folder of a leaf.

        Raises NotFoundError: it has none. RefusedError: it is needed.
        """
        self.check(user)
        self._change(lambda ring: ring.without(user, now))
        for path in (self.creds(user), self.following(user)):
            path.unlink(missing_ok=True)
        self._apply()

    def in_rotation(self, user: str) -> bool:
        """Whether the broker still accepts an old key of `user`."""
        return bool(keyring(self.path).old.get(user))

    def _change(self, change: Callable[[Keyring], Keyring]) -> None:
        write_keyring(self.path, change(keyring(self.path)))

    def _apply(self, boxes: list[str] | None = None) -> None:
        """Write the brokers' lists of users."""
        set_up_site(self.path, [], boxes or [], max_payload=self._max_payload)


def _overwrite(path: Path, data: bytes) -> None:
    """Write over a credentials file: replaced by another file, a container that mounts it would keep the old one.

    Its readers ignore one that is half written; the owner and mode stay.
    """
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


__all__ = ["FIXED", "SYSTEM", "Folder", "UserKeys"]
