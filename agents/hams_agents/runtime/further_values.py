"""Values of a network's further inputs: facts of the images of a batch, constants, and what the parent gave.

What only the parent's device knows travels with the crops (:attr:`hams_shared.wire.frames.Work.given`), one row per
crop or one for all: the objects' boxes and points in pixels of the frame, what the parent's task describes, and outputs
of its network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, Detected, Outputs
from hams_agents.tasks.input import apply, boxes_through, compose, invert, scaling
from hams_shared.errors import BadInputError, HamsError
from hams_shared.group.input_sources import InputSource
from hams_shared.group.node_spec import InputSpec, NodeSpec
from hams_shared.wire.frames import Work
from hams_shared.wire.messages.group import FurtherInput

Array = NDArray[Any]


@dataclass(frozen=True)
class Seen:
    """One image of a batch."""

    to_frame: Affine
    """Input pixels → frame pixels."""
    content: tuple[float, float]
    """Width and height of the part of the input that shows something, from the top left."""
    frame: tuple[int, int]
    """Width and height of the frame."""

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Input pixels per pixel of the frame, along the image's own x and y."""
        across, down = np.hypot(self.to_frame[0, :2], self.to_frame[1, :2]).tolist()
        return 1 / across, 1 / down

    @cached_property
    def size(self) -> tuple[float, float]:
        """Width and height of what it shows, pixels of the frame."""
        (width, height), (across, down) = self.content, self.scale
        return round(width / across, 3), round(height / down, 3)


class FurtherValues:
    """Makes the further inputs of one served node.

    `takes` is the input of its network, `sources` those of the node, and `detects` whether its task finds objects.
    """

    def __init__(
        self, specs: Sequence[FurtherInput], sources: Mapping[str, InputSource], takes: InputSpec, *, detects: bool
    ) -> None:
        self._sources = sources
        self._in_image = detects and in_image_pixels(sources)
        self._inputs = [(spec, sources[spec.name]) for spec in specs]
        self._takes = takes
        self._constants = {spec.name: _row(spec, s.numbers) for spec, s in self._inputs if s.value is not None}
        self.needs = frozenset(key for _, source in self._inputs if (key := _key(source)) is not None)
        """What the parent gives."""

    def refusal(self, work: Work) -> HamsError | None:
        """Return why crops cannot be done: the parent gave nothing for an input."""
        absent = sorted(key for key in self.needs if key not in work.given)
        if not absent or not work.count:
            return None
        fed = ", ".join(spec.name for spec, source in self._inputs if _key(source) in absent)
        kinds = ", ".join(key.removeprefix("key ") for key in absent)
        return BadInputError(f"node {work.node}: nothing feeds {fed}: the parent gave no {kinds}")

    def feed(
        self, works: Sequence[Work], filled: Sequence[tuple[int, int]], to_frame: list[Affine]
    ) -> tuple[dict[str, Array], list[Affine]]:
        """Return the values for a batch, and per image the map from the pixels in which its task reads boxes to the
        frame's. Per image, `filled` is width and height of the part of the input that shows something, from the top
        left, and `to_frame` the map from input pixels.

        Raises:
            BadInputError: what the parent gave does not fit.
        """
        sizes = [work.frame_size for work in works for _ in range(work.count)]
        seen = [Seen(*one) for one in zip(to_frame, filled, sizes, strict=True)]
        if self._in_image:
            to_frame = [from_image_pixels(self._sources, one, self._takes.size) for one in seen]
        return self.values(works, seen), to_frame

    def values(self, works: Sequence[Work], seen: Sequence[Seen]) -> dict[str, Array]:
        """Return the values, N first. Raises BadInputError: what the parent gave does not fit."""
        rows: dict[str, list[Array]] = {spec.name: [] for spec, _ in self._inputs}
        given = [
            {key: _nth(value, n) for key, value in work.given.items()} for work in works for n in range(work.count)
        ]
        for one, of in zip(seen, given, strict=True):
            for spec, source in self._inputs:
                constant = self._constants.get(spec.name)
                rows[spec.name].append(_row(spec, self._numbers(source, one, of)) if constant is None else constant)
        return {name: np.stack(_alike(name, found)) for name, found in rows.items()}

    def _numbers(self, source: InputSource, seen: Seen, given: Mapping[str, Array]) -> Sequence[float] | Array:
        if source.fact is not None:
            return fact(source.fact, seen, self._takes.size)
        value = given[_key(source) or ""]
        if source.parent not in ("box", "points") or source.pixels == "frame":
            return value
        to_input = invert(seen.to_frame)
        local = boxes_through(to_input, value[None])[0] if source.parent == "box" else apply(to_input, value)
        return local / np.resize(self._takes.size, local.shape) if source.pixels == "unit" else local


