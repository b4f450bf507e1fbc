"""Further inputs of networks: which of a network's inputs is the image, and are the values of the others as it takes
them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_agents.backends.base import NO_FURTHER, Further, ModelFile, TensorSpec
from hams_shared.errors import ModelError, UnsupportedModelError
from hams_shared.wire.messages.group import FurtherInput

Array = NDArray[Any]
ANY = -1
"""In a shape: any size."""


class FurtherInputs:
    """The further inputs of a loaded network."""

    def __init__(self, model: ModelFile) -> None:
        self._model = model
        self._specs = {spec.name: spec for spec in model.further}
        self.batched = all(spec.batched for spec in model.further)
        """Whether several images may be run at once."""

    def checked(self, further: Further, count: int) -> Further:
        """Return the values for `count` images in their element types, C-contiguous.

        Raises:
            ModelError: one is absent, unknown, or of another shape.
        """
        if not self._specs and not further:
            return NO_FURTHER
        if further.keys() != self._specs.keys():
            wanted, given = (", ".join(sorted(names)) or "none" for names in (self._specs, further))
            raise ModelError(f"model {self._model.name} takes the further inputs {wanted}, and was given {given}")
        return {name: self._value(spec, further[name], count) for name, spec in self._specs.items()}

    def _value(self, spec: TensorSpec, value: Array, count: int) -> Array:
        wanted = (count, *spec.shape[1:])
        if value.ndim != len(wanted) or any(w not in (ANY, s) for s, w in zip(value.shape, wanted, strict=True)):
            raise ModelError(
                f"model {self._model.name}: input {spec.name} takes {_text(wanted)}, and was given {_text(value.shape)}"
            )
        return np.ascontiguousarray(value, dtype=spec.dtype).reshape(value.shape)

    def as_taken(self, further: Further) -> Further:
        """Return the values of one image or a batch without the batch axis, where the network has none."""
        return {name: value if self._specs[name].batched else value[0, ...] for name, value in further.items()}

    def arguments(self, images: Array, further: Further) -> tuple[Any, ...]:
        """Return what runs the first images of a batch: they alone, or with the rows of their further inputs."""
        return (images, self.as_taken(rows(further, 0, len(images)))) if further else (images,)


def tensor_specs(found: Sequence[FurtherInput]) -> tuple[TensorSpec, ...]:
    """Return what deploying a group found of further inputs, as backends take it."""
    return tuple(TensorSpec(one.name, one.shape, one.dtype, one.batched, one.example) for one in found)


def rows(further: Further, first: int, last: int) -> Further:
    """Return the values of the images from `first` up to `last`."""
    return {name: value[first:last] for name, value in further.items()} if further else NO_FURTHER


def examples(model: ModelFile, count: int) -> Further:
    """Return values of the further inputs for `count` images where no frame gives them: each spec's `example`."""
    return {spec.name: _example(spec, count) for spec in model.further}


def _example(spec: TensorSpec, count: int) -> Array:
    values = np.array(spec.example or (0.0,))
    shape = [1 if size == ANY else size for size in spec.shape[1:]]
    if values.size not in (1, int(np.prod(shape))):  # the values give the sizes that the file leaves open
        shape = _filled(spec.shape[1:], values.size)
    one = np.full(shape, values[0]) if values.size == 1 else values.reshape(shape)
    return np.repeat(one[None].astype(spec.dtype), count, axis=0)


def _filled(shape: Sequence[int], size: int) -> list[int]:
    """Return `shape` with its first open size such that it holds `size` numbers, and further ones as 1."""
    known = int(np.prod([one for one in shape if one != ANY], dtype=np.int64))
    sizes = [max(size // max(known, 1), 1)]
    return [one if one != ANY else (sizes.pop() if sizes else 1) for one in shape]


def image_input(model: ModelFile, names: Sequence[str]) -> str:
    """Return which of a network's inputs takes the image: the one that is not a further input.

    Raises:
        UnsupportedModelError: nothing feeds one of them, or it has no input of a further input's name.
    """
    known = {spec.name for spec in model.further}
    absent = sorted(known - set(names))
    if absent:
        raise UnsupportedModelError(
            f"model {model.name} has no input {', '.join(absent)}", f"its inputs: {', '.join(names) or 'none'}"
        )
    images = [name for name in names if name not in known]
    if len(images) != 1:
        listed = f" ({', '.join(images)})" if images else ""
        raise UnsupportedModelError(
            f"model {model.name} has {len(images)} inputs that nothing but an image could feed{listed}",
            "name what feeds each further one under `inputs:` of the node in the group file",
        )
    return images[0]


def _text(shape: Sequence[int]) -> str:
    return "×".join("?" if size == ANY else str(size) for size in shape)
