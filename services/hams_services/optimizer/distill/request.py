"""A training run: its request and its result. Does not import PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainRequest(BaseModel):
    """A run. The same request with the same folder continues a run that was stopped."""

    model_config = ConfigDict(extra="forbid")

    tensors: Path = Field(description="input tensors of the node's network, N×…, .npy")
    teacher: Path = Field(description="network whose outputs are learned")
    origin: Path | None = Field(None, description="the teacher's ONNX file, with which a student of maps may start")
    labels: Path | None = Field(None, description="N×K targets of the only output, .npy, instead of the teacher's")
    folder: Path = Field(description="of the checkpoint and the student")
    layout: Literal["nchw", "nhwc"] = "nchw"
    gflops: float = Field(gt=0, description="most multiplications and additions of one inference, 10⁹")
    epochs: int = Field(200, ge=0, description="0: the untrained student, to measure its speed")
    rate: float = Field(2e-3, gt=0, description="learning rate")
    seed: int = 0
    budget_s: float = Field(600.0, gt=0, description="no epoch starts after this time, s")


class TrainResult(BaseModel):
    """The outcome of a run."""

    file: Path = Field(description="the student, ONNX")
    gflops: float
    kind: str = Field(description="architecture of the student")
    note: str = Field(description="why the student does not start as the teacher, where it might")
    epochs: int
    loss: float = Field(description="on the hold-out set")
    stopped: str = Field(description="why: patience, epochs, budget")
    tools: dict[str, str]
    outputs: dict[str, str] = Field(description="name of each output → its kind")
