"""The two trees that are compared, and how one serves for a turn."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("services", "scheduler", "agents", "shared")
TURN_S = 300.0
"""Deadline of one turn beside what it measures, s; the first of a tree measures all networks."""
END_S = 60.0
"""How long a turn that is told to end may take, s."""


def git(*args: str) -> str:
    """Run git in this repository. Raises SystemExit with what it says."""
    done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise SystemExit(f"git {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout.strip()


def base_commit(wanted: str) -> str:
    """Return the commit to compare with: `wanted`, or else the last tag. Raises SystemExit when there is none."""
    if wanted:
        return git("rev-parse", "--verify", f"{wanted}^{{commit}}")
    if not git("tag"):
        raise SystemExit("there is no tag to compare with: name a commit with --base (make bench-check BASE=HEAD~5)")
    return git("rev-parse", "--verify", git("describe", "--tags", "--abbrev=0") + "^{commit}")


def checked_out(commit: str, to: Path) -> Path:
    """Put the packages and examples of `commit` into `to`, and return that.

    It is no worktree of git: one that is interrupted while it is made stays registered.
    """
    to.mkdir()
    packed = to / "packages.tar"
    git("archive", "--format=tar", f"--output={packed}", commit, *PACKAGES, "examples")
    with tarfile.open(packed) as archive:
        archive.extractall(to, filter="data")
    packed.unlink()
    return to


def copied(tree: Path, to: Path) -> Path:
    """Copy the packages of `tree` as they are now: what is edited meanwhile is not measured. Returns `to`."""
    for package in PACKAGES:
        shutil.copytree(tree / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
    return to


def turn(tree: Path, home: Path, groups: list[Path], seconds: float, devices: list[str]) -> dict[str, dict[str, Any]]:
    """Let `tree` serve the groups, one after another, and return what turn.py measured, by group.

    Raises SystemExit when it fails, or does not end in time. No process of it stays, whatever happens.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(str(tree / package) for package in PACKAGES)
    environment = {**os.environ, "PYTHONPATH": path, "HAMS_HOME": str(home), "HAMS_HOST": "box"}
    environment.pop("HAMS_NATS_URL", None)
    words = [str(tree), str(seconds), ",".join(map(str, groups)), *devices]
    # In a session of its own: Ctrl-C reaches this process only, which then ends the other.
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "turn.py"), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, error = process.communicate(timeout=TURN_S + seconds * len(groups))
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{tree}: no end after {TURN_S + seconds * len(groups):g} s") from None
    finally:
        _end(process)
    if process.returncode:
        raise SystemExit(f"{tree.name}: {out}{error}")
    rows: dict[str, dict[str, Any]] = json.loads(out.splitlines()[-1])
    return rows


def _end(process: subprocess.Popen[str]) -> None:
    """End a turn that still runs: it stops its system itself; what does not end is killed."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
