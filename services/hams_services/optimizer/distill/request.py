"""A training run: its request and its result. Does not import PyTorch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Target(BaseModel):
    """One output of the student: the teacher's name for it, its shape without the batch, and its meaning."""

    name: str
    shape: tuple[int, ...]
    kind: Literal["probabilities", "numbers", "direction", "heat", "map"] = Field(
        description="probabilities: each row sums to 1; direction: only the direction of the row counts (embeddings); "
        "heat: probability of an object at each place, C×H×W; map: numbers of each place, which count where heat is"
    )

    @property
    def is_map(self) -> bool:
        """Whether it has a number or more for each place of the image; all outputs of a student have, or none."""
        return self.kind in ("heat", "map")

    @property
    def grid(self) -> tuple[int, int, int]:
        """Channels, height and width in training: outputs that are no maps have one place."""
        return (self.shape[0], self.shape[1], self.shape[2]) if self.is_map else (math.prod(self.shape), 1, 1)


class TrainRequest(BaseModel):
    """A run. The same request with the same folder continues a run that was stopped."""

    model_config = ConfigDict(extra="forbid")

    tensors: Path = Field(description="input tensors of the node's network, N×…, .npy")
    teacher: Path = Field(description="network whose outputs are learned")
    origin: Path | None = Field(None, description="the teacher's ONNX file, with which a student of maps may start")
    labels: Path | None = Field(None, description="N×K targets of the only output, .npy, instead of the teacher's")
    folder: Path = Field(description="of checkpoints and results")
    layout: Literal["nchw", "nhwc"] = "nchw"
    gflops: float = Field(gt=0, description="most multiplications and additions of one inference, 10⁹")
    epochs: int = Field(200, ge=0, description="0: the untrained student, to measure its speed")
    rate: float = Field(2e-3, gt=0, description="learning rate")
    seed: int = 0
    budget_s: float = Field(600.0, gt=0, description="no epoch starts after this time, s")


class TrainResult(BaseModel):
    """The outcome of a run."""

    file: Path = Field(description="the student, ONNX")
    initial: Path | None = Field(None, description="the same before training, of a student that starts trained")
    gflops: float
    kind: str = Field(description="architecture of the student")
    note: str = Field("", description="why the student does not start as the teacher, where it might")
    epochs: int
    loss: float
    stopped: str = Field(description="why: patience, epochs, budget")
    tools: dict[str, str]
    outputs: tuple[Target, ...]
