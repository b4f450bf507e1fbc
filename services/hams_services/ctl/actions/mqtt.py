"""What `hams-ctl sink mqtt` does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hams_services.ctl.console import checked, err, with_bus
from hams_services.ctl.options import kinds_of
from hams_shared import __version__
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BadInputError

if TYPE_CHECKING:
    from hams_services.sinks.mqtt.link import Broker
    from hams_services.sinks.mqtt.topics import Topics

UPDATE = "update"
"""Kind of event that is not published unless asked for: each track has one a second."""


@dataclass(frozen=True)
class Asked:
    """What is asked for. `groups`: None: all."""

    groups: tuple[str, ...] | None
    kinds: tuple[str, ...]
    snapshots: bool


@dataclass(frozen=True)
class Files:
    """For TLS and login."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    password: Path | None = None


def mqtt(
    groups: list[str],
    every: bool,
    broker: str,
    files: Files,
    base: str,
    discovery: str,
    kind: str | None,
    snapshots: bool,
    nats: str | None,
    debug: bool,
) -> None:
    """Bridge `groups`, or `every` group, to the MQTT broker at `broker`."""
    kinds = kinds_of(kind) if kind is not None else tuple(one for one in kinds_of(None) if one != UPDATE)

    where, topics, asked = checked(
        lambda: _asked(groups, every, broker, files, base, discovery, kinds, snapshots=snapshots)
    )

    async def job(bus: Bus) -> None:
        await bridge(bus, where, topics, asked)

    with_bus(job, nats, debug, stopped_is_fine=True)


def _asked(
    groups: list[str],
    every: bool,
    url: str,
    files: Files,
    base: str,
    discovery: str,
    kinds: tuple[str, ...],
    *,
    snapshots: bool,
) -> tuple[Broker, Topics, Asked]:
    """Check the options. Raises BadInputError, CredentialsError, SourceError."""
    from hams_services.sinks.mqtt.link import broker_of, library
    from hams_services.sinks.mqtt.topics import Topics, check_prefix

    library()
    if bool(groups) == every:
        raise BadInputError("name groups, or give --all", "`hams-ctl status` lists those that are deployed")
    where = broker_of(url, ca=files.ca, cert=files.cert, key=files.key, password_file=files.password)
    prefix = check_prefix(discovery, "discovery prefix") if discovery else ""
    topics = Topics(check_prefix(base, "base topic"), prefix)
    return where, topics, Asked(None if every else tuple(groups), kinds, snapshots)


async def bridge(bus: Bus, broker: Broker, topics: Topics, asked: Asked) -> None:
    """Run the bridge until cancelled. Raises CredentialsError, and SourceError where aiomqtt is not installed."""
    from hams_services.sinks.mqtt.bridge import Bridge
    from hams_services.sinks.mqtt.core import BridgeCore

    core = BridgeCore(topics, asked.groups, kinds=asked.kinds, snapshots=asked.snapshots, version=__version__)
    await Bridge(bus, broker, topics, core, asyncio.get_running_loop().time, lambda text: err.print(text)).run()
