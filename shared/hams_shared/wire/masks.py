"""Masks as they travel: the pixels of an object as COCO's compressed run lengths, in the grid of its box.

Runs go down the columns, from the left, and alternate between pixels that are not the object and pixels that are; the
first run may be empty. A number is written as groups of five bits, lowest first, each as the character 48 + bits, plus
32 where another follows; the highest bit of the last one is the sign. From the fourth number on, what is written is the
difference to the number two before it. This is what ``pycocotools.mask.frPyObjects`` and ``decode`` read
(``rleFrString`` in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict

from hams_shared.errors import MessageError

Bits = NDArray[np.bool_]
FIRST = 3
"""From this number of a mask on, differences are written."""
MAX_PIXELS = 1 << 26
"""Most pixels of a mask, as of a frame: one with more is refused."""


class ObjectMask(TypedDict):
    """The pixels of an object, within its box."""

    size: Annotated[tuple[int, int], Field(description="height and width of the grid, whole pixels of the frame")]
    counts: Annotated[str, Field(description="COCO's compressed run lengths, down the columns (pycocotools)")]
    offset: Annotated[tuple[int, int], Field(description="x, y of the frame's pixel at the top left of the grid")]


def encode(bits: Bits, offset: tuple[int, int]) -> ObjectMask:
    """Return H×W `bits`, whose top left is pixel `offset` of the frame, as they travel."""
    return written(runs_of(bits), (bits.shape[0], bits.shape[1]), offset)


def written(runs: NDArray[np.int64], size: tuple[int, int], offset: tuple[int, int]) -> ObjectMask:
    """Return a mask of `size` (height, width), given as lengths of runs, as it travels."""
    return {"size": size, "counts": texts([runs])[0], "offset": (int(offset[0]), int(offset[1]))}


def decode(mask: Mapping[str, Any]) -> Bits:
    """Return a mask's H×W pixels. Raises MessageError when it is none."""
    runs, size, _ = read(mask)
    return bits_of(runs, size)


def read(mask: Mapping[str, Any]) -> tuple[NDArray[np.int64], tuple[int, int], tuple[int, int]]:
    """Return a mask's lengths of runs, its height and width, and its offset. Raises MessageError when it is none."""
    try:
        height, width = (int(side) for side in mask["size"])
        x, y = (int(at) for at in mask["offset"])
        runs = _numbers(str(mask["counts"]))
        if min(height, width) < 1 or height * width > MAX_PIXELS:
            raise ValueError(f"its size is {height}×{width}")
        if (runs < 0).any() or (runs > MAX_PIXELS).any() or int(runs.sum()) != height * width:
            raise ValueError(f"its runs do not fill {height}×{width} pixels")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MessageError(
            f"not a mask: {error}"[:300], "it needs size, counts and offset as docs/messages.md"
        ) from None
    return runs, (height, width), (x, y)


def bits_of(runs: NDArray[np.int64], size: tuple[int, int]) -> Bits:
    """Return the pixels, of `size` (height, width), that lengths of runs give."""
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size[1], size[0]).T


def in_frame(mask: Mapping[str, Any], size: tuple[int, int]) -> Bits:
    """Return a mask in a whole frame of `size` (width, height): height×width. Raises MessageError as :func:`decode`."""
    bits, (x, y) = within(mask, size)
    whole = np.zeros((size[1], size[0]), np.bool_)
    whole[y : y + bits.shape[0], x : x + bits.shape[1]] = bits
    return whole


def within(mask: Mapping[str, Any], size: tuple[int, int]) -> tuple[Bits, tuple[int, int]]:
    """Return the part of a mask that lies in a frame of `size` (width, height), perhaps none, and x, y of its top left.

    Raises MessageError as :func:`decode`.
    """
    runs, shape, (x, y) = read(mask)
    down, across = (slice(max(-at, 0), max(side - at, 0)) for at, side in ((y, size[1]), (x, size[0])))
    return bits_of(runs, shape)[down, across], (max(x, 0), max(y, 0))


def runs_of(bits: Bits) -> NDArray[np.int64]:
    """Return the lengths of runs down the columns of H×W pixels, the first of False."""
    flat = bits.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate(([0], changes, [len(flat)]))
    runs = np.diff(bounds)
    return np.concatenate(([0], runs)) if len(flat) and flat[0] else runs


def texts(masks: Sequence[NDArray[np.int64]]) -> list[str]:
    """Return the lengths of runs of masks as they are written, in one pass."""
    if not masks:
        return []
    left = np.concatenate(masks)
    ends = np.cumsum([len(runs) for runs in masks])
    for runs, end in zip(masks, ends.tolist(), strict=True):
        if len(runs) > FIRST:
            left[end - len(runs) + FIRST : end] -= runs[1:-2]
    groups: list[NDArray[np.uint8]] = []
    used: list[Bits] = []
    more = np.ones(len(left), np.bool_)
    while more.any():
        bits = left & 31
        left >>= 5
        used.append(more)
        more = more & np.where(bits & 16, left != -1, left != 0)
        groups.append((48 + bits + 32 * more).astype(np.uint8))
    taken = np.stack(used, axis=1)
    text = np.stack(groups, axis=1)[taken].tobytes().decode("ascii")
    stops = np.cumsum(taken.sum(axis=1))[ends - 1].tolist()
    return [text[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def _numbers(text: str) -> NDArray[np.int64]:
    """Read run lengths. Raises ValueError."""
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("its counts are no run lengths")
    ends = np.flatnonzero(codes < 32)
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 8:
        raise ValueError("its counts hold a number that is too large")
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = (codes[ends] & 16) != 0
    numbers[negative] -= np.int64(1) << (5 * (ends - starts + 1))[negative]
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
