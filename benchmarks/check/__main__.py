"""``make bench-check``: is this tree as fast as another commit? Both serve the same groups, in turns.

Run it before an issue is resolved. It is no part of CI: machines there are shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.check.compare import Ratio, ratio, slower

ROOT = Path(__file__).parents[2]
PACKAGES = ("services", "scheduler", "agents", "shared")
TURN_S = 180.0
"""Deadline of one turn, s."""
Row = dict[str, Any]


def git(*args: str) -> str:
    """Run git in this repository. Raises SystemExit with what it says."""
    done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise SystemExit(f"git {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout.strip()


def base_commit(wanted: str) -> str:
    """The commit to compare with: `wanted`, or else the last tag."""
    if wanted:
        return git("rev-parse", "--verify", f"{wanted}^{{commit}}")
    if not git("tag"):
        raise SystemExit("there is no tag to compare with: name a commit with --base (make bench-check BASE=HEAD~5)")
    return git("rev-parse", "--verify", git("describe", "--tags", "--abbrev=0") + "^{commit}")


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A worktree of `commit`, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="hams-bench-check-") as folder:
        tree = Path(folder) / "base"
        git("worktree", "add", "--detach", "--quiet", str(tree), commit)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def cases(names: list[str], folder: Path) -> dict[str, Path]:
    """Group files of the cases, with a stream each."""
    face = yaml.safe_load((ROOT / "examples" / "face.yaml").read_text())
    light = yaml.safe_load((ROOT / "benchmarks" / "serving" / "light.yaml").read_text()) | {"streams": face["streams"]}
    known = {"face": face, "light": light}
    for name in names:
        if name not in known:
            raise SystemExit(f"no case {name!r}: there are {', '.join(known)}")
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(known[name], sort_keys=False))
    return {name: folder / f"{name}.yaml" for name in names}


def turn(tree: Path, home: Path, group: Path, seconds: float, devices: list[str]) -> Row:
    """One turn of one tree; see turn.py."""
    home.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(str(tree / package) for package in PACKAGES)
    environment = {**os.environ, "PYTHONPATH": path, "HAMS_HOME": str(home), "HAMS_HOST": "box"}
    environment.pop("HAMS_NATS_URL", None)
    argv = [sys.executable, str(Path(__file__).parent / "turn.py"), str(tree), str(group), str(seconds), *devices]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=TURN_S + seconds)
    if done.returncode:
        raise SystemExit(f"{tree}: {done.stdout}{done.stderr}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def ratios(this: list[Row], base: list[Row]) -> tuple[Ratio, Ratio, list[Ratio]]:
    """Frames/s; CPU per frame; CPU per frame by part, those that cost something."""

    def total(row: Row) -> float:
        return float(sum(row["cpu_ms"].values()))

    parts = [part for part in this[0]["cpu_ms"] if min(row["cpu_ms"].get(part, 0) for row in (*this, *base)) > 0]
    return (
        ratio("frames/s", [row["fps"] for row in this], [row["fps"] for row in base]),
        ratio("CPU ms/frame", [total(row) for row in this], [total(row) for row in base]),
        [ratio(f"  {p}", [row["cpu_ms"][p] for row in this], [row["cpu_ms"][p] for row in base]) for p in parts],
    )


def table(case: str, found: list[Ratio]) -> Table:
    """As a person reads it."""
    shown = Table(title=case, title_justify="left", box=None, pad_edge=False)
    for name in ("", "base", "this tree", "ratio", "of single rounds"):
        shown.add_column(name, justify="right" if name else "left")
    for one in found:
        spread = f"{min(one.rounds):.2f} to {max(one.rounds):.2f}"
        shown.add_row(one.name, f"{one.base:.2f}", f"{one.this:.2f}", f"{one.middle:.3f}", spread)
    return shown


def main(
    base: Annotated[str, typer.Option(help="Commit to compare with; default: the last tag.")] = "",
    case: Annotated[list[str] | None, typer.Option(help="face, light; default: both.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each tree.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Measured time of a turn, s.")] = 8.0,
    device: Annotated[list[str] | None, typer.Option(help="As for `hams-ctl up`.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="How much slower is still as fast.")] = 0.10,
    out: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Compare this tree with another commit: frames/s and CPU time per frame, in turns. Exit code 1: it is slower."""
    console = Console()
    commit = base_commit(base)
    console.print(f"this tree against {commit[:10]}, {rounds} rounds of {seconds:g} s, on {os.cpu_count()} cores")
    report: dict[str, dict[str, list[Row]]] = {}
    verdicts: list[str] = []
    with tempfile.TemporaryDirectory() as folder, checked_out(commit) as tree:
        trees = {"base": tree, "this": ROOT}
        files = cases(case or ["face", "light"], Path(folder))
        for name, group in files.items():
            rows: dict[str, list[Row]] = {"base": [], "this": []}
            for number in range(rounds):
                for side in ("base", "this") if number % 2 == 0 else ("this", "base"):  # A B B A: drift cancels
                    row = turn(trees[side], Path(folder) / side, group, seconds, device or ["openvino:CPU"])
                    rows[side].append(row)
                    cpu = sum(row["cpu_ms"].values())
                    console.print(
                        f"  {name}, round {number + 1}, {side}: {row['fps']:.1f} FPS, {cpu:.1f} ms of CPU a frame"
                    )
            fps, cpu_ms, parts = ratios(rows["this"], rows["base"])
            console.print(table(name, [fps, cpu_ms, *parts]))
            verdicts += [f"{name}: {why}" for why in slower(fps, cpu_ms, tolerance)]
            report[name] = rows
    if out is not None:
        out.write_text(json.dumps(report, indent=1))
    for verdict in verdicts:
        console.print(f"slower: {verdict}")
    if verdicts:
        raise typer.Exit(1)
    console.print(f"ok: within {tolerance:.0%} of {commit[:10]}")


if __name__ == "__main__":
    typer.run(main)
