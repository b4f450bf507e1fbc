"""Brokers as `hams-ctl credentials` uses them: whose connections they have, and that they read their users again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hams_services.security.rotation import SYSTEM, Folder
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.nats.errors import no_broker
from hams_shared.bus.protocol import Message
from hams_shared.bus.urls import redacted
from hams_shared.errors import BrokerError, CredentialsError, DeadlineError
from hams_shared.runtime.credentials import load
from hams_shared.runtime.listen import broker_listens
from hams_shared.runtime.runfile import running_broker

ASK_S = 2.0
"""How long brokers may take to answer, s."""
LEARN_S = 20.0
"""How long a broker that was signalled may take to read its users, s."""
MOST = 65536
"""Most connections of a broker that are looked at."""


@dataclass(frozen=True)
class Use:
    """Connections that use one public key."""

    key: str
    where: str
    """The client's name and address."""


class Servers:
    """The brokers at `url`, asked as the system's user. Use as an async context manager.

    Entering raises:
        CredentialsError: they do not know that user yet, or are not of this site.
        BrokerError: there is none.
    """

    def __init__(self, url: str, folder: Folder) -> None:
        self._url = url
        self._bus = NatsBus(url, name="hams-ctl", credentials=load(folder.creds(SYSTEM)))
        self._ids: list[str] = []

    async def __aenter__(self) -> Servers:
        await _check_listening(self._url)
        await self._bus.__aenter__()
        try:
            self._ids = await self._find()
        except BaseException:
            await self._bus.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._bus.__aexit__(*exc)

    def __len__(self) -> int:
        return len(self._ids)

    async def _find(self) -> list[str]:
        """Return the ids of all brokers of the cluster that are up."""
        found: dict[str, int] = {}
        complete = asyncio.Event()

        async def heard(message: Message) -> None:
            answer = json.loads(message.data)
            found[answer["server"]["id"]] = int(answer.get("statsz", {}).get("active_servers", 1))
            if len(found) >= max(found.values()):
                complete.set()

        inbox = self._bus.new_inbox()
        subscription = await self._bus.subscribe(inbox, heard)
        await self._bus.publish("$SYS.REQ.SERVER.PING.STATSZ", b"", reply=inbox)
        try:
            async with asyncio.timeout(ASK_S):
                await complete.wait()
        except TimeoutError:
            if not found:
                raise DeadlineError("the broker does not answer its system's user", "is its log in order?") from None
        finally:
            await subscription.unsubscribe()
        return sorted(found)

    async def uses(self) -> list[Use]:
        """Return all connections."""
        found = []
        for one in self._ids:
            answer = await self._ask(one, "CONNZ", {"auth": True, "limit": MOST})
            for link in answer["data"]["connections"]:
                where = f"{link.get('name') or 'a client'} at {link.get('ip')}"
                found.append(Use(str(link.get("authorized_user", "")), where))
        return found

    async def reload(self) -> None:
        """Have each broker read its users again. Raises BrokerError: its configuration is wrong; it keeps the old."""
        for one in self._ids:
            answer = await self._ask(one, "RELOAD", {})
            if "error" in answer:
                raise BrokerError(f"a broker cannot read its users: {answer['error'].get('description')}")

    async def _ask(self, server: str, what: str, request: dict[str, Any]) -> dict[str, Any]:
        answer = await self._bus.request(
            f"$SYS.REQ.SERVER.{server}.{what}", json.dumps(request).encode(), timeout=ASK_S
        )
        found: dict[str, Any] = json.loads(answer.data)
        return found


async def _check_listening(urls: str) -> None:
    """Raise BrokerError at once when nothing listens; a broker that is only slow is waited for."""
    if await broker_listens(urls, ASK_S) is False:  # where it is not known, who connects says so
        raise no_broker(redacted(urls))


async def reload(url: str, folder: Folder) -> int:
    """Have the brokers at `url` read their users again; return how many did.

    A broker that does not know the system's user yet, of a folder made by an earlier version, is signalled if it is
    that of the running `hams-ctl up`.

    Raises:
        CredentialsError: it knows neither, and has to be signalled by its operator.
        BrokerError: no broker, or its configuration is wrong.
    """
    try:
        async with Servers(url, folder) as servers:
            await servers.reload()
            return len(servers)
    except CredentialsError:
        pid = running_broker()
        if pid is None:
            raise
    os.kill(pid, signal.SIGHUP)
    end = time.monotonic() + LEARN_S
    while True:
        try:
            async with Servers(url, folder):
                return 1
        except CredentialsError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)


async def accepts(url: str, folder: Folder, user: str) -> bool:
    """Whether the broker accepts the next key of `user`. Raises BrokerError when there is no broker."""
    try:
        async with NatsBus(url, name="hams-ctl", credentials=load(folder.following(user)), replicas=1):
            return True
    except CredentialsError:
        return False


def still_used(uses: list[Use], keys: tuple[str, ...]) -> list[str]:
    """Return the clients that use one of `keys`, each with the number of its connections."""
    counted = Counter(use.where for use in uses if use.key in keys)
    return [f"{where} ({count} connections)" if count > 1 else where for where, count in sorted(counted.items())]


async def until_unused(url: str, folder: Folder, user: str, wait_s: float, every_s: float = 0.5) -> list[str]:
    """Wait until no connection uses an old key of `user`; return the clients that still do after `wait_s`."""
    [old] = [one.old for one in folder.users() if one.user == user]
    end = time.monotonic() + wait_s
    async with Servers(url, folder) as servers:
        while True:
            left = still_used(await servers.uses(), old)
            if not left or time.monotonic() > end:
                return left
            await asyncio.sleep(every_s)
