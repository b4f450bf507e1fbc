"""Which keys the broker accepts for each user: the present one, the next of a rotation, old ones, or none. Pure.

A rotation has four steps, and an interrupted one is continued from its files:

    1. `begin`   USER.creds.next holds a new key; the broker accepts it beside the present one
    2. `switch`  USER.creds holds the new key, and parts read it; the broker still accepts the old one
    3.           no connection uses the old key any more
    4. `finish`  the broker refuses the old key
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hams_services.security.roles import LEAF, NAMED
from hams_shared.errors import BadInputError, NotFoundError, RefusedError
from hams_shared.runtime.credentials import AGENT

SYSTEM = "system"
"""The user by whom `hams-ctl credentials` asks brokers for their connections, and to read their users again."""
KEPT = ("admin", SYSTEM)
"""Users without whom nobody could administer the site."""


class Keyring(BaseModel):
    """What `credentials.json` holds: public keys only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    old: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By user: keys before the present one, which the broker still accepts."""
    revoked: dict[str, float] = Field(default_factory=dict)
    """By user: since when it has no key, Unix time, s."""

    def switched(self, user: str, old_key: str) -> Keyring:
        """Return the keyring after `user` got a new key in place of `old_key`, which stays valid."""
        return self._with(user, (*self.old.get(user, ()), old_key))

    def finished(self, user: str) -> Keyring:
        """Return the keyring without old keys of `user`."""
        return self._with(user, ())

    def without(self, user: str, now: float) -> Keyring:
        """Return the keyring in which `user` has no key.

        Raises:
            RefusedError: nobody could administer the site.
        """
        if user in KEPT:
            raise RefusedError(
                f"{user} cannot be revoked: nobody could administer the site",
                f"give it a new key: hams-ctl credentials rotate {user} --now",
            )
        return self._with(user, ()).model_copy(update={"revoked": {**self.revoked, user: now}})

    def with_again(self, user: str) -> Keyring:
        """Return the keyring in which `user` may have a key."""
        return self.model_copy(update={"revoked": {one: at for one, at in self.revoked.items() if one != user}})

    def _with(self, user: str, keys: tuple[str, ...]) -> Keyring:
        others = {one: old for one, old in self.old.items() if one != user}
        return self.model_copy(update={"old": {**others, user: keys} if keys else others})

    def check_known(self, user: str, users: list[str]) -> None:
        """Raise NotFoundError unless `user` is among `users`, those with a key."""
        if user in users:
            return
        if user in self.revoked:
            again = "init --leaf HOST" if user.startswith(LEAF) else f"credentials add {user}"
            raise NotFoundError(f"{user} is revoked", f"make new credentials: hams-ctl {again}")
        raise NotFoundError(f"there are no credentials of {user}", f"there are {', '.join(users)}")


def check_name(user: str, fixed: list[str]) -> None:
    """Raise BadInputError unless `user` is one of the `fixed` users or a name such as ``agent-box2``, ``app-door``."""
    kind, dash, name = user.partition("-")
    if user in fixed or (dash and name and f"{kind}-" in (AGENT, *NAMED)):
        return
    if user.startswith(LEAF) and name:
        raise BadInputError(
            f"{user} is a leaf's broker: `hams-ctl init` makes its key with its folder",
            "hams-ctl init --leaf HOST, where HOST is the name or address of its box, also if it was revoked",
        )
    raise BadInputError(
        f"{user!r} is no user of a broker",
        "agent-BOX for the devices of a box, app-NAME for an application, dashboard-NAME for one that only reads",
    )
