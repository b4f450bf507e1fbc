"""The file that states how fast an emulated device is. A profile is a claim, never a measurement: see `note`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hams_shared.errors import DeviceSpecError
from hams_shared.group import strict_yaml

_DIGITS = frozenset("0123456789abcdef")


class HangFault(BaseModel):
    """A fault for tests: an inference that never returns, as a broken driver's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[str, ...] = Field(("*",), min_length=1, description="by name; '*': any")
    after: int = Field(0, ge=0, description="inferences of these models that still return")
    while_exists: Path | None = Field(None, description="hang only while this file exists")

    def hangs(self, model: str, done: int) -> bool:
        """Whether the inference after `done` others hangs."""
        named = model in self.models or "*" in self.models
        return named and done >= self.after and (self.while_exists is None or self.while_exists.exists())


class EmulationProfile(BaseModel):
    """``PROFILE.yaml``: a device that runs each model at a stated speed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="the device's unit, a subject token")
    kind: Literal["cpu", "gpu", "npu", "vpu"]
    memory_mib: int = Field(gt=0, description="memory that models may use, MiB")
    fps: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        min_length=1,
        description="frames/s by model name or by the first 8 or more hex digits of its SHA-256; '*': any other model",
    )
    run: Literal["none", "openvino", "onnxruntime"] = Field(
        "none", description="none answers zeros of the right shapes; else real outputs, computed on the CPU"
    )
    load_ms: float = Field(0.0, ge=0, le=60_000, description="loading takes at least this long, ms")
    hang: HangFault | None = Field(None, description="a fault for tests: inferences that never return")
    note: str = Field("", description="where the numbers come from")

    def fps_of(self, name: str, digest: str) -> float | None:
        """Return the stated throughput of a model, frames/s; None: it does not run on this device."""
        if name in self.fps:
            return self.fps[name]
        for key, fps in self.fps.items():
            if len(key) >= 8 and _DIGITS.issuperset(key) and digest.startswith(key):
                return fps
        return self.fps.get("*")

    def digest(self) -> str:
        """Return 16 hex digits of all that a measurement depends on."""
        return hashlib.sha256(self.model_dump_json(exclude={"note", "name", "hang"}).encode()).hexdigest()[:16]


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
            f"emulation profile {path}: {where}: {first['msg']}", "see examples/profiles for a whole one"
        ) from error
