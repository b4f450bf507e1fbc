"""Runs a node outside of serving, by the agents' own code in its own process: ``python -m hams_agents.evaluate``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from hams_services.optimizer.sandbox.bounds import POLL_S, Bounds
from hams_shared.errors import DeadlineError, HamsError, InternalError, from_wire
from hams_shared.group.spec import GroupSpec, InputSpec, NodeSpec


@dataclass(frozen=True)
class Candidate:
    """A network file to run, and what it takes where that is not the node's input."""

    path: Path
    digest: str = ""
    input: InputSpec | None = None


@dataclass(frozen=True)
class Said:
    """What a node said with one network: an item per sample, or why it said nothing."""

    items: list[Any]
    threshold: float | None = None
    """Objects with a score below it were said only because of the margin that was asked for."""
    fps: float = 0.0
    error: HamsError | None = None


class Evaluator:
    """Runs nodes on samples on `device`; blocking."""

    def __init__(
        self,
        device: str,
        timeout: float = 600.0,
        nice: int = 10,
        memory_mib: int = 0,
        bounds: Bounds | None = None,
    ) -> None:
        self.device = device
        self._bounds = bounds or Bounds()
        self._memory_mib = memory_mib
        self._timeout = timeout
        self._nice = nice

    def decode(
        self,
        name: str,
        node: NodeSpec,
        candidates: Sequence[Candidate],
        samples: Path,
        names: Sequence[str] = (),
        time_it: bool = False,
        margin: float = 0.0,
    ) -> list[Said]:
        """Return what `node` says of the images `names` of the folder `samples`, for each candidate.

        With a `margin` a detector's threshold is so much lower: what it nearly finds is said, too.

        Raises:
            DeadlineError: it takes too long, or the budget is spent.
            BadInputError: the samples cannot be read, or it was cancelled.
        """
        with tempfile.TemporaryDirectory(prefix="hams-evaluate-") as folder:
            out = Path(folder) / "out.msgpack"
            self._run(
                Path(folder),
                {
                    "do": "decode",
                    "device": self.device,
                    "name": name,
                    "node": node.model_dump(mode="json"),
                    "models": [_model(one) for one in candidates],
                    "samples": str(samples),
                    "names": list(names),
                    "time": time_it,
                    "margin": margin,
                    "out": str(out),
                },
            )
            answer = msgpack.unpackb(out.read_bytes())
        return [
            Said([], error=from_wire(one["error"]))
            if "error" in one
            else Said(one["items"], one.get("threshold"), one.get("fps", 0.0))
            for one in answer["results"]
        ]

    def tensors(self, node: NodeSpec, samples: Path, names: Sequence[str], out: Path) -> tuple[int, int]:
        """Write the node's input tensors for samples, N×…, as ``.npy``.

        Returns width and height of the part, from the top left, that all images together fill. Raises as
        :meth:`decode`.
        """
        request = {
            "do": "tensors",
            "node": node.model_dump(mode="json"),
            "samples": str(samples),
            "names": list(names),
            "out": str(out),
        }
        with tempfile.TemporaryDirectory(prefix="hams-evaluate-") as folder:
            across, down = json.loads(self._run(Path(folder), request))
        return across, down

    def collect(
        self, group: GroupSpec, models: Mapping[str, Candidate], frames: Path, out: Path, limit: int = 1000
    ) -> dict[str, int]:
        """Run `group` on the images of the folder `frames`; write what each node is shown to OUT/NODE, at most `limit`.

        Returns how many samples each node has. Raises as :meth:`decode`, and ModelError for a network that fails.
        """
        request = {
            "do": "collect",
            "device": self.device,
            "group": group.model_dump(mode="json"),
            "models": {node: _model(one) for node, one in models.items()},
            "frames": str(frames),
            "limit": limit,
            "out": str(out),
        }
        with tempfile.TemporaryDirectory(prefix="hams-evaluate-") as folder:
            said = self._run(Path(folder), request)
        counts: dict[str, int] = json.loads(said)
        return counts

    def reads(self, name: str, node: NodeSpec, candidate: Candidate) -> dict[str, list[int] | None]:
        """What the node's task reads of the network's outputs: name → numbers along the last axis; None: all of them.

        Raises as :meth:`decode`, and ModelError for a network that fails.
        """
        request = {
            "do": "read",
            "device": self.device,
            "name": name,
            "node": node.model_dump(mode="json"),
            "model": _model(candidate),
        }
        with tempfile.TemporaryDirectory(prefix="hams-evaluate-") as folder:
            said = self._run(Path(folder), request)
        read: dict[str, list[int] | None] = json.loads(said)
        return read

    def _run(self, folder: Path, request: dict[str, Any]) -> str:
        """Run one request; return the last line it printed."""
        path = folder / "request.json"
        path.write_text(json.dumps({**request, "memory_mib": self._memory_mib}), encoding="utf-8")
        argv = [sys.executable, "-m", "hams_agents.evaluate", str(path)]
        if self._nice and os.name == "posix":
            argv = ["nice", "-n", str(self._nice), *argv]
        code, said, complaint = self._wait(argv)
        lines = said.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else ""
        if code:
            try:
                raise from_wire(json.loads(last))
            except (ValueError, AttributeError):
                tail = complaint.decode(errors="replace").strip().splitlines()[-1:]
                raise InternalError(f"evaluating ended with {code}: {' '.join(tail)[:300]}") from None
        return last

    def _wait(self, argv: list[str]) -> tuple[int, bytes, bytes]:
        """Run a command; return its exit code and what it printed. Raises as :meth:`decode`."""
        deadline = time.monotonic() + self._timeout
        self._bounds.check("evaluating")
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                while True:
                    try:
                        said, complaint = process.communicate(timeout=POLL_S)
                        return process.returncode, said, complaint
                    except subprocess.TimeoutExpired:
                        self._bounds.check("evaluating")
                    if time.monotonic() >= deadline:
                        raise DeadlineError(f"evaluating took longer than {self._timeout:g} s", "fewer samples")
            finally:
                process.kill()  # nothing, where it has ended


def _model(one: Candidate) -> dict[str, Any]:
    given = None if one.input is None else one.input.model_dump(mode="json")
    return {"path": str(one.path), "digest": one.digest, "input": given}
