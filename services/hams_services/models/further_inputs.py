"""What feeds a network's inputs: those of its file are matched with `inputs:` of the node in the group file. Pure.

The file states element types and, mostly, sizes; the group file names the sources. What both leave open (how many
points a parent finds) stays open.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hams_shared.errors import ModelError
from hams_shared.group.input_sources import InputSource, suggestion
from hams_shared.group.node_spec import InputSpec, NodeSpec
from hams_shared.wire.messages.group import FurtherInput

ANY = -1
_TYPES = "float16 float32 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool"
TYPES = frozenset(_TYPES.split())


@dataclass(frozen=True)
class Port:
    """An input of a network, as its file states it."""

    name: str
    shape: tuple[int | None, ...] | None
    """None for a size: any; None: not even the rank is stated."""
    dtype: str
    """As NumPy names it; or as the file does, where NumPy has no such type."""

    @property
    def text(self) -> str:
        """Its type and shape, for messages."""
        if self.shape is None:
            return f"{self.name} ({self.dtype})"
        return f"{self.name} ({'×'.join('?' if s is None else str(s) for s in self.shape) or 'a scalar'} {self.dtype})"


def further_inputs(node: NodeSpec, ports: Sequence[Port]) -> tuple[FurtherInput, ...]:
    """Return what is fed to the network besides the image, in the order of the file.

    Raises:
        ModelError: nothing feeds an input, a source does not fit one, or the group file names one that is not there.
    """
    known = [port.name for port in ports]
    for name in node.inputs:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise ModelError(f"inputs: the network has no input {name!r}", f"{meant}it has {', '.join(known)}")
    image = _image(node, ports)
    _refuse_unfed(node, image, ports)
    return tuple(_fitted(port, node.inputs[port.name], node.input) for port in ports if port.name != image)


def _image(node: NodeSpec, ports: Sequence[Port]) -> str | None:
    """Return the input that takes the image: the one that the group file names, or the only one left that could."""
    if node.image_input is not None:
        return node.image_input
    left = [port for port in ports if port.name not in node.inputs]
    if len(left) == 1:
        return left[0].name
    wanted = node.input.shape()
    fits = [p.name for p in left if p.shape is not None and len(p.shape) == 4 and _same(p.shape[1:], wanted[1:])]
    return fits[0] if len(fits) == 1 else None


def _same(stated: Sequence[int | None], wanted: Sequence[int]) -> bool:
    return all(size in (None, w) for size, w in zip(stated, wanted, strict=True))


def _refuse_unfed(node: NodeSpec, image: str | None, ports: Sequence[Port]) -> None:
    unfed = [port for port in ports if port.name != image and port.name not in node.inputs]
    if unfed:
        names = ", ".join(port.text for port in unfed)
        lines = "; ".join(suggestion(port.name, node.parent is not None) for port in unfed)
        either = "" if image is not None else "; the one that takes the image: image"
        raise ModelError(
            f"nothing feeds the network's input{'s' if len(unfed) > 1 else ''} {names}",
            f"name what does under inputs: of the node, e.g. {lines}{either}",
        )
    if image is None:
        raise ModelError("inputs: none of the network's inputs is left for the image", "leave one out, or write image")


def _fitted(port: Port, source: InputSource, image: InputSpec) -> FurtherInput:
    if port.dtype not in TYPES:
        raise ModelError(f"inputs: {port.name} takes {port.dtype}, which nothing in a frame is", "export it otherwise")
    values = _example(source, image)
    own = source.value_shape if source.value is not None else (len(values),)
    shape, batched = _shape(port, source, own)
    count = math.prod(max(size, 1) for size in shape[1:])
    example = values if len(values) == 1 or ANY in shape or len(values) == count else values * (count // len(values))
    return FurtherInput(name=port.name, shape=shape, dtype=port.dtype, batched=batched, example=example)


def _shape(port: Port, source: InputSource, own: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """Return the shape for one image, batch axis first, and whether the network's own input has that axis.

    `own` is the shape of what the source gives: of a parent's points only its last size is known.
    """
    if source.parent is not None or source.output is not None:
        own = {"box": (4,), "points": (ANY, 2), "score": (1,)}.get(source.parent or "", (ANY,))
    if port.shape is None:
        return (1, *own), True
    rows = port.shape[1:]
    if port.shape and port.shape[0] in (None, 1) and (found := _match(rows, own)) is not None:
        return (1, *found), True
    whole = None not in port.shape or len(own) == len(port.shape)
    if whole and (found := _match(port.shape, own)) is not None:
        return (1, *found), False
    wanted = "×".join("?" if size in (None, ANY) else str(size) for size in own) or "one number"
    raise ModelError(f"inputs: {source.text} gives {wanted} and does not fit {port.text}", "check its shape")


def _match(stated: Sequence[int | None], own: Sequence[int]) -> tuple[int, ...] | None:
    """Return the sizes of an input of `stated` sizes that takes what has `own`; None: it cannot."""
    if not own:  # one number fills all of it
        return tuple(1 if size is None else size for size in stated)
    given = math.prod(own)
    if own and ANY not in own and len(own) == len(stated) and _same(stated, own):
        return tuple(own)
    known = math.prod(size for size in stated if size is not None)
    free = [index for index, size in enumerate(stated) if size is None]
    if ANY in own:  # only a frame shows how many there are
        least = math.prod(size for size in own if size != ANY)
        if not free:
            return tuple(size or 0 for size in stated) if known % least == 0 else None
        return tuple(ANY if size is None else size for size in stated)
    if not free:
        return tuple(size or 0 for size in stated) if known == given else None
    if known == 0 or given % known:
        return None
    sizes = [given // known, *[1] * (len(free) - 1)]
    return tuple(sizes[free.index(index)] if size is None else size for index, size in enumerate(stated))


def _example(source: InputSource, image: InputSpec) -> tuple[float, ...]:
    """Return values that stand for a frame's: one as large as the input, without padding."""
    width, height = (float(side) for side in image.size)
    if source.value is not None:
        return source.numbers
    if source.fact is not None:
        kind, _, order = source.fact.partition("_")
        whole = {"pad": (0.0,) * 4, "box": (0.0, 0.0, width, height), "scale": (1.0, 1.0)}.get(kind)
        return whole or ((width, height) if order == "wh" else (height, width))
    x, y = (1.0, 1.0) if source.pixels == "unit" else (width, height)
    known: Mapping[str, tuple[float, ...]] = {"box": (0.0, 0.0, x, y), "points": (x / 2, y / 2), "score": (1.0,)}
    return known.get(source.parent or "", (0.0,))
