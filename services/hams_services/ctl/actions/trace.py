"""What `hams-ctl trace` does."""

from __future__ import annotations

import asyncio

from hams_client import Hams
from hams_services.ctl.actions.known import check
from hams_services.ctl.console import err, out, print_json, with_bus
from hams_services.ctl.gantt import ASCII, BLOCKS, chart, legend
from hams_shared.bus.protocol import Bus
from hams_shared.errors import NoResultError
from hams_shared.wire.messages.trace import FrameTrace


def trace(group: str, stream: str, count: int, timeout: float, json: bool, nats: str | None, debug: bool) -> None:
    """Print what happened to the next `count` frames. Raises NoResultError: none ended within `timeout` s."""
    glyphs = BLOCKS if "utf" in out.encoding.lower() else ASCII

    async def job(bus: Bus) -> None:
        await check(bus, group, stream)
        if err.is_terminal and not json:
            err.print(f"waiting for a frame of {group} …", style="dim")
        async with Hams(bus).traces(group, stream, count=count) as traces:
            for number in range(count):
                try:
                    async with asyncio.timeout(timeout):
                        found = await anext(traces)
                except TimeoutError:
                    raise NoResultError(
                        f"no frame of {group} ended within {timeout:g} s",
                        "see `hams-ctl status`: does the group serve, does its stream play?",
                    ) from None
                if json:
                    print_json(as_map(found))
                    continue
                if number:
                    out.print()
                for line in chart(found, out.width, glyphs):
                    out.print(line)
        if not json:
            out.print(legend(glyphs))

    with_bus(job, nats, debug)


def as_map(found: FrameTrace) -> dict[str, object]:
    """Return the trace as plain values, with the places of the spans on its critical path."""
    return {**found.model_dump(mode="json"), "critical": found.critical_path()}
