"""Who has logged in: sessions, what their role may do on the page, and how they end. Pure.

A user of the broker (docs/security.md) has one right on the page. Each right includes those before it; the broker
itself enforces what a session sends, since each session has a connection with its own credentials.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from hams_shared.errors import CredentialsError, OverloadedError

Right = Literal["none", "view", "send", "change"]
"""view: see everything; send: also images and frames; change: also deploy, jobs, what-if."""

ROLES: dict[str, tuple[str, Right]] = {
    "dashboard": ("viewer", "view"),
    "app": ("app", "send"),
    "admin": ("admin", "change"),
}
"""By user of the broker: the role's name on the page, and its right."""

IDLE_S = 1800.0
"""A session ends when its browser has sent nothing for this long, s; an open page sends."""
LONGEST_S = 12 * 3600.0
"""A session ends after this long in any case, s."""
MOST = 64
"""Most sessions at a time: each holds a connection to the broker."""


@dataclass(frozen=True)
class Session:
    """One login. `csrf` goes with each changing request, in a header that other sites cannot set."""

    id: str = field(repr=False)
    csrf: str = field(repr=False)
    user: str
    role: str
    right: Right
    began: float
    """Monotonic time, s; as `seen`, that of the last request."""
    seen: float


def right_of(user: str) -> tuple[str, Right]:
    """Return the role and right of a user of the broker. Raises CredentialsError for those of parts of HAMS."""
    try:
        return ROLES[user.partition("-")[0]]  # an application with a key of its own: app-door
    except KeyError:
        raise CredentialsError(
            f"these are the credentials of {user}, a part of HAMS",
            "log in with dashboard.creds, app.creds or admin.creds",
        ) from None


def may(have: Right, need: Right) -> bool:
    """Whether the right `have` includes `need`."""
    order = get_args(Right)
    return order.index(have) >= order.index(need)


def same(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(), expected.encode())


class Sessions:
    """The sessions that last. The ids and tokens come from the caller, as does `now`."""

    def __init__(self, most: int = MOST, idle_s: float = IDLE_S, longest_s: float = LONGEST_S) -> None:
        self._most, self._idle_s, self._longest_s = most, idle_s, longest_s
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, id: str, csrf: str, user: str, now: float) -> Session:
        """Return a new session of `user`.

        Raises:
            CredentialsError: the user is a part of HAMS.
            OverloadedError: as many last as may.
        """
        role, right = right_of(user)
        if len(self._sessions) >= self._most:
            raise OverloadedError(f"{self._most} people are logged in already", "try again later, or log out elsewhere")
        session = self._sessions[id] = Session(id, csrf, user, role, right, began=now, seen=now)
        return session

    def find(self, id: str, now: float) -> Session | None:
        """Return a session that lasts; from now on it lasts for the whole idle time again."""
        session = self._sessions.get(id)
        if session is None or self._over(session, now):
            return None
        session = self._sessions[id] = replace(session, seen=now)
        return session

    def end(self, id: str) -> None:
        """End a session; no error when there is none."""
        self._sessions.pop(id, None)

    def expire(self, now: float) -> list[str]:
        """End the sessions whose time is over, and return their ids."""
        over = [session.id for session in self._sessions.values() if self._over(session, now)]
        for id in over:
            del self._sessions[id]
        return over

    def _over(self, session: Session, now: float) -> bool:
        return now - session.seen >= self._idle_s or now - session.began >= self._longest_s
