"""The child process that reads, converts and quantises foreign files, under limits."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from hams_services.optimizer.progress import ProgressCallback
from hams_shared.errors import BadInputError, ModelError
from hams_shared.runtime.child_limits import Limits
from hams_shared.runtime.child_process import Bounds, ChildProcess, sandboxed

JOBS = {
    "import": "hams_services.optimizer.importing.convert:import_file",
    "train": "hams_services.optimizer.distill.training:train_student",
}
"""Requests beside those of the passes: functions of plain values that return a plain map; paths are absolute."""


def for_budget(limits: Limits, budget_s: float) -> Limits:
    """Return `limits` that a job reaches after its budget only: its process serves all of its requests."""
    cores = os.cpu_count() or 1  # the tools compute on all of them
    cpu_s, wall_s = math.ceil(cores * budget_s), max(limits.wall_s, budget_s)
    return replace(limits, cpu_s=limits.cpu_s and max(limits.cpu_s, cpu_s), wall_s=wall_s)


class JobProcess(ChildProcess):
    """Runs :data:`JOBS` and functions of passes in a child process that can write to `folder` only."""

    def __init__(self, folder: Path, limits: Limits | None = None, bounds: Bounds | None = None) -> None:
        super().__init__(
            folder, limits or Limits(), bounds, environment=sandboxed(folder.resolve(), os.environ), blame=ModelError
        )

    def call(
        self, do: str, *, timeout: float | None = None, progress: ProgressCallback | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Return the answer to the request `do`; `progress` gets what the job reports.

        Raises:
            HamsError: the job's own.
            BadInputError: the job is cancelled, or `do` is not known.
            ModelError: the process crashed, or exceeded a limit.
            DeadlineError: the request takes longer than `timeout` s, or the budget is spent; the process is ended.
        """
        if do not in JOBS:
            raise BadInputError(f"no job {do!r}", f"known: {', '.join(JOBS)}")
        answer: dict[str, Any] = self.run(JOBS[do], arguments, what=do, timeout=timeout, progress=progress)
        return answer
