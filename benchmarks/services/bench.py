"""Deploys the services on real and on emulated devices by each strategy, and compares the plan with what comes.

Emulated devices replay outputs that they recorded in a first pass of the videos, at the stated pace. What is measured
while they compute more than 1 % of their images is void.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from benchmarks.serving.cases import ROOT, devices
from benchmarks.serving.hams import System
from hams_client import Hams, connect
from hams_shared.bus.ask import scheduler_view

EXAMPLES = ROOT / "examples"
SERVICES = {"F": "face.yaml", "P": "person.yaml", "V": "vehicle.yaml"}
STRATEGIES = ("default", "round-robin", "fastest", "mfs", "hfs", "optimal", "replicated")
VPUS = range(1, 9)
SETTLE_S = 4.0
SECONDS = 8.0
EMULATED_SECONDS = 20.0
"""Emulated devices are slow: a few frames/s."""
RECORD_S = 300.0
"""Longest time of the pass that records."""
MOST_MISSES = 0.01
CPU_FPS, GPU_FPS, VPU_FPS = 4.0, 8.0, 3.0
"""Frames/s of a detector on the emulated devices; heads run ten times as fast."""
DETECTORS = ("centerface", "frozen_inference_graph", "clp_det")


def group_files(folder: Path, names: tuple[str, ...]) -> Path:
    """The services' files with lossless streams that never end, and a list of them."""
    for name in names:
        spec = yaml.safe_load((EXAMPLES / SERVICES[name]).read_text())
        stream = {**next(iter(spec["streams"].values())), "mode": "lossless", "pace": "max", "loop": True}
        spec["streams"] = {"s": stream}
        (folder / SERVICES[name]).write_text(yaml.safe_dump(spec, sort_keys=False))
    path = folder / "groups.yaml"
    path.write_text(yaml.safe_dump({"groups": [SERVICES[name] for name in names]}))
    return path


def emulated(folder: Path, vpus: int) -> list[str]:
    """A CPU, a GPU and so many VPUs, by stated profiles."""
    named = []
    kinds = [("cpu-sim", "cpu", CPU_FPS), ("gpu-sim", "gpu", GPU_FPS)]
    kinds += [(f"vpu{i}-sim", "vpu", VPU_FPS) for i in range(vpus)]
    for name, kind, fps in kinds:
        profile = {
            "name": name,
            "kind": kind,
            "memory_mib": 2048,
            "run": "openvino",
            "note": "constructed for this benchmark; not measured on any such device",
            "fps": {**dict.fromkeys(DETECTORS, fps), "*": 10 * fps},
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(profile))
        named.append(f"emulated:{path}")
    return named


async def measured(url: str, groups: list[str], seconds: float = SECONDS) -> dict[str, float | None]:
    """Frames/s of each group over `seconds`, once emulated devices replay; None: they did not."""
    counts: Counter[str] = Counter()
    async with connect(url) as hams:

        async def count(group: str) -> None:
            async for _ in hams.results(group, limit=4096):
                counts[group] += 1

        async with asyncio.TaskGroup() as tasks:
            counting = [tasks.create_task(count(group)) for group in groups]
            await asyncio.sleep(SETTLE_S)
            end = time.monotonic() + RECORD_S
            while await _misses(hams, seconds / 2) > MOST_MISSES and time.monotonic() < end:
                pass
            before, start = Counter(counts), time.perf_counter()
            misses = await _misses(hams, seconds)
            span = time.perf_counter() - start
            for one in counting:
                one.cancel()
    if misses > MOST_MISSES:
        return dict.fromkeys(groups)
    return {group: round((counts[group] - before[group]) / span, 2) for group in groups}


async def _misses(hams: Hams, seconds: float) -> float:
    """Wait; return the share of the emulated devices' images that were computed meanwhile, not replayed."""
    first = await _replays(hams)
    await asyncio.sleep(seconds)
    replayed, misses = (last - old for last, old in zip(await _replays(hams), first, strict=True))
    return misses / max(replayed + misses, 1)


async def _replays(hams: Hams) -> tuple[int, int]:
    beats = [d.heartbeat for d in (await scheduler_view(hams.bus, timeout=30.0)).devices if d.heartbeat is not None]
    return sum(beat.replayed for beat in beats), sum(beat.misses for beat in beats)


