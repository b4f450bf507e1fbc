"""Records of variants: a network in one format and precision, made from a source, named by its content.

`made` is what the files depend on and nothing else: the same source, settings, samples and tools give the same files.
Measurements are kept beside it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal, get_args

from pydantic import Field, field_validator

from hams_shared.group.node_spec import InputSpec, NodeSpec, Precision
from hams_shared.wire.messages.base import Wire, WireError
from hams_shared.wire.messages.group import ModelPart, ModelRef

RuntimeFormat = Literal["openvino", "onnx"]
READ: dict[str, tuple[RuntimeFormat, ...]] = {
    "openvino": ("openvino", "onnx"),
    "onnxruntime": ("onnx",),
    "litert": (),
    "hailo": (),
    "rknn": (),
    "memryx": (),
}
"""By backend: formats of variants that its devices read, the one made for them first. Those with none run networks as
the group file names them (TFLite, a vendor's compiled file). What another package's backend reads is not known."""
Form = Literal["student", "pruned", "downscaled", "cropped", "dropped-outputs"]
FORMS: tuple[Form, ...] = get_args(Form)
"""Settings that tell how a network was changed; the first of them that is set names it."""
OLD_FORMS = frozenset(("shrunk", "rectangular", "trimmed"))
"""What forms were called until 28 November 2026; nothing had been released."""

_HEX = r"^[0-9a-f]{64}$"


class CalibrationInfo(Wire):
    """What the ranges of an INT8 variant were taken from."""

    digest: str = Field(pattern=_HEX, description="of the samples' names and contents, in order")
    samples: int = Field(ge=1)


class Made(Wire):
    """How a variant came about."""

    source_digest: str = Field(pattern=_HEX, description="SHA-256 of the file that was imported, or as of ModelRef")
    source_format: str
    format: RuntimeFormat
    precision: Precision = Field(description="fp16: of weights; bf16: of computing; int8: of quantised layers")
    compute: Literal["", "fp32", "bf16"] = Field("", description="what the layers not quantised are computed in")
    batch: Literal["static", "dynamic"] = "dynamic"
    input: InputSpec | None = Field(
        None,
        description="its input where that differs from the node's: its pre-processing is in the graph, or its image is "
        "cropped",
    )
    kept: tuple[str, ...] = Field((), description="layers of an INT8 variant that were left in higher precision")
    settings: dict[str, str] = Field({}, description="of the tools, where they are not the usual ones")
    tools: dict[str, str] = Field({}, description="name → version")
    calibration: CalibrationInfo | None = None

    @field_validator("settings")
    @classmethod
    def _known_forms(cls, settings: dict[str, str]) -> dict[str, str]:
        if old := sorted(OLD_FORMS.intersection(settings)):
            raise ValueError(f"it was made by an older version, which called its form {old[0]!r}")
        return settings

    @property
    def form(self) -> Form | Literal[""]:
        """How the network was changed; a network that was changed in several ways is called by the first of `FORMS`.

        Empty: not at all. A student learned from it; others are it with fewer channels (pruned), with its image
        down-scaled or cropped, or without outputs that the task does not use.
        """
        return next((form for form in FORMS if form in self.settings), "")


class Agreement(Wire):
    """How well a variant's results agree with its source's, through one node's post-processing."""

    value: float = Field(ge=0, le=1, description="see docs/nco.md for the formula")
    metrics: dict[str, float] = Field({}, description="see docs/nco.md")
    samples: int = Field(ge=1, description="images compared; none of them was calibrated with")
    samples_digest: str = Field(pattern=_HEX)
    against: Literal["source", "labels"] = "source"
    device: str = Field("", description="what it was measured on, e.g. openvino:CPU@0")
    fps: float = Field(0.0, description="images/s there, alone; 0: not measured")


class VariantRecord(Wire):
    """A variant."""

    model: ModelRef
    made: Made
    agreements: dict[str, Agreement] = Field({}, description="by :func:`task_key` and, against labels, `:labels`")
    failed: dict[str, WireError] = Field({}, description="by :func:`task_key`: why it could not be measured")

    @property
    def precision(self) -> Precision:
        """As in group files."""
        return self.made.precision

    @property
    def embedded(self) -> bool:
        """Whether the node's pre-processing is in its graph."""
        return self.made.input is not None and self.made.input.dtype == "u8"

    @property
    def short_label(self) -> str:
        """A word or two for tables: ``bf16``, ``int8+bf16``, ``student``, ``pruned int8``."""
        mixed = "+bf16" if self.made.precision == "int8" and self.made.compute == "bf16" else ""
        if not self.made.form:
            return self.precision + mixed
        return self.made.form + ("" if self.made.precision == "fp32" else f" {self.precision}{mixed}")

    @property
    def label(self) -> str:
        """Format, precision and input, for tables of all variants: ``openvino int8``, ``onnx fp16 u8``."""
        return f"{self.made.format} {self.short_label}{' u8' if self.embedded else ''}"


def task_key(node: NodeSpec) -> str:
    """Return a short digest of the node's task and input: what an agreement of a variant depends on."""
    task, size = (part.model_dump(mode="json", exclude_defaults=True) for part in (node.task, node.input))
    given = {"task": task, "input": size}  # without defaults: a version that adds a key keeps all agreements
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]


def shortfall(record: VariantRecord, node: NodeSpec, floor: float) -> str:
    """Return why a variant may not serve `node` at an agreement of at least `floor`; empty when it may."""
    key = task_key(node)
    if key in record.failed:
        return f"{record.label} failed: {record.failed[key].text}"
    found = record.agreements.get(key)
    if found is None:
        return f"{record.label} was not compared with its source"
    if found.value >= floor:
        return ""
    return f"{record.label} agrees to {found.value:.4f}, {floor - found.value:.4f} below the floor of {floor:g}"


def embedded_input(spec: InputSpec) -> InputSpec:
    """Return what is left of `spec` outside of a network that does the pre-processing itself: size, fit, bytes."""
    color = "gray" if spec.color == "gray" else "bgr"
    return spec.model_copy(update={"color": color, "layout": "nhwc", "mean": (), "scale": (), "dtype": "u8"})


def model_ref(name: str, files: list[tuple[str, bytes]]) -> ModelRef:
    """Name a network by its content: suffix and content of each file, the main one first."""
    parts = tuple(
        ModelPart(suffix=suffix, digest=hashlib.sha256(content).hexdigest(), size=len(content))
        for suffix, content in files
    )
    joined = "".join(part.digest for part in parts)
    digest = parts[0].digest if len(parts) == 1 else hashlib.sha256(joined.encode()).hexdigest()
    return ModelRef(name=name, digest=digest, parts=parts)
