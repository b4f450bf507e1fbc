"""One turn: boot the HAMS of a tree, serve a group, print frames/s and CPU seconds per frame as one line of JSON.

Runs as a script, with the tree's folders on PYTHONPATH, and imports nothing of the tree that called it:

    turn.py TREE GROUP SECONDS DEVICE [DEVICE ...]
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
from pathlib import Path
from typing import Any

import yaml

START_S = 120.0
DEPLOY_S = 300.0
SILENCE_S = 30.0
WARM_UP_S = 3.0
TICKS = os.sysconf("SC_CLK_TCK")
PARTS = {
    "nats-server": "broker",
    "hams_scheduler": "scheduler",
    "hams_services.pipeline": "pipeline",
    "hams_agents": "agents",
    "hams_services.optimizer": "optimizer",
}


def cpu_by_part(pid: int) -> dict[str, float]:
    """CPU seconds so far of each part below `pid`, children of a part counted with it."""
    spent: dict[str, float] = dict.fromkeys([*PARTS.values(), "hams-ctl up"], 0.0)
    rows: dict[int, tuple[int, str, float]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        rows[int(entry.name)] = (int(fields[1]), words, (int(fields[11]) + int(fields[12])) / TICKS)
    for one, (_, words, seconds) in rows.items():
        if one != pid and not _below(one, pid, rows):
            continue
        name = (
            "hams-ctl up" if one == pid else next((part for key, part in PARTS.items() if key in words), "hams-ctl up")
        )
        spent[name] += seconds
    return spent


def _below(one: int, top: int, rows: dict[int, tuple[int, str, float]]) -> bool:
    while one in rows and one > 1:
        one = rows[one][0]
        if one == top:
            return True
    return False


async def count(url: str, group: str, seconds: float, pid: int) -> tuple[int, float, dict[str, float]]:
    """Frames, s and CPU seconds by part of the measured time."""
    from hams_client import connect

    async with connect(url) as hams:
        results = hams.results(group, limit=4096)
        began = begin = 0.0
        frames, before = 0, {}
        while not begin or time.perf_counter() < begin + seconds:
            async with asyncio.timeout(SILENCE_S):
                await anext(results)
            now = time.perf_counter()
            began = began or now
            if not begin and now >= began + WARM_UP_S:
                begin, before = now, cpu_by_part(pid)
            frames += bool(begin)
        spent = time.perf_counter() - begin
        after = cpu_by_part(pid)
    return frames, spent, {name: after[name] - before[name] for name in after}


def endless(source: Path, folder: Path) -> tuple[str, Path]:
    """The group with its streams played without end, as fast as they go; its name and file."""
    spec: dict[str, Any] = yaml.safe_load(source.read_text())
    for stream in spec["streams"].values():
        stream.update(mode="lossless", pace="max", loop=True)
    path = folder / source.name
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return str(spec["name"]), path


def check_tree(tree: Path) -> None:
    """Raise SystemExit unless HAMS is imported from `tree`, here and so in every process that inherits PYTHONPATH."""
    import hams_agents
    import hams_client
    import hams_services

    for module in (hams_agents, hams_client, hams_services):
        if not Path(str(module.__file__)).resolve().is_relative_to(tree.resolve()):
            raise SystemExit(f"{module.__name__} comes from {module.__file__}, not from {tree}")


def main() -> None:
    """Serve, measure, print."""
    tree, source, seconds, *devices = sys.argv[1:]
    check_tree(Path(tree))
    argv = [sys.executable, "-m", "hams_services.ctl"]
    with tempfile.TemporaryDirectory() as folder:
        name, path = endless(Path(source), Path(folder))
        log = Path(folder) / "up.log"
        options = [word for device in devices for word in ("--device", device)]
        with log.open("w") as out:
            up = subprocess.Popen([*argv, "up", "--port", "0", *options], stdout=out, stderr=out, cwd=tree)
        try:
            deadline = time.monotonic() + START_S
            while "HAMS is up" not in log.read_text():
                if up.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"hams-ctl up of {tree} did not start:\n{log.read_text()}")
                time.sleep(0.1)
            done = subprocess.run(
                [*argv, "deploy", str(path)], capture_output=True, text=True, timeout=DEPLOY_S, cwd=tree
            )
            if done.returncode:
                raise SystemExit(f"hams-ctl deploy of {tree}:\n{done.stdout}{done.stderr}")
            url = json.loads((Path(os.environ["HAMS_HOME"]) / "up.json").read_text())["url"]
            frames, spent, cpu = asyncio.run(count(url, name, float(seconds), up.pid))
        finally:
            up.send_signal(signal.SIGTERM)
            try:
                up.wait(40)
            except subprocess.TimeoutExpired:
                up.kill()
    ms = {part: round(value / frames * 1e3, 3) for part, value in cpu.items()}
    print(json.dumps({"fps": round(frames / spent, 3), "cpu_ms": ms, "frames": frames}), flush=True)


if __name__ == "__main__":
    main()