def run(
    where: str, named: list[str], services: tuple[str, ...], strategies: tuple[str, ...], home: Path | None = None
) -> list[dict[str, Any]]:
    """All strategies on one set of devices, one after another in one system; `home` keeps what was measured before."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HAMS_HOME"] = str(home or Path(scratch) / "home")
        path = group_files(Path(scratch), services)
        return _run(where, named, services, strategies, path)


def _run(
    where: str, named: list[str], services: tuple[str, ...], strategies: tuple[str, ...], path: Path
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with System(named) as system:
        planned = json.loads(system.ctl("plan", str(path), "--strategy", ",".join(STRATEGIES), "--json"))
        for answer in planned:
            if answer["strategy"] not in strategies:
                rows += [_row(where, services, answer["strategy"], *one) for one in answer["group_fps"].items()]
        for strategy in strategies:
            system.ctl("deploy", str(path), "--strategy", strategy)
            status = json.loads(system.ctl("status", "--json"))
            plans = {group["name"]: group["active"] for group in status["groups"]}
            seconds = EMULATED_SECONDS if where.startswith("emulated") else SECONDS
            found = asyncio.run(measured(system.url, list(plans), seconds))
            for group, plan in plans.items():
                row = _row(where, services, strategy, group, plan["fps"], found[group])
                rows.append(row)
                fps = "void" if row["measured"] is None else f"{row['measured']:.2f}"
                print(f"{where:<24} {row['services']:<6} {strategy:<12} {group:<8} "
                      f"predicted {row['predicted']:7.2f}  measured {fps:>7}", flush=True)  # fmt: skip
            for group in plans:
                system.ctl("undeploy", group)
    return rows


def _row(
    where: str, services: tuple[str, ...], strategy: str, group: str, predicted: float, measured: float | None = None
) -> dict[str, Any]:
    return {
        "devices": where,
        "services": "+".join(services),
        "strategy": strategy,
        "group": group,
        "predicted": round(predicted, 2),
        "measured": measured,
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table: a line for each strategy on each set of devices, a column for each group."""
    groups = [Path(file).stem for file in SERVICES.values()]
    lines = [
        f"| devices | services | strategy | {' | '.join(f'{group}: predicted | measured' for group in groups)} |",
        "|" + "---|" * (3 + 2 * len(groups)),
    ]
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["devices"], row["services"], row["strategy"]), {})[row["group"]] = row

    def place(key: tuple[str, ...]) -> tuple[bool, int, str, int]:
        """Real devices first, one service before all, few VPUs before many."""
        devices, services, strategy = key
        return devices.startswith("emulated"), len(services), devices, STRATEGIES.index(strategy)

    for key in sorted(found, key=place):
        by_group = found[key]
        numbers = [by_group.get(group, {}).get(kind) for group in groups for kind in ("predicted", "measured")]
        lines.append(f"| {' | '.join((*key, *('–' if n is None else f'{n:.2f}' for n in numbers)))} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """``python -m benchmarks services [--only real | emulated]``; what is not run stays as it was."""
    parser = argparse.ArgumentParser(prog="benchmarks services")
    parser.add_argument("--only", choices=("real", "emulated"))
    parser.add_argument("--vpus", type=int, nargs="+", default=list(VPUS))
    parser.add_argument("--predict", action="store_true", help="emulated devices: plan only, measure no FPS")
    chosen = parser.parse_args(arguments)
    os.environ["HAMS_HOST"] = "box"
    if chosen.only != "emulated":
        real = list(devices(("openvino", "onnxruntime")).values())
        for services in (("F",), ("P",), ("V",)):
            keep(run("OpenVINO + ONNX Runtime", real, services, ("hfs", "replicated")))
        keep(run("OpenVINO + ONNX Runtime", real, ("F", "P", "V"), STRATEGIES))
    if chosen.only != "real":
        with tempfile.TemporaryDirectory() as scratch:
            home = Path(scratch) / "home"  # stated speeds stay the same
            for vpus in chosen.vpus:
                named = emulated(Path(scratch), vpus)
                tried: tuple[str, ...] = () if chosen.predict else ("hfs", "replicated")
                keep(run(f"emulated CPU+GPU+{vpus} VPU", named, ("F", "P", "V"), tried, home))


def keep(rows: list[dict[str, Any]]) -> None:
    """Put rows in the place of earlier ones of the same devices and services."""
    path = ROOT / "docs" / "benchmarks" / "services.json"
    old = json.loads(path.read_text()) if path.exists() else []
    new = {(row["devices"], row["services"]) for row in rows}
    found = [row for row in old if (row["devices"], row["services"]) not in new] + rows
    path.write_text(json.dumps(found, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(found))


if __name__ == "__main__":
    main()
