"""What feeds a network's further inputs: facts of the image, constants, and what the parent found. Pure.

inputs:
  images: image                        # which input takes the image, where the file has several
  orig_target_sizes: size_wh           # a fact of the image
  score_threshold: {value: 0.3}        # a constant
  point_coords: {parent: points}       # of the object whose crop it is, in pixels of this network's input
  image_embeddings: {output: features} # a tensor that the parent's network outputs for its whole image
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from hams_shared.group.findings import Strict

Fact = Literal[
    "image",
    "size_wh", "size_hw",
    "frame_wh", "frame_hw",
    "input_wh", "input_hw",
    "content_wh", "content_hw",
    "scale_wh", "scale_hw",
    "pad",
    "box",
]  # fmt: skip
"""
image: the image itself. size: of what the image shows, in pixels of the frame: the frame's own, or the crop's. frame:
size of the whole frame. input: size of the network's input. content: of the part of the input that the image fills
(letterbox). scale: content / size. pad: pixels left, top, right and bottom of the content. box: x0, y0, x1, y1 of what
the image shows, in the frame. ``_wh``: width first, ``_hw``: height first.
"""
FACTS: tuple[str, ...] = get_args(Fact)
NUMBERS: dict[str, int] = {fact: 4 if fact in ("pad", "box") else 2 for fact in FACTS if fact != "image"}
"""How many numbers each fact has."""
OBJECT = ("box", "points", "score")
"""What every object has, also one that the pipeline chose; points only where its task gives them."""
MOST_NUMBERS = 1 << 20
"""Most numbers of a constant."""

Nested = float | list[Any]


class InputSource(Strict):
    """What feeds one input; the short form of a fact is its name."""

    fact: Fact | None = Field(None, description="a fact of the image")
    value: Nested | None = Field(None, description="a constant: a number, or a list (of lists) of numbers")
    shape: tuple[int, ...] = Field((), description="of the constant `value`, a number, that fills it")
    parent: str | None = Field(
        None,
        min_length=1,
        description="of the object whose crop it is: box, points (K×2), score; or of what the parent's task "
        "describes: the key of a number or a list of numbers",
    )
    pixels: Literal["input", "unit", "frame"] | None = Field(
        None, description="of the parent's box or points: pixels of this network's input [input], 0-1 of it, or frame"
    )
    output: str | None = Field(
        None, min_length=1, description="an output of the parent's network, as it is, for the image that it saw"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, str):
            if data not in FACTS:
                raise ValueError(
                    f"must be one of {', '.join(FACTS)}, or {{value: …}}, {{parent: …}}, {{output: …}}, not {data!r}"
                )
            return {"fact": data}
        if isinstance(data, list | int | float) and not isinstance(data, bool):
            raise ValueError("a constant is written {value: …}")
        return data

    @field_validator("value", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        if value is not None:
            _shape_of(value)
        return value

    @model_validator(mode="after")
    def _one(self) -> InputSource:
        given = [name for name in ("fact", "value", "parent", "output") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of a fact, value, parent, output; found {', '.join(given) or 'none'}")
        if self.shape and (not isinstance(self.value, float | int) or min(self.shape) < 1):
            raise ValueError("shape goes with a value that is one number, and has sizes of 1 or more")
        if math.prod(self.shape) > MOST_NUMBERS or len(self.numbers) > MOST_NUMBERS:
            raise ValueError(f"a constant has at most {MOST_NUMBERS} numbers")
        if self.pixels is not None and self.parent not in ("box", "points"):
            raise ValueError("pixels goes with parent: box and parent: points")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(FACTS)}, handler(core)]}

    @property
    def numbers(self) -> tuple[float, ...]:
        """The constant's numbers in C order; of a filled shape the one number."""
        return () if self.value is None else tuple(_flat(self.value))

    @property
    def value_shape(self) -> tuple[int, ...]:
        """The constant's shape; () for one number."""
        return self.shape or (() if self.value is None else _shape_of(self.value))

    @property
    def from_parent(self) -> bool:
        """Whether the parent's device must send it."""
        return self.parent is not None or self.output is not None

    @property
    def text(self) -> str:
        """As a group file has it, for messages."""
        if self.fact is not None:
            return self.fact
        return next(f"{k}: {getattr(self, k)}" for k in ("value", "parent", "output") if getattr(self, k) is not None)


def _shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of nested lists of numbers. Raises ValueError: they are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | list):
        raise ValueError(f"must be a number or a list of numbers, not {value!r}")
    if not isinstance(value, list):
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return ()
    shapes = {_shape_of(one) for one in value}
    if len(shapes) != 1:
        raise ValueError("must be a list of numbers, or of lists of one length")
    return (len(value), *shapes.pop())


def _flat(value: Nested) -> list[float]:
    return [number for one in value for number in _flat(one)] if isinstance(value, list) else [float(value)]


_KNOWN = {
    "orig_target_sizes": "input_wh",
    "target_sizes": "input_hw",
    "im_shape": "content_hw",
    "scale_factor": "scale_hw",
    "image_shape": "size_hw",
    "orig_im_size": "input_hw",
    "image_size": "size_hw",
    "im_info": "{value: [HEIGHT, WIDTH, 1]}",
    "has_mask_input": "{value: 0}",
    "mask_input": "{value: 0, shape: [1, 256, 256]}",
    "point_coords": "{parent: points}",
    "point_labels": "{value: 1, shape: [NUMBER OF POINTS]}",
    "image_embeddings": "{output: NAME}",
}
"""What inputs of these names take, as DETR-like networks, PaddleDetection, YOLOv3 and SAM are exported."""


def usual_fact(name: str) -> str | None:
    """Return the fact of the image that an input of that name takes as public tools export it; None: none is known."""
    known = _known(name)
    return known if known in FACTS else None


def _known(name: str) -> str | None:
    return _KNOWN.get(name.rpartition("/")[2].lower())


def suggestion(name: str, child: bool) -> str:
    """Return what could feed an input of that name, as text for a group file."""
    known = _known(name)
    if known is not None and (child or not known.startswith(("{parent", "{output"))):
        return f"{name}: {known}"
    more = ", {parent: box}, {parent: points}, {output: NAME}" if child else ""
    return f"{name}: one of {', '.join(NUMBERS)}, {{value: …}}{more}"
