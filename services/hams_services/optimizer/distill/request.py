"""A training run: its request, its result, and when it stops. Does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MAPS = ("heat", "map")
RATE_STEPS = 3


class Target(BaseModel):
    """One output of the student: the teacher's name for it, its shape without the batch, and its meaning."""

    name: str
    shape: tuple[int, ...]
    kind: Literal["probabilities", "numbers", "direction", "heat", "map"] = Field(
        description="probabilities: each row sums to 1; direction: only the direction of the row counts (embeddings); "
        "heat: probability of an object at each place, C×H×W; map: numbers of each place, which count where heat is"
    )


class TrainRequest(BaseModel):
    """A run. The same request with the same folder continues a run that was stopped."""

    model_config = ConfigDict(extra="forbid")

    tensors: Path = Field(description="input tensors of the node's network, N×…, .npy")
    teacher: Path | None = Field(None, description="network whose outputs are learned")
    origin: Path | None = Field(None, description="the teacher's ONNX file, with which a student of maps may start")
    labels: Path | None = Field(None, description="N×K targets of the only output, .npy, instead of the teacher's")
    folder: Path = Field(description="of checkpoints and results: student.onnx, student.xml")
    layout: Literal["nchw", "nhwc"] = "nchw"
    gflops: float = Field(gt=0, description="most multiplications and additions of one inference, 10⁹")
    epochs: int = Field(200, ge=0, description="0: the untrained student, to measure its speed")
    patience: int = Field(15, ge=1, description="epochs without a better hold-out loss until training stops")
    batch: int = Field(32, ge=1)
    rate: float = Field(2e-3, gt=0)
    seed: int = 0
    augment: bool = Field(True, description="whether images are changed as well: light, contrast, size and place")
    budget_s: float = Field(600.0, gt=0, description="no epoch starts after this time, s")
    hold_out: float = Field(0.2, gt=0, lt=1, description="part of the samples, the last, that measures the loss")


class TrainResult(BaseModel):
    """The outcome of a run."""

    files: tuple[Path, ...] = Field(description="student.onnx, student.xml, student.bin")
    initial: tuple[Path, ...] = Field((), description="the same before training, of a student that starts trained")
    gflops: float
    kind: str = Field(description="architecture of the student")
    note: str = Field("", description="why the student does not start as the teacher, where it might")
    width: float = Field(0.0, description="width factor of inverted residuals; 0: another architecture")
    epochs: int
    loss: float
    stopped: str = Field(description="why: patience, epochs, budget")
    tools: dict[str, str]
    outputs: tuple[Target, ...]


@dataclass
class Stopping:
    """Early stopping: the best hold-out loss, its age, and how often the learning rate was lowered. Pure."""

    epochs: int
    patience: int
    best: float = float("inf")
    best_epoch: int = -1
    epoch: int = 0
    """Epochs completed."""
    lowered: int = 0
    """Times the learning rate was lowered: once per third of the patience without a better loss."""

    def record(self, loss: float) -> bool:
        """Record the hold-out loss of one more epoch; return whether it is the best."""
        better = loss < self.best
        if better:
            self.best, self.best_epoch = loss, self.epoch
        elif (self.epoch - self.best_epoch) % max(1, self.patience // RATE_STEPS) == 0:
            self.lowered += 1
        self.epoch += 1
        return better

    def why(self, seconds: float, budget_s: float) -> str:
        """Return why training stops after `seconds` s, or nothing."""
        if self.epoch >= self.epochs:
            return "epochs"
        if self.epoch and self.epoch - 1 - self.best_epoch >= self.patience:
            return "patience"
        return "budget" if self.epoch and seconds >= budget_s else ""
