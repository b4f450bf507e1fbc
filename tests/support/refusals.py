"""A broker that refuses a connection, and why: a client learns it within its deadline, or takes it for no broker."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import BrokerError, CredentialsError
from hams_shared.runtime.credentials import Credentials

DEADLINES_S = (3.0, 10.0, 30.0)
"""A refusal is reported at the deadline only, so it is short at first; a slow machine may need the last."""


async def turned_away(url: str, said: str, credentials: Credentials | None = None) -> None:
    """Expect that the brokers at `url` refuse `credentials` for the reason `said`, a pattern."""
    await client_turned_away(lambda deadline: NatsBus(url, credentials=credentials, connect_timeout=deadline), said)


async def client_turned_away(client: Callable[[float], AbstractAsyncContextManager[object]], said: str) -> None:
    """Expect that a client, made for a deadline in s, is refused for the reason `said`, a pattern."""
    for deadline in DEADLINES_S:
        try:
            async with client(deadline):
                raise AssertionError("the broker takes a connection that it should refuse")
        except CredentialsError as error:
            assert re.search(said, str(error)), error
            return
        except BrokerError as error:
            late = error
    raise late
