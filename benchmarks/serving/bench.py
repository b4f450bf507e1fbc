"""Runs every contestant of every case in turn, several rounds, and writes the medians: table, plot, raw JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.serving.case import Case
from benchmarks.serving.cases import ROOT, Entry, all_cases
from benchmarks.serving.report import write
from hams_shared.runtime.process import cache_folder

RUN_S = 120.0
"""Longest time for one run of one contestant, s."""
CASE_S = 360.0
"""A case gets no further round that would make it longer than this, s."""
PEER_PYTHON = ROOT / ".bench-peers" / "bin" / "python"
OWN = {
    "bound": ("benchmarks.serving.bound",),
    "bound+steps": ("benchmarks.serving.bound", "--steps"),
    "bound-replicated": ("benchmarks.serving.bound",),
    "detector-queue": ("benchmarks.serving.bound", "--queue"),
    "prepare": ("benchmarks.serving.hams", "prepare"),
    "prepare-default": ("benchmarks.serving.hams", "prepare", "--default"),
    "hams": ("benchmarks.serving.hams", "hfs"),
    "hams-default": ("benchmarks.serving.hams", "hfs", "--default"),
    "hams-replicated": ("benchmarks.serving.hams", "replicated"),
}
"""What is run of this repository; others are peers."""


def measured_home(contestant: str, case: Case, folder: Path) -> Path:
    """Where the measured networks of the case's group are kept, for the devices that `contestant` uses."""
    return folder / f"home-measured-{Path(case.group).stem}{'-default' * contestant.endswith('-default')}"


def run_one(contestant: str, case: Case, folder: Path) -> dict[str, Any]:
    """Run one contestant; its score, or why there is none."""
    path = folder / "case.json"
    case.save(path)
    home, measured = folder / "home", measured_home(contestant, case, folder)
    shutil.rmtree(home, ignore_errors=True)
    if contestant.startswith("hams"):
        shutil.copytree(measured, home)  # what an earlier run learned under other loads is forgotten
    python, (module, *options) = sys.executable, OWN.get(contestant, ("",))
    if contestant not in OWN:
        python, module = str(PEER_PYTHON), f"benchmarks.serving.peers.{contestant.replace('-', '_')}"
        if not PEER_PYTHON.exists():
            return {"error": "not installed: make bench-peers"}
    env = {**os.environ, "HAMS_HOME": str(home), "HAMS_HOST": "box"}
    try:
        done = subprocess.run(
            [python, "-m", module, str(path), *options],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no result within {RUN_S:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:300]}
    if contestant.startswith("prepare"):
        shutil.rmtree(measured, ignore_errors=True)
        home.rename(measured)
        return {}
    score: dict[str, Any] = json.loads(lines[-1])
    return score


def run_case(entry: Entry, rounds: int, folder: Path, prepared: set[Path]) -> list[dict[str, Any]]:
    """All rounds of one case: contestants take turns, so that what disturbs the machine meets all of them.

    Networks that are not in the homes `prepared` are measured first.
    """
    case = entry.case
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    replicated: dict[str, dict[str, float]] = {}
    for preparation in ("prepare", "prepare-default")[: 1 + ("hams-default" in entry.contestants)]:
        if (home := measured_home(preparation, case, folder)) in prepared:
            continue
        if error := run_one(preparation, case, folder).get("error"):
            raise SystemExit(f"{case.name}: {error}")
        prepared.add(home)
    print(f"{time.monotonic() - started:5.0f} s  {case.name:<22} networks measured", flush=True)
    order = sorted(entry.contestants, key=lambda name: name != "hams")  # its plan places the others' nodes
    longest = 0.0
    for round_number in range(rounds):
        round_began = time.monotonic()
        if round_began - started + longest > CASE_S and rows:
            print(f"{case.name}: no {rounds} rounds within {CASE_S:g} s", flush=True)
            break
        for contestant in order:
            if not case.places and contestant != "hams":
                raise SystemExit(f"{case.name}: HAMS gave no placement: {rows[-1].get('error')}")
            mine = replace(case, places=replicated) if contestant == "bound-replicated" else case
            score = run_one(contestant, mine, folder)
            shares = score.get("notes", {}).get("shares")
            if contestant == "hams" and shares and not case.places:
                case = replace(case, places=shares)
            if contestant == "hams-replicated" and shares:
                replicated = shares
            rows.append({"case": case.name, "contestant": contestant, "round": round_number, **score})
            shown = score.get("error") or f"{score['fps']:8.1f} FPS   p50 {score['p50_ms']:7.1f} ms"
            print(f"{time.monotonic() - started:5.0f} s  {case.name:<22} {contestant:<18} {shown}", flush=True)
        longest = max(longest, time.monotonic() - round_began)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """``python -m benchmarks serving [--case NAME …] [--rounds N]``."""
    parser = argparse.ArgumentParser(prog="benchmarks serving")
    parser.add_argument("--case", action="append", help="only cases whose name starts so; others keep their figures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of table, plot, raw JSON"
    )
    chosen = parser.parse_args(arguments)
    folder = cache_folder() / "bench"
    out: Path = chosen.out
    out.mkdir(parents=True, exist_ok=True)
    raw = out / "serving.json"
    kept = json.loads(raw.read_text())["rows"] if raw.exists() else []
    began, prepared = time.monotonic(), set[Path]()
    for entry in all_cases(folder):
        name = entry.case.name
        if chosen.case and not any(name.startswith(prefix) for prefix in chosen.case):
            continue
        kept = [row for row in kept if row["case"] != name] + run_case(entry, chosen.rounds, folder, prepared)
        host = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
        raw.write_text(json.dumps({"host": host, "rows": kept}, indent=1) + "\n")
        write(kept, out)
    print((out / "serving.md").read_text())
    print(f"took {(time.monotonic() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
