"""``python -m hams_agents.backends.contract mypackage:Backend``: does a backend keep its contract?"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from hams_agents.backends.contract import kit, samples
from hams_shared.errors import BadInputError, HamsError
from hams_shared.runtime.lifecycle import report

MARKS = {True: "ok  ", False: "FAIL", None: "–   "}


def command(
    backend: Annotated[str, typer.Argument(help="The class, as its entry point names it: mypackage:Backend.")],
    device: Annotated[str | None, typer.Option(help="NAME:TARGET or TARGET; default: the first it finds.")] = None,
    model: Annotated[Path | None, typer.Option(help="A network of the backend's own format; default: ONNX.")] = None,
    shape: Annotated[str, typer.Option(help="The network's input for one image.")] = "1,3,224,224",
    dtype: Annotated[str, typer.Option(help="The input's element type, f32 or u8.")] = "f32",
) -> None:
    """Run each check of the contract, print how it ended, and exit with 1 if one failed, 2 if none could be run."""
    sys.path.insert(0, os.getcwd())
    try:
        failed = _print(backend, device, None if model is None else _sample(model, shape, dtype))
    except HamsError as error:
        raise typer.Exit(report(error)) from None
    raise typer.Exit(1 if failed else 0)


def _print(backend: str, device: str | None, sample: samples.Sample | None) -> int:
    """Print the results; return how many checks failed."""
    counts = {True: 0, False: 0, None: 0}
    with tempfile.TemporaryDirectory(prefix="hams-contract-") as folder:
        for result in kit.run(backend, device, Path(folder), sample):
            counts[result.ok] += 1
            print(f"{MARKS[result.ok]} {result.check}", flush=True)
            if result.why:
                print(f"       {result.why}", flush=True)
    print(f"{sum(counts.values())} checks: {counts[True]} passed, {counts[False]} failed, {counts[None]} not checked")
    return counts[False]


def _sample(path: Path, shape: str, dtype: str) -> samples.Sample:
    try:
        sizes = [int(part) for part in shape.split(",")]
    except ValueError:
        raise BadInputError(f"--shape {shape!r} is not a list of sizes", "write 1,3,224,224") from None
    if not path.is_file() or dtype not in ("f32", "u8"):
        raise BadInputError(f"there is no network {path}, or {dtype!r} is not f32 or u8")
    return samples.of_file(path, sizes, dtype)


if __name__ == "__main__":
    typer.run(command)
