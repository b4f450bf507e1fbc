"""What a training run is asked to do, and what it says while it does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hams_shared.errors import BadInputError


class Target(BaseModel):
    """One output of the student: the teacher's name for it, its shape without the batch, and what its numbers are."""

    model_config = ConfigDict(extra="forbid")

    name: str
    shape: tuple[int, ...]
    kind: Literal["probabilities", "numbers", "direction", "heat", "map"] = Field(
        description="probabilities: each row sums to 1; direction: only the direction of the row counts (embeddings); "
        "heat: chances of each place, C×H×W; map: numbers of each place, which count where there is heat"
    )


class TrainRequest(BaseModel):
    """A run. The same request goes on where an earlier one of the same folder was stopped."""

    model_config = ConfigDict(extra="forbid")

    tensors: Path = Field(description="N×… inputs as the node's network takes them, .npy")
    teacher: Path | None = Field(None, description="network whose outputs are learned")
    origin: Path | None = Field(None, description="the teacher's ONNX file: a student of maps may begin as it")
    labels: Path | None = Field(None, description="N×K targets of the only output, .npy, instead of the teacher's")
    folder: Path = Field(description="of checkpoints and of what comes out: student.onnx, student.xml")
    layout: Literal["nchw", "nhwc"] = "nchw"
    gflops: float = Field(gt=0, description="most multiplications and additions of one inference, 10⁹")
    epochs: int = Field(200, ge=0, description="0: the student as it is made, to see how fast it is")
    patience: int = Field(15, ge=1, description="epochs without a better loss on held-back samples until it stops")
    batch: int = Field(32, ge=1)
    rate: float = Field(2e-3, gt=0)
    seed: int = 0
    vary: bool = Field(True, description="whether images are varied as well: light, contrast, size and place")
    budget_s: float = Field(600.0, gt=0, description="no epoch is begun after so long, s")
    held_back: float = Field(0.2, gt=0, lt=1, description="part of the samples that the loss is watched on: the last")
    threads: int = Field(1, ge=1)


class TrainResult(BaseModel):
    """What came of it."""

    files: tuple[Path, ...] = Field(description="student.onnx, student.xml, student.bin")
    begun: tuple[Path, ...] = Field((), description="the same, untrained, of a student that begins trained")
    gflops: float
    kind: str = Field("inverted residuals", description="what the student is, in words")
    note: str = Field("", description="what else is to be said: why it does not begin as the network, where it might")
    width: float = Field(0.0, description="of inverted residuals; 0: it is something else")
    epochs: int
    best_epoch: int
    loss: float
    stopped: str = Field(description="why: patience, epochs, budget")
    tools: dict[str, str]
    outputs: tuple[Target, ...]


def train_student(request: dict[str, Any], progress: Callable[..., None]) -> dict[str, Any]:
    """Run a :class:`TrainRequest` in this process; return its :class:`TrainResult`.

    Raises:
        BadInputError: PyTorch is not installed.
        HamsError: as :func:`hams_services.optimizer.distill.run.run`.
    """
    try:
        from hams_services.optimizer.distill.run import run
    except ModuleNotFoundError as error:
        raise BadInputError(f"training needs {error.name}", 'pip install "hams[train]"') from None
    return run(TrainRequest.model_validate(request), progress).model_dump(mode="json")
