"""Jobs of the optimizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.base import Wire, WireError

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]


class JobRecord(Wire):
    """KV ``jobs/<id>``: a task for an optimizer. Clients write it; an optimizer takes it by compare-and-set."""

    id: str
    kind: Literal["optimize", "calibrate", "train"]
    group: str
    frames: int = Field(120, ge=3, le=10_000, description="frames to take from the group's streams")
    samples: str = Field("", description="folder of frames on the optimizer's host instead; empty: the streams")
    budget_s: float = Field(900.0, gt=0, le=86_400, description="how long it may take, s; train: how long it trains")
    fresh: bool = Field(False, description="take new frames, and measure anew what is known")
    node: str = Field("", description="train: the node whose network is to have a student")
    gflops: float = Field(0.0, ge=0, description="train: the student's budget, 10⁹ operations; 0: by `fps`")
    fps: float = Field(0.0, ge=0, description="train: images/s that the student has to reach on `device`")
    device: str = Field("", description="train: device of the optimizer's host, e.g. openvino:CPU@0")
    labels: str = Field("", description="train: folder of samples with labels.json, instead of a teacher")
    epochs: int = Field(200, ge=1, le=100_000)
    state: JobState = "waiting"
    host: str = Field("", description="of the optimizer that has it")
    attempts: int = Field(0, ge=0, description="how often it was begun")
    text: str = Field("", description="what it does now, or came to")
    warning: str = Field("", description="what will be missing in the end")
    done: int = Field(0, description="optimize: seconds of the budget")
    total: int = 0
    created_at: float = 0.0
    ended_at: float = 0.0
    error: WireError | None = None
    report: str = Field("", description="Markdown")

    def belongs(self, key: str) -> bool:
        """Whether `key` is its id."""
        return key == self.id

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed", "cancelled")
