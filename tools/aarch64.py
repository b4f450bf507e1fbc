"""Checks that every dependency has a wheel for ARM64 Linux, and prints the glibc that the newest of them needs.

It asks pip to resolve the dependencies and extras of ``pyproject.toml`` for that platform, and installs nothing:
``python tools/aarch64.py [EXTRA ...]``. It exits with 1 where pip finds none. docs/decisions/0023-aarch64.md
has the result.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("web", "gateway", "mqtt", "otel", "litert", "notify", "onvif")
GLIBC = range(17, 36)
"""Minor versions of glibc 2.x whose wheels are taken; 2.35 is what Debian 12 and Ubuntu 22.04 offer at least."""
PYTHON = "3.12"
SOURCE_ONLY = ("nkeys",)
"""Pure Python, published as source only on every platform."""


def requirements(extras: tuple[str, ...]) -> list[str]:
    """Return the requirements that hold on ARM64, without their markers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    plain = [one.partition(";")[0].strip() for one in wanted if "onnxruntime-gpu" not in one]
    return [one for one in plain if not one.startswith(SOURCE_ONLY)]


def resolve(wanted: list[str]) -> list[tuple[str, str, str]]:
    """Return name, version and file of each wheel that pip would install. Raises CalledProcessError."""
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in GLIBC] + ["manylinux2014_aarch64"]
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    argv += ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    argv += [part for platform in platforms for part in ("--platform", platform)]
    argv += [part for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none") for part in ("--abi", abi)]
    done = subprocess.run([*argv, *wanted], check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)["install"]
    return sorted(
        (one["metadata"]["name"], one["metadata"]["version"], one["download_info"]["url"].rpartition("/")[2])
        for one in found
    )


def glibc(wheel: str) -> int:
    """Return the least minor version of glibc 2.x that a wheel names; 0: it is pure Python."""
    named = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_aarch64", wheel)]
    named += [17] * wheel.count("manylinux2014_aarch64")
    return min(named, default=0)


def main() -> int:
    """Print one line per wheel with compiled code, the most demanding first, and a summary."""
    extras = tuple(sys.argv[1:]) or EXTRAS
    try:
        found = resolve(requirements(extras))
    except subprocess.CalledProcessError as error:
        print(f"pip finds no wheels for ARM64 Linux (exit {error.returncode}): see its lines above", file=sys.stderr)
        return 1
    compiled = sorted(((glibc(wheel), name, version) for name, version, wheel in found if glibc(wheel)), reverse=True)
    for minor, name, version in compiled:
        print(f"glibc 2.{minor}  {name} {version}")
    print(
        f"{len(found)} wheels for ARM64, {len(compiled)} with compiled code; extras {', '.join(extras)}; "
        f"glibc 2.{compiled[0][0]} or newer; from source: {', '.join(SOURCE_ONLY)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
