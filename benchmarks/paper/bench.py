"""The paper's experiments, planned and served: ``python -m benchmarks paper``.

One system of an emulated CPU, GPU and eight VPUs serves all: for n VPUs every node is pinned to the first n, a plan is
asked for before anything is deployed, and its placement is served with each node pinned to its devices. Placements that
differ only in which VPU is which are served once. Another system serves the case of the slides. Where the time is over,
what is left is planned and not served.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.paper import cases, intel_report
from benchmarks.paper.report import REAL, markdown, write
from benchmarks.prediction import rules
from benchmarks.prediction.cases import LOOP, folder
from benchmarks.prediction.measuring import WARM_UP_EMULATED, measured
from benchmarks.serving.cases import ROOT, devices
from benchmarks.serving.hams import System
from hams_client import connect
from hams_scheduler.solver.instance import NoPlacementError
from hams_scheduler.solver.strategies.registry import names, solve
from hams_shared.bus.control import Control
from hams_shared.errors import HamsError

MINUTES = 45.0
ORDER = (1, 8, 4, 2, 6, 3, 5, 7)
"""Numbers of VPUs in the order they are served: where the time is over, both ends are there."""
QUICK = (1, 4)
IN_FLIGHT, WARM_UP = 8, 16
"""Frames of a group under way, and its frames that are not measured, where all nodes are whole: with 32 frames under
way and 3 frames/s the devices would first compute for 10 s what is delivered later."""
WARM_UP_SHARED = 72
"""The frames that are not measured where nodes are shared: as many frames are under way as all devices need."""
SLIDES = "slides"
SLIDES_STRATEGIES = ("default", "fastest", "mfs", "hfs", "optimal", "replicated")


@dataclass(frozen=True)
class Row:
    """One strategy's placement of some services on a CPU, a GPU and so many VPUs."""

    services: str
    vpus: int
    strategy: str
    shares: cases.Shares
    fps: dict[str, float]
    """Predicted before deployment, by group."""
    bottleneck: str

    @property
    def name(self) -> str:
        """What ``--only`` matches."""
        return f"{self.services}, {self.vpus} VPU, {self.strategy}"


class Bench:
    """One run; `rows` hold what was planned and measured so far."""

    def __init__(self, out: Path, minutes: float, *, keep: bool) -> None:
        raw = out / "paper.json"
        self.rows: list[dict[str, Any]] = json.loads(raw.read_text())["rows"] if keep and raw.exists() else []
        self._served: dict[str, dict[str, dict[str, Any]]] = {}
        """By signature of a placement: figures by group."""
        self._recorded: set[str] = set()
        """Groups whose pictures were all seen: their outputs are replayed."""
        self._out = out
        self._began = time.monotonic()
        self._end = self._began + 60.0 * minutes

    def say(self, text: str) -> None:
        """Print it with the time."""
        print(f"{time.monotonic() - self._began:5.0f} s  {text}", flush=True)

    def serve(self, system: System, specs: list[dict[str, Any]], row: Row) -> None:
        """Serve the row's placement, unless one like it was served or the time is over, and keep the figures."""
        key = row.services + cases.signature(row.shares)
        first = key not in self._served
        if first and time.monotonic() < self._end:
            self._served[key] = self._measured(system, specs, row)
            if any(one["void"] for one in self._served[key].values()):
                self.say(f"{row.name}: void, served again")
                self._served[key] = self._measured(system, specs, row)
        found = self._served.get(key, {})
        self._forget(row)
        for group, predicted in row.fps.items():
            one = found.get(group, {"void": "not served: the time was over"})
            about = {"services": row.services, "vpus": row.vpus, "strategy": row.strategy, "group": group}
            plan = {"predicted": round(predicted, 3), "bottleneck": row.bottleneck, "placement": row.shares}
            self.rows.append({**about, **plan, "again": not first, **one})
            said = f"measured {one['measured']:.2f}" if "measured" in one else ""
            self.say(f"{row.name}: {group} predicted {predicted:.2f} {said} {one['void']}{'' if first else ' (again)'}")
        self.keep()

    def _measured(self, system: System, specs: list[dict[str, Any]], row: Row) -> dict[str, dict[str, Any]]:
        groups = list(row.fps)
        shared = any(len(parts) > 1 for parts in row.shares.values())
        pinned = cases.pinned(specs, row.shares, "replicated" if shared else "hfs")
        for spec in pinned if not shared else ():
            spec["in_flight"] = IN_FLIGHT
        warm_up = WARM_UP_SHARED if shared else WARM_UP
        try:
            with tempfile.TemporaryDirectory() as scratch:
                system.ctl("deploy", str(cases.write_groups(pinned, Path(scratch))))
            loop = LOOP * (2 if shared else 1)  # more is under way, and varies
            found = asyncio.run(measured(system.url, groups, max(warm_up, self._unseen(groups)), loop))
            self._recorded |= set(groups)
        except (SystemExit, HamsError, subprocess.TimeoutExpired) as error:  # the other rows are still measured
            why = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            return {group: {"void": f"failed: {why[0][:200]}"} for group in groups}
        finally:
            asyncio.run(_undeploy(system.url, groups))
        for one in found.values():
            void = rules.void(1.0, 1.0, one["replayed"], one["misses"], one["resent"])
            one |= {"void": void, "load": os.getloadavg()[0]}
            one["busy"] = {device: busy for device, busy in one["busy"].items() if busy > 0.01}
        return found

    def _unseen(self, groups: list[str]) -> int:
        """Return the frames until every picture was seen and is replayed; 0: all were."""
        return 0 if set(groups) <= self._recorded else WARM_UP_EMULATED

    def _forget(self, row: Row) -> None:
        """Drop what an earlier run found of this row."""
        mine = (row.services, row.vpus, row.strategy)
        self.rows = [one for one in self.rows if (one["services"], one["vpus"], one["strategy"]) != mine]

    def keep(self) -> None:
        """Write the raw figures."""
        host = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
        raw = {"host": host, "rows": self.rows}
        (self._out / "paper.json").write_text(json.dumps(raw, indent=1) + "\n")


