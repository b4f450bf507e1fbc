"""Services F and V with and without variants, on two one-core devices: group FPS predicted and measured, in one run.

The devices are idle while variants are made and measured (the group's stream is one that applications push, and nobody
does), so that what is compared was measured alike. Then each plan plays the same frames losslessly, as fast as it goes,
in turns with and without variants. What is counted is the video once through: a street is emptier at one time than at
another, and a faster plan would see another part of it in the same seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.nco.node_samples import EXAMPLES, film, node_samples
from benchmarks.serving.cases import ROOT, devices
from benchmarks.serving.hams import SILENCE_S, System
from hams_client import connect
from hams_shared.group.spec import GroupSpec

DOCS = ROOT / "docs" / "benchmarks"
STRATEGIES = ("hfs", "optimal", "replicated")
ROUNDS = 5
"""How often each plan is played, in turns; the median counts: a shared machine changes its speed by the minute."""
SETTLE = 60
"""Frames that are played before any are counted."""
TRAINED = {"F": ("face", 1.34)}
"""The node that a student is trained for, and its budget, GFLOPs; that of V outputs a list of boxes."""


def main(options: list[str]) -> None:
    """Run, and write docs/benchmarks/nco.json, nco.md and each group's report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks nco")
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--budget", type=float, default=300.0, help="for each group's job, s")
    parser.add_argument("--train", type=float, default=0.0, help="for a student of F's detector, s; 0: none")
    parser.add_argument("--known", action="store_true", help="use the variants that an earlier run made")
    parser.add_argument("--service", choices=tuple(EXAMPLES), action="append")
    given = parser.parse_args(options)
    rows: list[dict[str, Any]] = []
    named = list(devices(("openvino", "onnxruntime")).values())
    for service in given.service or list(EXAMPLES):
        with tempfile.TemporaryDirectory(prefix="hams-nco-") as scratch:
            folder = Path(scratch)
            os.environ |= {"HAMS_HOME": str(folder / "home"), "HAMS_HOST": "box"}
            spec, _, _ = node_samples(service, folder, given.frames, named[0])
            frames = folder / ("plated" if service == "V" else "frames")
            rows += _service(service, spec, frames, folder, named, given)
    (DOCS / "nco.json").write_text(json.dumps(rows, indent=1) + "\n")
    (DOCS / "nco.md").write_text(table(rows))
    print(table(rows))


def _service(
    service: str, spec: GroupSpec, frames: Path, folder: Path, named: list[str], given: argparse.Namespace
) -> list[dict[str, Any]]:
    idle = _file(spec, folder / "idle.yaml", {"source": "push"})
    with System(named) as system:
        system.ctl("deploy", str(idle))
        if given.train and service in TRAINED:
            node, gflops = TRAINED[service]
            options = ("--gflops", str(gflops), "--budget", str(given.train), "--samples", str(frames))
            print(system.ctl("nco", "train", spec.name, node, *options, timeout=given.train + 1200))
        options = ("--samples", str(frames), "--budget", str(given.budget), *(() if given.known else ("--fresh",)))
        printed = system.ctl("nco", "optimize", spec.name, *options, timeout=3000)
        print(printed)
        (DOCS / f"nco-{spec.name}.md").write_text(system.ctl("nco", "report", spec.name))
        place = Path(printed.split("report: ")[1].split()[0]).with_suffix(".png")
        if place.exists():
            shutil.copy(place, DOCS / f"nco-{spec.name}.png")
        answers = json.loads(system.ctl("plan", str(idle), "--strategy", ",".join(STRATEGIES), "--json"))
        rows: list[dict[str, Any]] = []
        video = str(film(frames, folder / "frames.mp4"))  # pictures one by one take as long to read as to understand
        playing = {"source": video, "mode": "lossless", "pace": "max", "loop": True}
        for answer in answers:
            row: dict[str, Any] = {
                "service": service,
                "strategy": answer["strategy"],
                "predicted without": round(answer["source_fps"] or answer["fps"], 2),
                "predicted with": round(answer["fps"], 2),
            }
            found: dict[str, list[float]] = {"without": [], "with": []}
            for _ in range(ROUNDS):
                for what, fps in found.items():
                    file = _file(spec, folder / f"{what}.yaml", playing, variants=what == "with")
                    system.ctl("deploy", str(file), "--strategy", answer["strategy"])
                    fps.append(asyncio.run(played(system.url, spec.name, len(list(frames.glob("*.png"))))))
                    system.ctl("undeploy", spec.name)
            row |= {f"measured {what}": round(median(fps), 2) for what, fps in found.items()}
            row["rounds"] = found
            rows.append(row)
            print(row, flush=True)
    return rows


async def played(url: str, group: str, frames: int) -> float:
    """Frames/s of a looping video of so many `frames`, once through from wherever it is after `SETTLE` frames."""
    async with connect(url) as hams:
        results = hams.results(group, limit=4096)
        start = 0.0
        for index in range(SETTLE + frames + 1):
            async with asyncio.timeout(SILENCE_S):
                await anext(results)
            if index == SETTLE:
                start = time.perf_counter()
        return round(frames / (time.perf_counter() - start), 2)


def _file(spec: GroupSpec, path: Path, stream: dict[str, Any], variants: bool = True) -> Path:
    given = spec.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    given["name"] = spec.name
    given["streams"] = {"s": stream}
    for node in given["nodes"].values():
        if not variants:
            node["variants"] = False
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    return path


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as Markdown."""
    lines = [
        "| service | strategy | predicted FPS: without | with | ÷ | measured FPS: without | with | ÷ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = [
            f"{row[f'{kind} without']:.1f} | {row[f'{kind} with']:.1f} | "
            f"{row[f'{kind} with'] / max(row[f'{kind} without'], 1e-9):.2f}"
            for kind in ("predicted", "measured")
        ]
        lines.append(f"| {row['service']} | {row['strategy']} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"
