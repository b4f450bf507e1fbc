"""Is a part well? ``python -m hams_shared.healthcheck PART`` asks it, over the broker; PARTS are below.

``… healthcheck gateway`` asks it over HTTP, at the address in HAMS_GATEWAY_HTTP, whether broker and pipeline answer it.

For the health checks of containers and service managers: exit code 0 only if the part that runs on this machine, or in
this container, answers in time. It imports little, because it runs every few seconds.

Two more are for processes that are no parts: ``--http URL`` asks a page of this machine for its status, and
``--connected URL``, of which there may be several, looks whether this container has a connection to that port.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import MACHINE, Message
from hams_shared.errors import BadInputError, BrokerError, DeadlineError, HamsError
from hams_shared.runtime.lifecycle import run
from hams_shared.runtime.process import machine

PARTS = {
    "agent": "hams-agent",
    "scheduler": "hams-scheduler-replica",
    "pipeline": "hams-pipeline",
    "optimizer": "hams-optimizer",
    "web": "hams-web",
}
"""By part: the NATS micro service that each of its processes is, as long as it lives."""
SERVERS = {"gateway": ("HAMS_GATEWAY_HTTP", "127.0.0.1:8000", "/v2/health/ready")}
"""By part that serves HTTP: the variable that its address is in, its default, and the path that tells."""
PORTS = {"nats": 4222, "tls": 4222, "mqtt": 1883, "mqtts": 8883}
"""By scheme of an address, the port where it names none."""
ESTABLISHED = "01"
"""State of a connection in /proc/net/tcp."""
DEADLINE_S = 4.0
DEFAULT_NATS = "nats://127.0.0.1:4222"  # hams_shared.runtime.options has it too, and typer with it


@dataclass(frozen=True)
class Asked:
    """The part that is meant."""

    part: str
    machine: str
    device: str = ""
    """Of an agent, where several run on one machine: its device's id."""

    @property
    def subject(self) -> str:
        """Where NATS micro services of the part's name answer pings."""
        return f"$SRV.PING.{PARTS[self.part]}"

    def __str__(self) -> str:
        return f"{self.part} {self.device}".strip() + f" on {self.machine}"

    def meant(self, answer: Mapping[str, object]) -> bool:
        """Whether a ping was answered by this very part, and not by one of its kind elsewhere."""
        metadata = answer.get("metadata")
        if not isinstance(metadata, Mapping) or metadata.get(MACHINE) != self.machine:
            return False
        return not self.device or metadata.get("device") == self.device


async def answers(bus: NatsBus, asked: Asked, timeout: float) -> None:
    """Wait until the part answers.

    Raises:
        DeadlineError: it does not, within `timeout` seconds.
    """
    heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    others = 0

    async def on_answer(message: Message) -> None:
        nonlocal others
        if asked.meant(json.loads(message.data)):
            if not heard.done():
                heard.set_result(None)
        else:
            others += 1

    inbox = bus.new_inbox()
    await bus.subscribe(inbox, on_answer, limit=4096)
    await bus.publish(asked.subject, b"", reply=inbox)
    try:
        async with asyncio.timeout(timeout):
            await heard
    except TimeoutError:
        elsewhere = f"; {others} elsewhere did" if others else ""
        raise DeadlineError(f"{asked} did not answer within {timeout:.2g} s{elsewhere}", "see its log") from None


def running(proc: Path = Path("/proc/1/cmdline")) -> str:
    """The part that the first process of this container is; empty: none, or no container."""
    try:
        words = proc.read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    programs = {f"hams-{part}": part for part in (*PARTS, *SERVERS)}
    return next((programs[name] for word in words if (name := Path(word).name) in programs), "")


async def ask(asked: Asked, url: str, timeout: float) -> None:
    """Connect and ask. Raises BrokerError, DeadlineError."""
    end = asyncio.get_running_loop().time() + timeout
    async with NatsBus(url, name="hams-health", connect_timeout=timeout) as bus:
        await answers(bus, asked, max(0.1, end - asyncio.get_running_loop().time()))


def ask_server(part: str, timeout: float) -> None:
    """Ask a part that serves HTTP or, where it refuses that, HTTPS; whose certificate it has does not matter here.

    Raises:
        DeadlineError: it does not answer that it is well.
    """
    variable, default, path = SERVERS[part]
    host, _, port = os.environ.get(variable, default).rpartition(":")
    here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    reason = ""
    for scheme in ("http", "https"):
        context = ssl._create_unverified_context() if scheme == "https" else None
        try:
            with urllib.request.urlopen(f"{scheme}://{here}:{port}{path}", timeout=timeout, context=context):
                return
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.read(300).decode('utf-8', 'replace')}"
            if error.code != 400:  # what a server of TLS answers to clear text
                break
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = reason or str(error)
    raise DeadlineError(f"the {part} at {here}:{port} is not well: {reason}", "see its log")


def page(url: str, timeout: float) -> None:
    """Ask for a page. Raises HamsError: it is not there within `timeout` s, or its status is an error."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise HamsError(f"{url} does not answer: {error}", "see its log") from None
    finally:
        connection.close()
    if status >= 400:
        raise HamsError(f"{url} answers with status {status}", "see its log")


def connected(urls: str, proc: Path = Path("/proc/net")) -> None:
    """Check that this network namespace has a connection to the port of one of `urls`, which commas separate.

    A peer closes a connection that is silent for minutes, so this also finds a process that hangs.

    Raises:
        BadInputError: an address has no known port.
        BrokerError: there is no connection.
    """
    wanted = {_port(url) for url in urls.split(",")}
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue  # without IPv6
        for _, _, remote, state, *_ in map(str.split, lines):
            if state == ESTABLISHED and int(remote.rpartition(":")[2], 16) in wanted:
                return
    raise BrokerError(f"no connection to port {' or '.join(map(str, sorted(wanted)))}", "see its log")


def _port(url: str) -> int:
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        return parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise BadInputError("an address to check has no known port", "nats://HOST:PORT or mqtt://HOST:PORT") from None


async def check(options: argparse.Namespace) -> None:
    """Do what the command line asks for. Raises HamsError."""
    if options.http:
        await asyncio.to_thread(page, options.http, options.timeout)
    for urls in options.connected:
        connected(urls)
    part = options.part or running()
    if not part or options.http or options.connected:
        return  # without a part: hams-ctl, whose exit code is the result
    if part in SERVERS:
        await asyncio.to_thread(ask_server, part, options.timeout)
    else:
        await ask(Asked(part, machine(), options.device), options.nats, options.timeout)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m hams_shared.healthcheck", description="Ask a part whether it is well."
    )
    parser.add_argument(
        "part", nargs="?", choices=(*PARTS, *SERVERS), help="default: what this container runs, if it is a part"
    )
    parser.add_argument("--device", default="", help="of an agent: its device's id, where several run here")
    parser.add_argument("--nats", default=os.environ.get("HAMS_NATS_URL") or DEFAULT_NATS)
    parser.add_argument("--http", default="", metavar="URL", help="ask this page instead")
    parser.add_argument(
        "--connected", action="append", default=[], metavar="URL", help="look for a connection to its port instead"
    )
    parser.add_argument("--timeout", type=float, default=DEADLINE_S, help="seconds")
    options = parser.parse_args()
    sys.exit(run(lambda stop: check(options)))


if __name__ == "__main__":
    main()
