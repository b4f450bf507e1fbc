"""Is a part well? ``python -m hams_shared.healthcheck agent|scheduler|pipeline|optimizer`` asks it, over the broker.

For the health checks of containers and service managers: exit code 0 only if the part that runs on this machine, or in
this container, answers in time. It imports little, because it runs every few seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import MACHINE, Message
from hams_shared.errors import DeadlineError
from hams_shared.runtime.lifecycle import run
from hams_shared.runtime.process import machine

PARTS = {
    "agent": "hams-agent",
    "scheduler": "hams-scheduler-replica",
    "pipeline": "hams-pipeline",
    "optimizer": "hams-optimizer",
}
"""By part: the NATS micro service that each of its processes is, as long as it lives."""
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
    programs = {f"hams-{part}": part for part in PARTS}
    return next((programs[name] for word in words if (name := Path(word).name) in programs), "")


async def ask(asked: Asked, url: str, timeout: float) -> None:
    """Connect and ask. Raises BrokerError, DeadlineError."""
    end = asyncio.get_running_loop().time() + timeout
    async with NatsBus(url, name="hams-health", connect_timeout=timeout) as bus:
        await answers(bus, asked, max(0.1, end - asyncio.get_running_loop().time()))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m hams_shared.healthcheck", description="Ask a part whether it is well."
    )
    parser.add_argument(
        "part", nargs="?", choices=tuple(PARTS), help="default: what this container runs, if it is a part"
    )
    parser.add_argument("--device", default="", help="of an agent: its device's id, where several run here")
    parser.add_argument("--nats", default=os.environ.get("HAMS_NATS_URL") or DEFAULT_NATS)
    parser.add_argument("--timeout", type=float, default=DEADLINE_S, help="seconds")
    options = parser.parse_args()
    part = options.part or running()
    if not part:
        sys.exit(0)  # a container of hams-ctl: its exit code is the result

    async def main(stop: asyncio.Event) -> None:
        await ask(Asked(part, machine(), options.device), options.nats, options.timeout)

    sys.exit(run(main))


if __name__ == "__main__":
    main()
