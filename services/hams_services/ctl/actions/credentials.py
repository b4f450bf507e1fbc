"""What `hams-ctl credentials list`, `add`, `rotate`, `revoke` and `reload` do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

from hams_services.ctl.console import broker_url, err, out, print_json, without_bus
from hams_services.ctl.system import server_users
from hams_services.ctl.system.audit_file import tell
from hams_services.ctl.system.broker import MAX_PAYLOAD
from hams_services.ctl.tables import plain_table
from hams_services.security.rotation import SYSTEM, Folder, UserKeys
from hams_shared.errors import BrokerError, CredentialsError, HamsError, RefusedError
from hams_shared.runtime.credentials import AGENT

SIGNAL = "docker compose kill -s HUP nats, or kill -HUP PID of nats-server"
"""How an operator makes a broker read its users that `hams-ctl` cannot ask."""


def list_users(folder: Path, nats: str | None, json: bool, debug: bool) -> None:
    """Print the users and how many connections use their keys."""

    async def job(site: Folder) -> None:
        connections = await _connections(broker_url(nats), site)
        users = [one for one in site.users() if one.user != SYSTEM]
        if json:
            print_json([_row(one, connections) for one in users])
            return
        table = plain_table(f"credentials in {folder}")
        for column in ("user", "state", "since", "connections", "with an old key", "key"):
            table.add_column(column)
        for one in users:
            row = _row(one, connections)
            since = datetime.fromtimestamp(one.since).strftime("%Y-%m-%d %H:%M")
            table.add_row(one.user, one.state, since, *map(_count, (row["connections"], row["old"])), one.key[:12])
        out.print(table)

    _run(job, folder, debug)


def _row(one: UserKeys, connections: dict[str, int] | None) -> dict[str, object]:
    def count(*keys: str) -> int | None:
        return None if connections is None else sum(connections.get(key, 0) for key in keys)

    return {
        "user": one.user,
        "state": one.state,
        "since": one.since,
        "key": one.key,
        "connections": count(one.key, *one.old),
        "old": count(*one.old),
    }


def _count(number: object) -> str:
    return "?" if number is None else str(number)


async def _connections(url: str, site: Folder) -> dict[str, int] | None:
    """Return the number of connections by public key; None: the broker cannot be asked."""
    found: dict[str, int] = {}
    try:
        if not site.creds(SYSTEM).exists():
            raise CredentialsError("this folder was made by an earlier version", "hams-ctl credentials reload")
        async with server_users.Servers(url, site) as servers:
            for use in await servers.uses():
                found[use.key] = found.get(use.key, 0) + 1
    except HamsError as error:
        err.print(f"no connections are shown: {error}", style="dim", soft_wrap=True)
        return None
    return found


async def _told(user: str, text: str) -> None:
    await asyncio.to_thread(tell, "credentials", user, text)


def add(user: str, folder: Path, nats: str | None, debug: bool) -> None:
    """Make credentials for a new user."""

    async def job(site: Folder) -> None:
        site.add(user)
        await _told(user, "made")
        out.print(f"{folder / f'{user}.creds'} is made", soft_wrap=True)
        await _apply(nats, site, f"{user} can connect")
        if user.startswith(AGENT):
            box = user.removeprefix(AGENT)
            out.print(f"next: copy it to {box} and nowhere else; on that box:", soft_wrap=True)
            out.print(f"      hams-ctl join --nats tls://BROKER:4222 --credentials {user}.creds", soft_wrap=True)

    _run(job, folder, debug)


def revoke(user: str, folder: Path, nats: str | None, debug: bool) -> None:
    """Refuse a user from now on."""

    async def job(site: Folder) -> None:
        site.revoke(user, time.time())
        await _told(user, "revoked")
        out.print(f"{user} is revoked in {folder}", soft_wrap=True)
        await _apply(nats, site, f"{user} is refused, and its connections are ended")

    _run(job, folder, debug)


def reload(folder: Path, nats: str | None, debug: bool) -> None:
    """Make the brokers read their users again."""

    async def job(site: Folder) -> None:
        site.finish("")  # writes the brokers' lists, also for a folder of an earlier version
        count = await server_users.reload(broker_url(nats), site)
        out.print("the broker has read its users" if count == 1 else f"{count} brokers have read their users")

    _run(job, folder, debug)


def rotate(user: str, folder: Path, nats: str | None, wait_s: float, now: bool, debug: bool) -> None:
    """Give a user a new key, beside the old one until nobody uses that."""

    async def job(site: Folder) -> None:
        url = broker_url(nats)
        if site.in_rotation(user) and not site.following(user).exists():
            out.print(f"the rotation of {user} goes on", soft_wrap=True)
        else:
            site.begin(user)
            await _apply(nats, site, "")
            if not await server_users.accepts(url, site, user):
                raise CredentialsError(f"the broker does not accept the new key of {user} yet", f"{SIGNAL}; then again")
            site.switch(user)
            await _told(user, "a new key; the old one is still accepted")
            out.print(f"{site.creds(user)} holds a new key; the old one is still accepted", soft_wrap=True)
        left = [] if now or user == SYSTEM else await server_users.until_unused(url, site, user, wait_s)
        if left:
            raise _still_used(user, left)
        site.finish(user)
        await _told(user, "the old key is refused")
        await _apply(nats, site, f"the old key of {user} is refused")

    _run(job, folder, debug)


def _still_used(user: str, left: list[str]) -> RefusedError:
    """Return the error for clients that have not changed to the new key."""
    return RefusedError(
        f"the old key of {user} is still used by {', '.join(left)}: it stays valid",
        f"copy {user}.creds over the file they were started with, which they read by themselves, and run this again; "
        "--now refuses the old key at once",
    )


async def _apply(nats: str | None, site: Folder, effect: str) -> None:
    """Have the broker read its users; say what to do where it cannot be asked."""
    if site.boxes():
        err.print("copy the folders of the brokers' boxes again, then run: hams-ctl credentials reload")
        for one in site.boxes():
            err.print(f"  {site.path / one}", soft_wrap=True)
    try:
        await server_users.reload(broker_url(nats), site)
    except CredentialsError as error:
        raise CredentialsError(f"the broker has not read its users: {error.text}", f"{SIGNAL}; then again") from None
    except BrokerError as error:
        if "cannot read its users" in error.text:
            raise
        err.print(f"no broker runs ({error.text}): the next one to start reads its users", soft_wrap=True)
        return
    if effect and not site.boxes():
        out.print(f"the broker has read its users: {effect}", soft_wrap=True)


def _run(job: Callable[[Folder], Awaitable[None]], folder: Path, debug: bool) -> None:
    async def main(stop: asyncio.Event) -> None:
        await job(Folder(folder, MAX_PAYLOAD))

    without_bus(main, debug)
