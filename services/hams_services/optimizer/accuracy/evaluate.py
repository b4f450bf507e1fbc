"""Runs a node outside of serving, by the agents' own code, in a child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hams_shared.errors import HamsError, from_wire
from hams_shared.group.node_spec import InputSpec, NodeSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.child_limits import UNLIMITED
from hams_shared.runtime.child_process import Bounds, ChildProcess
from hams_shared.wire.messages.group import FurtherInput

EVALUATE = "hams_agents.evaluate.entry:evaluate"
MAX_ANSWER = 1 << 30
"""Bytes of all predictions for a folder of samples."""


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
        self._bounds = bounds
        self._memory_mib = memory_mib
        self._limits = replace(UNLIMITED, nice=nice, wall_s=timeout)

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
            name=name,
            models=[_model(one) for one in candidates],
            samples=str(samples),
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
        across, down = self._run("tensors", node=_plain(node), samples=str(samples), names=list(names), out=str(out))
        return across, down

    def collect(
        self, group: GroupSpec, models: Mapping[str, Candidate], frames: Path, out: Path, limit: int = 1000
    ) -> dict[str, int]:
        """Run `group` on the images of the folder `frames`; write the inputs of each node to OUT/NODE, at most `limit`.

        Returns the number of samples by node. Raises as :meth:`decode`, and ModelError for a network that fails.
        """
        counts: dict[str, int] = self._run(
            "collect",
            device=self.device,
            group=_plain(group),
            models={node: _model(one) for node, one in models.items()},
            frames=str(frames),
            limit=limit,
            out=str(out),
        )
        return counts

    def used_outputs(self, name: str, node: NodeSpec, candidate: Candidate) -> dict[str, list[int] | None]:
        """Return the outputs of the network that the node's task uses: name → indices along the last axis, None: all.

        Raises as :meth:`decode`, and ModelError for a network that fails.
        """
        used: dict[str, list[int] | None] = self._ask("used-outputs", node, name=name, model=_model(candidate))
        return used

    def _ask(self, do: str, node: NodeSpec, **request: Any) -> Any:
        return self._run(do, device=self.device, node=_plain(node), **request)

    def _run(self, do: str, **request: Any) -> Any:
        with ChildProcess(limits=self._limits, bounds=self._bounds, max_answer=MAX_ANSWER) as child:
            request |= {"do": do, "memory_mib": self._memory_mib}
            return child.run(EVALUATE, {"request": request}, what="evaluating")


def _plain(spec: NodeSpec | GroupSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json")


def _model(one: Candidate) -> dict[str, Any]:
    given = None if one.input is None else one.input.model_dump(mode="json")
    further = [value.model_dump(mode="json") for value in one.further]
    return {"path": str(one.path), "digest": one.digest, "input": given, "further": further}
