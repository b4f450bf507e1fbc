"""Are builds reproducible? ``dist_check.py``: builds the committed tree in two clones and compares what comes out.

The clones have paths of different length, and their files other times and modes; the builds have another time zone and
umask. A third wheel is made from the tree without the sdist between. Run by `make dist-check`, in the environment of
`make dist`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
YEAR_S = 365 * 24 * 3600


def clone(folder: Path, umask: int, age_s: float) -> Path:
    """Clone what is committed; all files get modes by `umask`, and times of `age_s` ago."""
    quiet = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)]
    subprocess.run(quiet, check=True, umask=umask)
    at = time.time() - age_s
    for path in folder.rglob("*"):
        if ".git" not in path.parts:
            os.utime(path, (at, at))
    return folder


def build(tree: Path, kinds: list[str], umask: int, zone: str) -> dict[str, bytes]:
    """Build a tree; return the files by name. Without `kinds` the sdist, and the wheel from it."""
    epoch = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=tree, check=True, capture_output=True, text=True)
    env = {**os.environ, "SOURCE_DATE_EPOCH": epoch.stdout.strip(), "TZ": zone}
    out = tree / "out"
    argv = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *kinds, str(tree)]
    subprocess.run(argv, check=True, capture_output=True, umask=umask, env=env)
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if not path.name.startswith(".")}


def differences(first: dict[str, bytes], second: dict[str, bytes], direct: dict[str, bytes]) -> list[str]:
    """Return what is not equal; `direct` is the wheel that was made without an sdist."""
    found = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    return [*found, *(f"{name} without the sdist" for name in direct if direct[name] != first.get(name))]


def main() -> int:
    """Print what is equal; return 1 if something is not."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        first = build(clone(base / "a", 0o022, 0), [], 0o022, "UTC")
        second = build(clone(base / "another/and/deeper/path", 0o077, YEAR_S), [], 0o077, "Asia/Kathmandu")
        direct = build(clone(base / "direct", 0o022, 0), ["--wheel"], 0o022, "UTC")
    different = differences(first, second, direct)
    for name, data in first.items():
        sys.stdout.write(f"{hashlib.sha256(data).hexdigest()}  {name} ({len(data) / 1e6:.1f} MB)\n")
    sys.stdout.writelines(f"differs: {name}\n" for name in different)
    if not different and first:
        sys.stdout.write("equal in both clones; the wheel from the sdist equals the direct one\n")
    return int(bool(different) or not first)


if __name__ == "__main__":
    sys.exit(main())