def fact(name: str, seen: Seen, size: tuple[int, int]) -> tuple[float, ...]:
    """Return a fact of an image; `size`: width and height of the network's input."""
    kind, _, order = name.partition("_")
    if kind == "pad":
        return (0.0, 0.0, size[0] - seen.content[0], size[1] - seen.content[1])
    if kind == "box":
        whole = np.array([[0.0, 0.0, *seen.content]])
        return tuple(boxes_through(seen.to_frame, whole)[0].round(3).tolist())
    pairs = {"size": seen.size, "frame": seen.frame, "input": size, "content": seen.content, "scale": seen.scale}
    width, height = (float(one) for one in pairs[kind])
    return (width, height) if order == "wh" else (height, width)


def in_image_pixels(sources: Mapping[str, InputSource]) -> bool:
    """Return whether a network that is fed by `sources` outputs boxes in pixels of the image: it knows its size."""
    return any((source.fact or "").startswith(("size_", "scale_")) for source in sources.values())


def from_image_pixels(sources: Mapping[str, InputSource], seen: Seen, size: tuple[int, int]) -> Affine:
    """Return the map from what such a network outputs to pixels of the frame.

    It multiplies what it found, as parts of its input, by the size that it was given; or divides pixels of its input by
    the scale. With letterbox the two differ, and neither gives pixels of the frame by itself; this map is exact.
    """
    sized = any((source.fact or "").startswith("size_") for source in sources.values())
    factors = (size[0] / seen.size[0], size[1] / seen.size[1]) if sized else seen.scale
    return compose(seen.to_frame, scaling(*factors))


# ── on the parent's device ────────────────────────────────────────────────────────────────────────────────────────


def with_given(
    work: Work,
    node: NodeSpec,
    found: Sequence[Sequence[Detected]],
    outputs: Outputs | None = None,
    items: Sequence[Any] = (),
) -> Work:
    """Return `work` for the child `node` with what its further inputs need of its parent; most need nothing.

    `found` are the objects of each of the parent's images, `outputs` and `items` those of its network and its task.
    """
    keys = {key for source in node.inputs.values() if (key := _key(source)) is not None}
    if not keys or not work.sources:
        return work
    objects = [(image, one) for image, of in enumerate(found) for one in of]
    crops = [objects[index] for index in work.sources]
    values = {key: _given(key, crops, outputs, items) for key in sorted(keys)}
    given = {key: value for key, value in values.items() if value is not None and value.size}
    return replace(work, given=given)


def _given(
    key: str,
    crops: Sequence[tuple[int, Detected]],
    outputs: Outputs | None,
    items: Sequence[Any],
) -> Array | None:
    """Return the values of `key` for each crop, or one for all; None: some have none."""
    kind, _, name = key.partition(" ")
    match kind:
        case "box":
            return np.array([one.box for _, one in crops], np.float64)
        case "score":
            return np.array([[one.score] for _, one in crops], np.float64)
        case "points":
            return _stacked([one.points for _, one in crops])
        case "output":
            values = outputs.get(name) if outputs is not None else None
            images = sorted({image for image, _ in crops})
            if values is None or values.dtype.kind not in "fiub":
                return None
            rows = values[images if len(images) == 1 else [image for image, _ in crops]]
            return np.asarray(rows, np.float32)
        case _:
            described = [items[image] for image, _ in crops] if items else []
            return _stacked([one.get(name) if isinstance(one, dict) else None for one in described])


def _stacked(values: Sequence[Any]) -> Array | None:
    """Return numbers of equal shapes as one array; None where they are none."""
    if not values or any(value is None for value in values):
        return None
    try:
        found = np.array(values, np.float64)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found).all() else None


def _key(source: InputSource) -> str | None:
    """Return the name under which the parent gives it; None: it does not."""
    if source.output is not None:
        return f"output {source.output}"
    if source.parent is None or source.parent in ("box", "points", "score"):
        return source.parent
    return f"key {source.parent}"


# ── shapes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _nth(value: Array, index: int) -> Array:
    row: Array = value[index if len(value) > 1 else 0]
    return row


def _row(spec: FurtherInput, numbers: Sequence[float] | Array) -> Array:
    """Return the numbers of one image in the input's type and shape. Raises BadInputError: they do not fit."""
    values = np.asarray(numbers, np.float64 if not isinstance(numbers, np.ndarray) else None)
    kind = np.dtype(spec.dtype)
    if kind.kind in "iu":
        values = np.rint(values)
    sizes = spec.shape[1:]
    if values.size == 1 and -1 not in sizes:
        return np.full(sizes, values.ravel()[0], kind)
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 and values.ndim == len(sizes):
        sizes = values.shape
    elif sizes.count(-1) > 1:
        first = sizes.index(-1)
        sizes = tuple(1 if size == -1 and index != first else size for index, size in enumerate(sizes))
    try:
        return values.astype(kind).reshape(sizes if known else (0,))
    except ValueError:
        shape = "×".join("?" if size == -1 else str(size) for size in spec.shape[1:]) or "one number"
        raise BadInputError(f"input {spec.name} takes {shape} per image, and got {values.size} numbers") from None


def _alike(name: str, rows: Sequence[Array]) -> Sequence[Array]:
    shapes = {row.shape for row in rows}
    if len(shapes) > 1:
        raise BadInputError(f"input {name}: the images of one batch have values of unlike shapes")
    return rows
