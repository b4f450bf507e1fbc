"""``make bench-check``: is this tree as fast as another commit? Both serve the same groups, in turns.

Run it before an issue is resolved. It is no part of CI: machines there are shared.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.check.compare import Ratio, ratio, slower
from benchmarks.check.trees import ROOT, base_commit, checked_out, copied, turn
from benchmarks.serving.cases import FACE, LIGHT, devices

FIRST = ("openvino", "onnxruntime")
"""The two devices that a group is spread over, one core each."""
ELSEWHERE = {"face": ("face", "gender", "age"), "light": ("head",)}
"""By case: nodes on the second device. Placements of both trees are the same, whatever their schedulers think."""
Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""By side: what each turn measured."""


def cases(names: list[str], tree: Path, folder: Path, pinned: list[str]) -> list[Path]:
    """Write the group files of the cases to `folder`, as `tree` has them: another one may not know their keys.

    `pinned` are the ids of two devices, or none: each tree places its nodes.
    """
    files = {name: _own(tree, path) for name, path in (("face", FACE), ("light", LIGHT))}
    streams = yaml.safe_load(files["face"].read_text())["streams"]
    folder.mkdir()
    paths = []
    for name in names:
        if name not in files:
            raise SystemExit(f"no case {name!r}: there are {', '.join(files)}")
        spec = yaml.safe_load(files[name].read_text()) | {"name": name, "streams": streams}
        for node, one in spec["nodes"].items() if pinned else ():
            one["pin"] = [pinned[node in ELSEWHERE[name]]]
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(spec, sort_keys=False))
    return paths


def _own(tree: Path, path: Path) -> Path:
    """The same file of another tree; ours, where it has none."""
    theirs = tree / path.relative_to(ROOT)
    return theirs if theirs.exists() else path


def ratios(rows: Rows) -> tuple[Ratio, Ratio, list[Ratio]]:
    """Frames/s; CPU per frame; CPU per frame by part, those that cost something."""
    this, base = rows["this"], rows["base"]

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


def said(row: Row) -> str:
    """One case of one turn."""
    return f"{row['fps']:.1f} FPS, {sum(row['cpu_ms'].values()):.1f} ms of CPU a frame"


def measure(
    commit: str, names: list[str], rounds: int, seconds: float, named: list[str], budget: float, console: Console
) -> dict[str, Rows]:
    """Let both trees serve in turns; return the rows by case. After `budget` s no further round begins."""
    began = time.monotonic()
    found: dict[str, Rows] = {name: {"base": [], "this": []} for name in names}
    with tempfile.TemporaryDirectory(prefix="hams-bench-check-") as name:
        folder = Path(name)
        trees = {"base": checked_out(commit, folder / "base"), "this": copied(ROOT, folder / "this")}
        known = devices(FIRST)
        pinned = [] if named else list(known)
        files = {side: cases(names, tree, folder / f"groups-{side}", pinned) for side, tree in trees.items()}
        longest = 0.0
        for number in range(rounds):
            if number and time.monotonic() - began + longest > budget:
                console.print(f"{number} of {rounds} rounds: another would go past {budget:g} s (--budget)")
                break
            start = time.monotonic()
            for side in ("base", "this") if number % 2 == 0 else ("this", "base"):  # A B B A: drift cancels
                home = folder / f"home-{side}"
                if number == 0:
                    console.print(f"{time.monotonic() - began:4.0f} s  {side}: measures the networks first")
                for case, row in turn(trees[side], home, files[side], seconds, named or list(known.values())).items():
                    found[case][side].append(row)
                    at = time.monotonic() - began
                    console.print(f"{at:4.0f} s  round {number + 1}, {side}, {case}: {said(row)}", highlight=False)
            longest = max(longest, (time.monotonic() - start) if number else 0.0)
    return found


def judge(found: dict[str, Rows], tolerance: float, console: Console) -> list[str]:
    """Show the tables; return why this tree is slower."""
    verdicts: list[str] = []
    for name, rows in found.items():
        fps, cpu_ms, parts = ratios(rows)
        console.print()
        console.print(table(name, [fps, cpu_ms, *parts]))
        verdicts += [f"{name}: {why}" for why in slower(fps, cpu_ms, tolerance)]
    return verdicts


def interrupted(number: int, frame: object) -> None:
    """Clean up and end; that takes a minute at most and is not interrupted again."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(
    base: Annotated[str, typer.Option(help="Commit to compare with; default: the last tag.")] = "",
    case: Annotated[list[str] | None, typer.Option(help="face, light; default: both.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each tree.")] = 4,
    seconds: Annotated[float, typer.Option(min=1, help="Measured time of each case in a turn, s.")] = 8.0,
    device: Annotated[
        list[str] | None, typer.Option(help="As for `hams-ctl up`; default: two of one core each, nodes pinned.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="How much slower is still as fast.")] = 0.10,
    budget: Annotated[float, typer.Option(min=0, help="No round begins that would end after so long, s.")] = 350.0,
    out: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Compare this tree with another commit: frames/s and CPU time per frame, in turns.

    Exit code 1: it is slower. 2: that could not be measured.
    """
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, interrupted)
    console = Console()
    try:
        commit = base_commit(base)
        names = list(dict.fromkeys(case or ["face", "light"]))
        console.print(f"this tree against {commit[:10]}, {rounds} rounds, on {os.cpu_count()} cores")
        found = measure(commit, names, rounds, seconds, device or [], budget, console)
    except SystemExit as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n")
    verdicts = judge(found, tolerance, console)
    for verdict in verdicts:
        console.print(f"slower: {verdict}")
    if verdicts:
        raise typer.Exit(1)
    console.print(f"ok: within {tolerance:.0%} of {commit[:10]}")


if __name__ == "__main__":
    typer.run(main)
