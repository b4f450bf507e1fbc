"""Group FPS predicted before deployment against measured: ``python -m benchmarks prediction``.

In each round, for each set of devices, a system with an empty home measures the networks and plans every case; these
are the predictions. Nothing has been served, so nothing is learned from serving. Then a new system (a new scheduler)
starts from that home and serves the set's cases one after another. So the noise of one measurement of the networks
does not stay in all rounds. The order of the sets and of their cases changes from round to round. All nodes are pinned,
streams are lossless, as fast as they go. Rules: :mod:`benchmarks.prediction.rules`.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.prediction import calibration, rules
from benchmarks.prediction.cases import HOST, PredictionCase, all_cases, deployment, device_sets, folder
from benchmarks.prediction.measuring import Prediction, measure, predict
from benchmarks.prediction.report import markdown, write
from benchmarks.serving.cases import ROOT
from benchmarks.serving.hams import System
from hams_shared.errors import HamsError

ROUNDS = 3
LAST_REPEAT_S = 3000.0
"""A void measurement is repeated once in its round, but not when the run has lasted this long."""


class Bench:
    """One run of the benchmark over `cases`; `rows` are what was measured so far."""

    def __init__(self, cases: list[PredictionCase], rows: list[rules.Row], out: Path) -> None:
        self._sets = device_sets()
        self._cases = {name: mine for name in self._sets if (mine := [case for case in cases if case.devices == name])}
        self._predicted: dict[str, Prediction] = {}  # by case, in this round
        self._profiled: dict[str, float] = {}
        self.rows = rows
        self._out = out
        self._began = time.monotonic()

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:5.0f} s  {text}", flush=True)

    def _system(self, name: str, home: Path) -> System:
        os.environ["HAMS_HOME"] = str(home)
        return System(list(self._sets[name].named.values()))

    def round(self, number: int) -> None:
        """Measure the networks anew, predict, and serve every case once."""
        names = list(self._cases)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            home = folder() / "home"
            shutil.rmtree(home, ignore_errors=True)
            self._predict(name, home)
            with self._system(name, home) as system:  # a new scheduler, which has learned nothing
                for case in self._cases[name][:: -1 if number % 2 else 1]:
                    self._case(system, case, number)

    def _predict(self, name: str, home: Path) -> None:
        """Measure the networks on a set of devices and predict its cases, before anything is deployed."""
        before = calibration.rate()
        with self._system(name, home) as system:
            for case in self._cases[name]:
                self._predicted[case.name] = predict(system, case)
                said = ", ".join(f"{group} {fps:.2f}" for group, fps in self._predicted[case.name].fps.items())
                self._say(f"{case.name}: predicted {said}")
        after = calibration.rate()
        self._profiled[name] = (before + after) / 2.0
        self._say(f"{name}: profiled; calibration {before:.0f} before, {after:.0f} after")

    def _case(self, system: System, case: PredictionCase, number: int) -> None:
        for attempt in range(2 if time.monotonic() - self._began < LAST_REPEAT_S else 1):
            try:
                found = measure(system, self._sets[case.devices], case)
            except (SystemExit, HamsError, subprocess.TimeoutExpired) as error:  # the other cases are still measured
                why = str(error).strip().splitlines()[-1:] or [type(error).__name__]
                found = {group: {"void": f"failed: {why[0][:200]}"} for group in self._predicted[case.name].fps}
            for group, one in found.items():
                self._row(case, number, attempt, group, one)
            if not any(one["void"] for one in found.values()):
                break
        self.keep()

    def _row(self, case: PredictionCase, number: int, attempt: int, group: str, one: dict[str, Any]) -> None:
        prediction, profiled = self._predicted[case.name], self._profiled[case.devices]
        predicted, stated = prediction.fps[group], group in prediction.stated
        row = {
            "case": case.name,
            "group": group,
            "devices": case.devices,
            "placement": case.placement,
            "round": number,
            "attempt": attempt,
            "predicted": round(predicted, 3),
            "profiled": profiled,
            "stated": stated,
            **one,
        }
        self.rows.append(row)
        if "measured" not in row:
            self._say(f"{case.name}: {group} {row['void']}")
            return
        speeds = (profiled, one["before"], one["after"])
        row["corrected"] = one["measured"] if stated else round(rules.corrected(one["measured"], *speeds), 3)
        self._say(
            f"{case.name}: {group} predicted {predicted:.2f} measured {row['measured']:.2f} corrected "
            f"{row['corrected']:.2f} expected {row['expected']:.2f}  {row['void'] and 'void: ' + row['void']}"
        )

    def keep(self) -> None:
        """Write the raw figures."""
        host = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
        (self._out / "prediction.json").write_text(json.dumps({"host": host, "rows": self.rows}, indent=1) + "\n")


def chosen_cases(pattern: str | None) -> list[PredictionCase]:
    """The cases whose name contains `pattern` or matches it with wildcards; all without one."""
    return [case for case in all_cases() if pattern is None or fnmatch.fnmatch(case.name, f"*{pattern}*")]


def main(arguments: list[str] | None = None) -> None:
    """``python -m benchmarks prediction [--quick] [--only PATTERN] [--rounds N] [--out FOLDER]``."""
    parser = argparse.ArgumentParser(prog="benchmarks prediction")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--only", metavar="PATTERN", help="only cases whose name has this; others keep their figures")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of table, picture, JSON")
    parser.add_argument("--list", action="store_true", help="only show the cases")
    chosen = parser.parse_args(arguments)
    cases = chosen_cases(chosen.only)
    if chosen.list:
        print("\n".join(case.name for case in cases))
        return
    if not cases:
        raise SystemExit(f"no case matches {chosen.only!r}; see --list")
    os.environ["HAMS_HOST"] = HOST
    chosen.out.mkdir(parents=True, exist_ok=True)
    raw = chosen.out / "prediction.json"
    kept = json.loads(raw.read_text())["rows"] if raw.exists() and chosen.only else []
    names = {case.name for case in cases}
    bench = Bench(cases, [row for row in kept if row["case"] not in names], chosen.out)
    for case in cases:  # videos and counts are made before anything is timed
        deployment(case, folder())
    for number in range(1 if chosen.quick else chosen.rounds):
        bench.round(number)
    write(bench.rows, chosen.out)
    print(markdown(bench.rows))


if __name__ == "__main__":
    main()
