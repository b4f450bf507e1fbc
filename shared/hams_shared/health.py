"""Is a part well? ``python -m hams_shared.health agent|scheduler|pipeline`` asks it, over the broker.

For the health checks of containers and service managers: exit code 0 only if the part that runs on this machine, or in
this container, answers in time. It imports little, because it runs every few seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from hams_shared.bus import Message
from hams_shared.errors import DeadlineError
from hams_shared.lifecycle import run
from hams_shared.nats_bus import MACHINE, NatsBus
from hams_shared.process import machine

PARTS = ("agent", "scheduler", "pipeline")
DEADLINE_S = 5.0


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
        return f"$SRV.PING.hams-{self.part}"

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

    inbox = f"_INBOX.{secrets.token_hex(11)}"
    await bus.subscribe(inbox, on_answer, limit=4096)
    await bus.publish(asked.subject, b"", reply=inbox)
    try:
        await asyncio.wait_for(heard, timeout)
    except TimeoutError:
        elsewhere = f"; {others} elsewhere did" if others else ""
        raise DeadlineError(f"{asked} did not answer within {timeout:g} s{elsewhere}", "see its log") from None


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m hams_shared.health", description="Ask a part whether it is well.")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="", help="of an agent: its device's id, where several run here")
    parser.add_argument("--nats", default=os.environ.get("HAMS_NATS_URL") or "nats://127.0.0.1:4222")
    parser.add_argument("--timeout", type=float, default=DEADLINE_S, help="seconds, for all of it")
    options = parser.parse_args()
    asked = Asked(options.part, machine(), options.device)

    async def ask(stop: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(options.timeout), NatsBus(options.nats, name="hams-health") as bus:
                await answers(bus, asked, options.timeout)
        except TimeoutError:
            raise DeadlineError(f"{asked}: no answer within {options.timeout:g} s") from None

    sys.exit(run(ask))


if __name__ == "__main__":
    main()
