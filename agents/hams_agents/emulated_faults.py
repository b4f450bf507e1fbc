"""Faults of an emulated device, for tests and benchmarks: what its profile lets fail, when, and how often. Pure.

A fault concerns the inferences or loads of some models, from a time or a number of inferences on, at a rate, and where
`while_exists` is set only while that file exists: a running device falls ill and recovers.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Fault(BaseModel):
    """When something fails."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[str, ...] = Field(("*",), min_length=1, description="by name; '*': any")
    while_exists: Path | None = Field(None, description="only while this file exists")

    def concerns(self, model: str) -> bool:
        """Whether the fault concerns `model` now."""
        named = model in self.models or "*" in self.models
        return named and (self.while_exists is None or self.while_exists.exists())


class InferenceFault(Fault):
    """When an inference fails."""

    after: int = Field(0, ge=0, description="inferences of each network that still succeed")
    from_s: float = Field(0.0, ge=0, allow_inf_nan=False, description="from so long after the agent's start, s")
    rate: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="the part of inferences that fails, evenly spread: 0.25 is every fourth"
    )

    def strikes(self, model: str, done: int, age_s: float) -> bool:
        """Whether the inference of `model` after `done` others of its network fails, `age_s` s after the start."""
        if done < self.after or age_s < self.from_s or not self.concerns(model):
            return False
        number = done - self.after
        return math.floor((number + 1) * self.rate + 1e-9) > math.floor(number * self.rate + 1e-9)


class HangFault(Fault):
    """An inference that never returns, as a broken driver's."""

    after: int = Field(0, ge=0, description="inferences of these models that still return")

    def hangs(self, model: str, done: int) -> bool:
        """Whether the inference after `done` others hangs."""
        return done >= self.after and self.concerns(model)


class FailFault(InferenceFault):
    """An inference that fails with an error."""

    text: str = Field("CL_OUT_OF_RESOURCES", min_length=1, max_length=200, description="the driver's error text")
    fast: bool = Field(True, description="it fails at once; false: after the time that an inference takes")


class NanFault(InferenceFault):
    """An inference whose outputs are NaN."""


class AbortFault(Fault):
    """A driver that ends the process."""

    at: Literal["load", "inference"] = Field("load", description="when it does")
    after: int = Field(0, ge=0, description="inferences of each network before it")
    signal: Literal["SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGKILL"] = Field(
        "SIGSEGV", description="the process ends by this signal"
    )
