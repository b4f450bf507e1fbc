"""Networks that people bring are read in a child process with limits: a damaged file ends that one, not the page."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hams_services.models.prepare import Made, read_files
from hams_shared.errors import ModelError
from hams_shared.runtime.child_limits import Limits
from hams_shared.runtime.child_process import Bounds, ChildProcess

LIMITS = Limits(memory_mib=6144, cpu_s=180, wall_s=240.0)


def make_files(path: Path, outputs: Sequence[str], shape: Sequence[int], ports: bool) -> Made:
    """Return what agents get of a network; see :data:`hams_services.models.prepare.Make`. Blocking.

    Raises:
        ModelError: the file is damaged, or ended the process that read it.
    """
    with tempfile.TemporaryDirectory(prefix="hams-web-") as folder:
        arguments = {
            "path": str(path),
            "outputs": list(outputs),
            "shape": list(shape),
            "ports": ports,
            "folder": folder,
        }
        made = _run("hams_services.models.prepare:write_files", arguments, path.name, Path(folder), Bounds())
        return read_files(made)


async def inspected(path: Path) -> dict[str, dict[str, str]]:
    """Return inputs and outputs of an uploaded network, with their shapes. Raises ModelError."""
    bounds, inspect = Bounds(), "hams_services.models.uploads:inspect"
    try:
        found = await asyncio.to_thread(_run, inspect, {"path": str(path)}, path.name, path.parent, bounds)
        return {kind: dict(found[kind]) for kind in ("inputs", "outputs")}
    finally:
        bounds.cancel()


def _run(function: str, arguments: dict[str, Any], what: str, folder: Path, bounds: Bounds) -> Any:
    with ChildProcess(folder, LIMITS, bounds, blame=ModelError) as child:
        return child.run(function, arguments, what=what)
