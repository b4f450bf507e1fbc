"""The file that states how fast an emulated device is. A profile is a claim, never a measurement: see `note`.

The time of an inference is ``lanes / fps × beside × curve``:

- ``lanes / fps`` is one image on one lane while all lanes are busy, so that the device gives ``fps`` images/s;
- ``beside`` is 1 with all lanes busy and ``alone`` when no other lane is, in between a straight line;
- ``curve`` is that of ``batch``, straight between its points; N where the profile states none.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hams_agents.emulated_faults import AbortFault, FailFault, HangFault, NanFault
from hams_shared.errors import DeviceSpecError
from hams_shared.group import strict_yaml

_FAULTS = ("hang", "fail", "nan", "abort", "device_file")
_DIGITS = frozenset("0123456789abcdef")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Watts = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Power(BaseModel):
    """What a device takes, W."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    idle: Watts
    busy: Watts = Field(description="with all lanes busy")


class EmulationProfile(BaseModel):
    """``PROFILE.yaml``: a device that runs each model at a stated speed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="the device's unit, a subject token")
    kind: Literal["cpu", "gpu", "npu", "vpu"]
    memory_mib: int = Field(gt=0, description="memory that models may use, MiB")
    fps: dict[str, Positive] = Field(
        min_length=1,
        description="images/s with all lanes busy, by model name or by the first 8 or more hex digits of its SHA-256; "
        "'*': any other model",
    )
    lanes: int = Field(1, ge=1, le=64, description="inferences at a time")
    alone: float = Field(
        1.0, gt=0, le=1, description="time of an inference while no other lane is busy, as share of its time beside all"
    )
    batch: dict[Annotated[int, Field(ge=1, le=64)], Positive] = Field(
        {}, description="time of an inference of so many images, as multiple of that of one; none: one by one"
    )
    host_cpu_ms: float = Field(
        0.0, ge=0, le=10_000, description="CPU time of the host per image, as of a driver, within the inference's, ms"
    )
    power_w: Power | None = Field(None, description="what the device takes, W")
    run: Literal["none", "openvino", "onnxruntime"] = Field(
        "none", description="none answers zeros of the right shapes; else real outputs, computed on the CPU"
    )
    replay: bool = Field(True, description="real outputs are recorded, and replayed for the same input; false: never")
    load_ms: float = Field(0.0, ge=0, le=60_000, description="loading takes at least this long, ms")
    hang: HangFault | None = Field(None, description="a fault for tests: inferences that never return")
    fail: FailFault | None = Field(None, description="a fault for tests: inferences that fail")
    nan: NanFault | None = Field(None, description="a fault for tests: inferences whose outputs are NaN")
    abort: AbortFault | None = Field(None, description="a fault for tests: the process ends")
    device_file: Path | None = Field(
        None, description="for tests: the device is there while this file exists, as a USB stick is with its /dev file"
    )
    note: str = Field("", description="where the numbers come from")

    def fps_of(self, name: str, digest: str) -> float | None:
        """Return the stated throughput of a model, frames/s; None: it does not run on this device."""
        if name in self.fps:
            return self.fps[name]
        for key, fps in self.fps.items():
            if len(key) >= 8 and _DIGITS.issuperset(key) and digest.startswith(key):
                return fps
        return self.fps.get("*")

    def service_s(self, fps: float, images: int, busy: int) -> float:
        """Return the time of one inference of a model of `fps` while `busy` lanes are, itself included, s.

        More images than the curve has are cut into parts of its last point.
        """
        others = min(busy - 1, self.lanes - 1) / (self.lanes - 1) if self.lanes > 1 else 1.0
        most = max(self.batch, default=1)
        parts = images // most * self._curve(most) + self._curve(images % most)
        return self.lanes / fps * (self.alone + (1 - self.alone) * others) * parts

    def _curve(self, images: int) -> float:
        """Return the time of up to as many images as the curve has, in times of one image."""
        points = sorted({0: 0.0, 1: 1.0, **self.batch}.items())
        for (below, low), (above, high) in itertools.pairwise(points):
            if images <= above:
                return low + (high - low) * (images - below) / (above - below)
        return points[-1][1]

    @model_validator(mode="after")
    def _grows(self) -> EmulationProfile:
        times = [1.0, *(time for _, time in sorted(self.batch.items()))]
        if self.batch.get(1, 1.0) != 1.0 or sorted(times) != times:
            raise ValueError("batch: the time of 1 image is 1, and more images take longer")
        return self

    @property
    def made_to(self) -> str:
        """Its faults for people: ``made to hang, fail``; empty: none."""
        faults = {"hang": self.hang, "fail": self.fail, "give NaN": self.nan, "abort": self.abort}
        named = ", ".join(name for name, fault in faults.items() if fault is not None)
        return f"made to {named}" if named else ""

    def digest(self) -> str:
        """Return 16 hex digits of all that a measurement depends on."""
        content = self.model_dump_json(exclude={"note", "name", "power_w", *_FAULTS})
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def read_profile(path: Path) -> EmulationProfile:
    """Read and check a profile.

    Raises:
        DeviceSpecError: the file is missing, is not YAML, or does not describe a device.
    """
    try:
        content = strict_yaml.load(path.read_text(encoding="utf-8")).data
    except OSError as error:
        raise DeviceSpecError(
            f"emulation profile {path}: {(error.strerror or 'cannot be read').lower()}",
            "see examples/profiles",
        ) from error
    except UnicodeDecodeError:
        raise DeviceSpecError(f"emulation profile {path} is not a text file") from None
    except strict_yaml.StrictYamlError as error:
        raise DeviceSpecError(f"emulation profile {path}: {error}") from None
    try:
        return EmulationProfile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise DeviceSpecError(
            f"emulation profile {path}: {where}: {first['msg'].removeprefix('Value error, ')}",
            "see examples/profiles for a whole one",
        ) from error
