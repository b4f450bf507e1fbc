"""Memory of all parts while 50,000 frames pass: ``python -m benchmarks.serving.memory``."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path

from benchmarks.serving.case import descendants, pss_mib
from benchmarks.serving.cases import ROOT, all_cases
from benchmarks.serving.hams import SILENCE_S, System, group_file
from hams_client import connect
from hams_shared.runtime.process import cache_folder

FRAMES = 50_000
EVERY = 2_500
CASE = "light, 4 nodes"


def parts(pid: int) -> dict[str, float]:
    """Proportional set size of each part of a system, MiB."""
    found: dict[str, float] = {}
    for child in descendants(pid):
        words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        name = words[words.index("--device") + 1] if "--device" in words else words[2] if len(words) > 2 else words[0]
        found[name] = round(found.get(name, 0.0) + pss_mib(child), 1)
    return found


async def watch(url: str, group: str, pid: int) -> list[dict[str, object]]:
    """Sample every so many results."""
    samples: list[dict[str, object]] = []
    async with connect(url) as hams:
        seen = 0
        results = hams.results(group, limit=4096)
        while seen < FRAMES:
            async with asyncio.timeout(SILENCE_S):
                await anext(results)
            seen += 1
            if seen % EVERY == 0:
                memory = parts(pid)
                samples.append({"frames": seen, "total_mib": round(sum(memory.values()), 1), "parts": memory})
                print(f"{seen:6d} frames  {sum(memory.values()):7.1f} MiB  {memory}", flush=True)
    return samples


def main() -> None:
    """Run it and keep the samples."""
    folder = cache_folder() / "bench"
    case = next(entry.case for entry in all_cases(folder) if entry.case.name == CASE)
    os.environ |= {"HAMS_HOME": str(folder / "home"), "HAMS_HOST": "box"}
    with tempfile.TemporaryDirectory() as scratch, System(list(case.devices.values())) as system:
        system.ctl("deploy", str(group_file(case, Path(scratch), "hfs")))
        samples = asyncio.run(watch(system.url, case.spec().name, system.process.pid))
    (ROOT / "docs" / "benchmarks" / "memory.json").write_text(json.dumps(samples, indent=1) + "\n")


if __name__ == "__main__":
    main()