async def _undeploy(url: str, groups: list[str]) -> None:
    async with connect(url) as hams:
        for group in groups:
            await Control(hams.bus).undeploy(group)


def planned(
    system: System, specs: list[dict[str, Any]], ids: tuple[str, ...], services: str, vpus: int, strategies: str
) -> Iterator[Row]:
    """Yield what each of the strategies (with commas) would do on the devices `ids`; nothing is deployed."""
    places = {f"{spec['name']}/{node}": ids for spec in specs for node in spec["nodes"]}
    for answer in _answers(system, cases.pinned(specs, places, "hfs"), strategies):
        yield _row(answer, specs, services, vpus, answer["strategy"])


def paper_row(system: System, specs: list[dict[str, Any]], ids: tuple[str, ...], services: str) -> Row | None:
    """Return the placement of the paper's objective, with what a plan says of it; None with too few devices."""
    asked = cases.stated_instance(specs, ids).replace(objective="paper")
    try:
        best = solve(asked, "optimal")
    except NoPlacementError:
        return None
    [answer] = _answers(system, cases.pinned(specs, best.shares, "hfs"), "hfs")
    return _row(answer, specs, services, len(ids) - 2, cases.PAPER)


def _answers(system: System, specs: list[dict[str, Any]], strategies: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        path = cases.write_groups(specs, Path(scratch))
        answers: list[dict[str, Any]] = json.loads(system.ctl("plan", str(path), "--strategy", strategies, "--json"))
    for answer in answers:
        if answer["error"]:
            raise SystemExit(f"{answer['strategy']}: {answer['error']}")
    return answers


def _row(answer: dict[str, Any], specs: list[dict[str, Any]], services: str, vpus: int, strategy: str) -> Row:
    alone = specs[0]["name"] if len(specs) == 1 else ""
    shares = {f"{alone}/{node}" if alone else node: parts for node, parts in answer["shares"].items()}
    fps = dict(answer["group_fps"]) or {alone: float(answer["fps"])}
    return Row(services, vpus, strategy, shares, fps, answer["bottleneck"])


def _home(name: str) -> Path:
    home = folder() / f"home-paper-{name}"
    shutil.rmtree(home, ignore_errors=True)
    os.environ["HAMS_HOME"] = str(home)
    return home


def serve_slides(bench: Bench, pattern: str) -> None:
    """Serve the case of the slides: 4.38 FPS on the GPU, 5.64 with whole models, 10.19 with shared ones."""
    if not _matching(SLIDES, 1, SLIDES_STRATEGIES, pattern):
        return
    specs = [cases.group_spec("face", slides=True)]
    home = _home(SLIDES)
    stated = cases.devices(specs, 1, home / "profiles", slides=True)
    with System(list(stated.named)) as system:
        for row in planned(system, specs, stated.ids, SLIDES, 1, ",".join(SLIDES_STRATEGIES)):
            if fnmatch.fnmatch(row.name, pattern):
                bench.serve(system, specs, row)


def serve_services(bench: Bench, pattern: str, vpus: tuple[int, ...]) -> None:
    """Serve F, P and V alone and at once, by every strategy, with so many VPUs."""
    wanted = [
        (n, s) for n in vpus for s in cases.SERVICES if _matching(s, n, (*cases.STRATEGIES, cases.PAPER), pattern)
    ]
    if not wanted:
        return
    by_group = {group: cases.group_spec(group) for group in cases.SERVICES["F+P+V"]}
    home = _home("services")
    stated = cases.devices(list(by_group.values()), max(vpus), home / "profiles")
    with System(list(stated.named)) as system:
        for number, services in wanted:
            specs = [by_group[group] for group in cases.SERVICES[services]]
            ids = stated.first(number)
            rows = list(planned(system, specs, ids, services, number, ",".join(cases.STRATEGIES)))
            last = paper_row(system, specs, ids, services)
            for row in (*rows, *([last] if last else [])):
                if fnmatch.fnmatch(row.name, pattern):
                    bench.serve(system, specs, row)


def serve_real(bench: Bench, pattern: str) -> None:
    """Serve the services on two real devices of one core each; all strategies for all services at once."""
    by_group = {group: cases.group_spec(group) for group in cases.SERVICES["F+P+V"]}
    named = devices(("openvino", "onnxruntime"))
    _home("real")
    with System(list(named.values())) as system:
        for services, groups in cases.SERVICES.items():
            specs, about = [by_group[group] for group in groups], f"{services}{REAL}"
            strategies = ",".join(names() if len(groups) > 1 else ("hfs", "replicated"))
            for row in planned(system, specs, tuple(named), about, 0, strategies):
                if fnmatch.fnmatch(row.name, pattern):
                    bench.serve(system, specs, row)


def _matching(services: str, vpus: int, strategies: tuple[str, ...], pattern: str) -> list[str]:
    return fnmatch.filter([f"{services}, {vpus} VPU, {one}" for one in strategies], pattern)


def main(arguments: list[str] | None = None) -> None:
    """``python -m benchmarks paper [--quick] [--only PATTERN] [--real] [--minutes N] [--out FOLDER]``."""
    about = f"Takes 30 minutes on two cores and at most {MINUTES:g}, and two more for what has begun; --quick takes 10."
    parser = argparse.ArgumentParser(prog="benchmarks paper", description=about)
    parser.add_argument("--quick", action="store_true", help="with 1 and 4 VPUs only")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        help="only rows whose name has this, e.g. 'F, 4 VPU', 'slides' or 'intel'; the others keep their figures",
    )
    parser.add_argument("--real", action="store_true", help="on two real devices of one core each instead")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="what is left then is planned and not served")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of tables, plots, JSON")
    chosen = parser.parse_args(arguments)
    os.environ["HAMS_HOST"] = cases.HOST
    chosen.out.mkdir(parents=True, exist_ok=True)
    pattern = f"*{chosen.only or ''}*"
    bench = Bench(chosen.out, chosen.minutes, keep=bool(chosen.only) or chosen.real)
    if chosen.real:
        serve_real(bench, pattern)
    else:
        serve_slides(bench, pattern)
        serve_services(bench, pattern, QUICK if chosen.quick else ORDER)
    if fnmatch.fnmatch("intel", pattern):
        intel_report.write(chosen.out)
    write(bench.rows, chosen.out)
    print(markdown(bench.rows))


if __name__ == "__main__":
    main()
