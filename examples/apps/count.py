"""Counts what a group sees: how many objects of each label are in the newest frame of each stream.

python examples/apps/count.py person            # until Ctrl-C
python examples/apps/count.py face --frames 100
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter

import hams_client


async def count(url: str | None, group: str, frames: int | None) -> None:
    """Print a line whenever the numbers change."""
    newest: dict[str, Counter[str]] = {}
    seen = 0
    async with hams_client.connect(url) as hams, hams.results(group) as results:
        print(f"listening to {group}", flush=True)
        async for result in results:
            counted = Counter(one.label for one in result.objects)
            if newest.get(result.stream) != counted:
                newest[result.stream] = counted
                text = ", ".join(f"{number} {label}" for label, number in sorted(counted.items())) or "nobody"
                print(f"{result.stream} #{result.frame}: {text}", flush=True)
            seen += 1
            if seen == frames:
                return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", help="name of a deployed group")
    parser.add_argument("--frames", type=int, help="stop after so many frames")
    parser.add_argument("--nats", help="broker (default: that of the running hams-ctl up)")
    given = parser.parse_args()
    try:
        asyncio.run(count(given.nats, given.group, given.frames))
    except KeyboardInterrupt:
        pass
    except hams_client.HamsError as error:
        raise SystemExit(str(error)) from None
