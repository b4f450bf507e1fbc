"""One turn: boot the HAMS of a tree, serve groups one after another, print frames/s and CPU per frame as one JSON line.

Runs as a script, with the tree's folders on PYTHONPATH, and imports nothing of the tree that called it:

    turn.py TREE SECONDS GROUP[,GROUP …] DEVICE [DEVICE …]
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

START_S = 120.0
DEPLOY_S = 200.0
SILENCE_S = 30.0
STOP_S = 40.0
WARM_UP_S = 2.0
TICKS = os.sysconf("SC_CLK_TCK")
PARTS = {
    "nats-server": "broker",
    "hams_scheduler": "scheduler",
    "hams_services.pipeline": "pipeline",
    "hams_agents": "agents",
    "hams_services.optimizer": "optimizer",
}
REST = "hams-ctl up"
Spent = dict[int, tuple[str, float]]
"""Process → its part, and its CPU seconds so far."""


def processes(top: int) -> Spent:
    """Return `top` and all processes below it."""
    rows: dict[int, tuple[int, str, float]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        part = next((part for key, part in PARTS.items() if key in words), REST)
        rows[int(entry.name)] = (int(fields[1]), part, (int(fields[11]) + int(fields[12])) / TICKS)
    return {pid: (REST if pid == top else part, s) for pid, (_, part, s) in rows.items() if _within(pid, top, rows)}


def _within(pid: int, top: int, rows: dict[int, tuple[int, str, float]]) -> bool:
    while pid in rows and pid != top:
        pid = rows[pid][0]
    return pid == top


def by_part(before: Spent, after: Spent) -> dict[str, float]:
    """CPU seconds of each part between two looks. Raises SystemExit when a part has ended: its figure is lost."""
    ended = sorted(part for pid, (part, _) in before.items() if pid not in after and part != REST)
    if ended:
        raise SystemExit(f"while it was measured there ended: {', '.join(ended)}")
    spent: dict[str, float] = dict.fromkeys([*PARTS.values(), REST], 0.0)
    for pid, (part, seconds) in after.items():
        spent[part] += seconds - before.get(pid, (part, 0.0))[1]
    return spent


async def measured(url: str, group: str, seconds: float, top: int) -> dict[str, Any]:
    """Frames/s, and CPU ms per frame by part, from one result to another."""
    from hams_client import connect

    async with connect(url) as hams:
        results = hams.results(group, limit=4096)

        async def frame() -> tuple[int, float]:
            async with asyncio.timeout(SILENCE_S):
                result = await anext(results)
            return result.frame, time.perf_counter()  # of the one stream: none is counted twice, none left out

        first, now = await frame()
        warm = now + WARM_UP_S
        while now < warm:
            first, now = await frame()
        before, begin = processes(top), now
        last = first
        while now < begin + seconds or last == first:
            last, now = await frame()
        after = processes(top)
    ms = {part: round(s / (last - first) * 1e3, 3) for part, s in by_part(before, after).items()}
    return {"fps": round((last - first) / (now - begin), 3), "cpu_ms": ms, "frames": last - first}


def endless(source: Path, folder: Path) -> tuple[str, Path]:
    """The group with its streams played without end, as fast as they go; its name and file."""
    spec: dict[str, Any] = yaml.safe_load(source.read_text())
    for stream in spec["streams"].values():
        stream.update(mode="lossless", pace="max", loop=True)
    path = folder / source.name
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return str(spec["name"]), path


def check_tree(tree: Path) -> None:
    """Raise SystemExit unless HAMS is imported from `tree` here."""
    import hams_agents
    import hams_client
    import hams_services

    for module in (hams_agents, hams_client, hams_services):
        if not Path(str(module.__file__)).resolve().is_relative_to(tree.resolve()):
            raise SystemExit(f"{module.__name__} comes from {module.__file__}, not from {tree}")


def check_parts(top: int) -> None:
    """Raise SystemExit unless every process of the system looks for modules where this one does."""
    for pid, (part, _) in processes(top).items():
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"PYTHONPATH={os.environ['PYTHONPATH']}".encode() not in words:
            raise SystemExit(f"{part} does not run from {os.environ['PYTHONPATH']}")


@contextmanager
def system(tree: Path, devices: list[str], folder: Path) -> Iterator[int]:
    """Run `hams-ctl up` and give its process's number."""
    log = folder / "up.log"
    options = [word for device in devices for word in ("--device", device)]
    argv = [sys.executable, "-m", "hams_services.ctl", "up", "--port", "0", *options]
    with log.open("w") as out:
        up = subprocess.Popen(argv, stdout=out, stderr=out, cwd=tree)
    try:
        deadline = time.monotonic() + START_S
        while "HAMS is up" not in log.read_text():
            if up.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"hams-ctl up of {tree} did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield up.pid
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(STOP_S)
        except subprocess.TimeoutExpired:
            up.kill()


def ctl(tree: Path, *words: str) -> None:
    """Run `hams-ctl`. Raises SystemExit with what it says when it fails."""
    argv = [sys.executable, "-m", "hams_services.ctl", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEPLOY_S, cwd=tree)
    if done.returncode:
        raise SystemExit(f"hams-ctl {' '.join(words)} of {tree}:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Serve, measure, print."""
    tree, seconds, groups, *devices = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    check_tree(Path(tree))
    rows = {}
    with tempfile.TemporaryDirectory() as folder, system(Path(tree), devices, Path(folder)) as top:
        check_parts(top)
        url = json.loads((Path(os.environ["HAMS_HOME"]) / "up.json").read_text())["url"]
        for group in groups.split(","):
            name, path = endless(Path(group), Path(folder))
            ctl(Path(tree), "deploy", str(path))
            rows[name] = asyncio.run(measured(url, name, float(seconds), top))
            ctl(Path(tree), "undeploy", name)
    print(json.dumps(rows), flush=True)


if __name__ == "__main__":
    main()
