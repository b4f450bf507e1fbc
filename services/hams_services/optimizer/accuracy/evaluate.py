"""Runs a node outside of serving, by the agents' own code, in a child process."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hams_shared.errors import HamsError, from_wire
from hams_shared.group.node_spec import InputSpec, NodeSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.child_limits import UNLIMITED
from hams_shared.runtime.child_process import Bounds, ChildProcess, sandboxed
from hams_shared.wire.messages.group import FurtherInput

EVALUATE = "hams_agents.evaluate.entry:evaluate"
MAX_ANSWER = 1 << 30
"""Bytes of all predictions for a folder of samples."""
IMAGE_S = 2.0
"""Time that an image may take with a network, besides the request's own, s."""
THREADS = "OMP_NUM_THREADS"
CONFINED = ("openvino:CPU", "onnxruntime:CPU", "litert:CPU")
"""Devices without drivers: networks run there in a process that writes nowhere else and reaches no network."""


@dataclass(frozen=True)
class Candidate:
    """A network file to run, and its input where that differs from the node's."""

    path: Path
    digest: str = ""
    input: InputSpec | None = None
    further: tuple[FurtherInput, ...] = ()
    """Its inputs besides the image."""


@dataclass(frozen=True)
class Predictions:
    """A node's predictions with one network: an item per sample, or the error that prevented them."""

    items: list[Any]
    threshold: float | None = None
    """Objects with a score below it are there only because of the requested margin."""
    fps: float = 0.0
    error: HamsError | None = None


class Evaluator:
    """Runs nodes on samples on `device`; blocking.

    A request may take `timeout` s and IMAGE_S for each image, or until the end of `bounds`, whichever is later.
    """

    def __init__(
        self,
        device: str,
        timeout: float = 600.0,
        nice: int = 10,
        memory_mib: int = 0,
        bounds: Bounds | None = None,
    ) -> None:
        self.device = device
        self._bounds = bounds
        self._memory_mib = memory_mib
        confine = device.partition("@")[0] in CONFINED
        self._limits = replace(UNLIMITED, nice=nice, wall_s=timeout, confine=confine)

    def decode(
        self,
        name: str,
        node: NodeSpec,
        candidates: Sequence[Candidate],
        samples: Path,
        names: Sequence[str] = (),
        time_it: bool = False,
        margin: float = 0.0,
    ) -> list[Predictions]:
        """Return the predictions of `node` for the images `names` of the folder `samples`, for each candidate.

        A `margin` lowers a detector's threshold, so that more objects are returned.

        Raises:
            DeadlineError: it takes too long, or the budget is spent.
            BadInputError: the samples cannot be read, or the job is cancelled.
        """
        answer = self._ask(
            "decode",
            node,
            images=len(candidates) * _count(samples, names),
            name=name,
            models=[_model(one) for one in candidates],
            samples=str(samples.absolute()),
            names=list(names),
            time=time_it,
            margin=margin,
        )
        return [
            Predictions([], error=from_wire(one["error"]))
            if "error" in one
            else Predictions(one["items"], one.get("threshold"), one.get("fps", 0.0))
            for one in answer["results"]
        ]

    def tensors(self, node: NodeSpec, samples: Path, names: Sequence[str], out: Path) -> tuple[int, int]:
        """Write the node's input tensors for samples, N×…, as ``.npy``.

        Returns width and height of the part, from the top left, that all images together fill. Raises as
        :meth:`decode`.
        """
        across, down = self._run(
            "tensors",
            _count(samples, names),
            out.absolute().parent,
            node=_plain(node),
            samples=str(samples.absolute()),
            names=list(names),
            out=str(out.absolute()),
        )
        return across, down

    def collect(
        self, group: GroupSpec, models: Mapping[str, Candidate], frames: Path, out: Path, limit: int = 1000
    ) -> dict[str, int]:
        """Run `group` on the images of the folder `frames`; write the inputs of each node to OUT/NODE, at most `limit`.

        Returns the number of samples by node. Raises as :meth:`decode`, and ModelError for a network that fails.
        """
        counts: dict[str, int] = self._run(
            "collect",
            len(group.nodes) * _count(frames),
            out.absolute(),
            device=self.device,
            group=_plain(group),
            models={node: _model(one) for node, one in models.items()},
            frames=str(frames.absolute()),
            limit=limit,
            out=str(out.absolute()),
        )
        return counts

    def used_outputs(self, name: str, node: NodeSpec, candidate: Candidate) -> dict[str, list[int] | None]:
        """Return the outputs of the network that the node's task uses: name → indices along the last axis, None: all.

        Raises as :meth:`decode`, and ModelError for a network that fails.
        """
        used: dict[str, list[int] | None] = self._ask("used-outputs", node, 1, name=name, model=_model(candidate))
        return used

    def _ask(self, do: str, node: NodeSpec, images: int, **request: Any) -> Any:
        return self._run(do, images, device=self.device, node=_plain(node), **request)

    def _run(self, do: str, images: int, writes: Path | None = None, **request: Any) -> Any:
        """Run a request in a process, which may write to the folder `writes`."""
        request |= {"do": do, "memory_mib": self._memory_mib}
        timeout = self._limits.wall_s + IMAGE_S * images
        if self._bounds is not None and math.isfinite(self._bounds.until):
            timeout = max(timeout, self._bounds.until - time.monotonic())
        with self._process(writes) as child:
            return child.run(EVALUATE, {"request": request}, what="evaluating", timeout=timeout)

    @contextmanager
    def _process(self, writes: Path | None = None) -> Iterator[ChildProcess]:
        """Open a process; on CPUs it gets no secrets, and can write to `writes` only."""
        if not self._limits.confine:
            with ChildProcess(limits=self._limits, bounds=self._bounds, max_answer=MAX_ANSWER) as child:
                yield child
            return
        if writes is not None:
            writes.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="hams-evaluate-") as place:
            folder = Path(place).resolve()
            limits = replace(self._limits, writable=(str(writes),) if writes is not None else ())
            environment = sandboxed(folder, os.environ)
            del environment[THREADS]  # networks are timed here, with the threads that they have otherwise
            environment |= {THREADS: os.environ[THREADS]} if THREADS in os.environ else {}
            with ChildProcess(folder, limits, self._bounds, environment=environment, max_answer=MAX_ANSWER) as child:
                yield child


def _count(folder: Path, names: Sequence[str] = ()) -> int:
    """Return the number of samples; all of the folder's where no `names` are given."""
    return len(names) or (sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0)


def _plain(spec: NodeSpec | GroupSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json")


def _model(one: Candidate) -> dict[str, Any]:
    given = None if one.input is None else one.input.model_dump(mode="json")
    further = [value.model_dump(mode="json") for value in one.further]
    return {"path": str(one.path.absolute()), "digest": one.digest, "input": given, "further": further}
