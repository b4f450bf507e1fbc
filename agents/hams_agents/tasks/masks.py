"""Masks of objects: from a network's small map to the frame's pixels, onto the wire, and onto crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Affine, Mask
from hams_agents.tasks.input import Pixels, boxes_through, compose, opencv_map, opencv_perspective, perspective
from hams_shared.wire import masks as wire
from hams_shared.wire.masks import ObjectMask

Box = Sequence[float]
"""x0, y0, x1, y1 in pixels of the frame."""
AROUND = 2
"""Values of a map beyond a box that may count for its border pixels."""
AT_ONCE = 1 << 21
"""Values that are interpolated in one pass: 8 MiB, some times."""
ONE = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
HALF = 128
"""Of 255: where a mask that is bent onto a crop ends."""


def encoded(mask: Mask) -> ObjectMask:
    """Return a mask as it travels."""
    if mask.counts:
        return {"size": mask.size, "counts": mask.counts, "offset": mask.offset}
    return wire.written(mask.runs, mask.size, mask.offset)


def decoded(mask: ObjectMask | None) -> Mask | None:
    """Return a mask that travelled. Raises MessageError."""
    return None if mask is None else Mask(*wire.read(mask))


def whole_pixels(box: Box) -> tuple[int, int, int, int]:
    """Return the whole pixels x0, y0, x1, y1 that a box touches, one in each direction at least."""
    x0, y0 = math.floor(box[0]), math.floor(box[1])
    return x0, y0, max(x0 + 1, math.ceil(box[2])), max(y0 + 1, math.ceil(box[3]))


@dataclass(frozen=True)
class Part:
    """Where one object's mask is to be taken from."""

    values: NDArray[np.float32]
    """h×w: a map, or the part of it that is around the object."""
    to_map: Affine
    """Pixels of the frame → pixels of `values`."""
    box: Box
    """Of the object, pixels of the frame."""


def windows(to_map: Affine, boxes: Sequence[Box], shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Return for each box the rows and columns of a map (h, w, …) that its pixels are interpolated from, or more.

    `to_map` maps pixels of the frame to the map's.
    """
    if not boxes:
        return []
    height, width = shape[:2]
    around = boxes_through(to_map, np.array(boxes, np.float64))
    most = np.array([width - 1, height - 1])
    low = np.clip(np.floor(around[:, :2]) - AROUND, 0, most).astype(int)
    high = np.clip(np.ceil(around[:, 2:]) + AROUND, 1, most + 1).astype(int)
    high = np.maximum(high, low + 1)
    return [(slice(y0, y1), slice(x0, x1)) for (x0, y0), (x1, y1) in zip(low.tolist(), high.tolist(), strict=True)]


def shifted(to_map: Affine, window: tuple[slice, slice]) -> Affine:
    """Return the map to the pixels of a window of a map."""
    result = to_map.copy()
    result[:, 2] -= (window[1].start, window[0].start)
    return result


def sampled(parts: Sequence[Part], least: float, border: int = cv2.BORDER_REPLICATE) -> list[Mask]:
    """Return for each part where it is above `least` in the pixels of its box; between values it is interpolated.

    Beyond a map's border the nearest value counts, or 0 with `border` cv2.BORDER_CONSTANT. Where maps are not turned,
    no pixels are computed, only where runs begin, for many parts in one pass.
    """
    if not all(_is_upright(part.to_map) for part in parts):
        return [_warped(part, least, border) for part in parts]
    if border == cv2.BORDER_CONSTANT:
        parts = [Part(np.pad(part.values, 1), part.to_map + ONE, part.box) for part in parts]
    masks: list[Mask] = []
    group: list[Part] = []
    size = 0
    for part in parts:
        x0, _, x1, _ = whole_pixels(part.box)
        size += (x1 - x0) * len(part.values)
        if group and size > AT_ONCE:
            masks += _traced(group, least)
            group, size = [], (x1 - x0) * len(part.values)
        group.append(part)
    return masks + (_traced(group, least) if group else [])


def _is_upright(to_map: Affine) -> bool:
    return bool(to_map[0, 1] == 0 == to_map[1, 0] and to_map[0, 0] > 0 and to_map[1, 1] > 0)


def _warped(part: Part, least: float, border: int) -> Mask:
    x0, y0, x1, y1 = whole_pixels(part.box)
    moved = part.to_map.copy()
    moved[:, 2] += part.to_map[:, :2] @ (x0, y0)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine = cv2.warpAffine(part.values, opencv_map(moved), (x1 - x0, y1 - y0), flags=how, borderMode=border)
    return Mask.of(fine > least, (x0, y0))


def _traced(parts: Sequence[Part], least: float) -> list[Mask]:
    """Return the masks of upright maps by the places where they cross `least`.

    Along a column of pixels a map is linear between its rows: a run begins with the first pixel beyond the place where
    two rows' values, interpolated at the column, cross. Positions count over the pixels of all masks.
    """
    places = np.array([whole_pixels(part.box) for part in parts])
    widths, heights = (places[:, 2:] - places[:, :2]).T
    bases = np.concatenate(([0], np.cumsum(widths * heights)))
    firsts = np.concatenate(([0], np.cumsum(widths)))
    lines = _columns(parts, places, np.float32(least))
    rows = lines.shape[1]
    above = lines > 0
    events = np.empty_like(above)
    events[:, 0] = True  # a column begins as its first row is
    np.not_equal(above[:, 1:], above[:, :-1], out=events[:, 1:])
    index = np.flatnonzero(events)
    column, row = np.divmod(index, rows)
    owner = np.repeat(np.arange(len(parts)), widths)[column]
    scale = np.array([part.to_map[1, 1] for part in parts])
    shift = np.array([part.to_map[1, 2] for part in parts]) + scale * places[:, 1]
    states, after = above.ravel()[index], lines.ravel()[index].astype(np.float64)
    before = lines.ravel()[np.maximum(index - 1, 0)]
    apart = before - after
    cross = (row - 0.5 + before / np.where(apart == 0, 1, apart) - shift[owner]) / scale[owner] - 0.5
    begin = np.where(row == 0, 0, np.where(states, np.floor(cross) + 1, np.ceil(cross))).clip(0, heights[owner])
    begins = bases[owner] + (column - firsts[owner]) * heights[owner] + begin.astype(np.intp)
    last = begins < bases[owner + 1]  # of several events at a pixel, the last
    last[:-1] &= begins[1:] != begins[:-1]
    begins, states, owner = begins[last], states[last], owner[last]
    previous = np.concatenate(([False], states[:-1])) & (begins != bases[owner])
    changes = begins[states != previous]
    ends = np.searchsorted(changes, bases)
    runs = [
        np.diff(np.concatenate((bases[k : k + 1], changes[ends[k] : ends[k + 1]], bases[k + 1 : k + 2])))
        for k in range(len(parts))
    ]
    sizes = zip(heights.tolist(), widths.tolist(), strict=True)
    offsets = [(x, y) for x, y, _, _ in places.tolist()]
    return [Mask(*one) for one in zip(runs, sizes, offsets, wire.texts(runs), strict=True)]


def _columns(parts: Sequence[Part], places: NDArray[np.intp], least: np.float32) -> NDArray[np.float32]:
    """Return W×rows: maps less `least`, interpolated at the W columns of pixels of all `places` (x0, y0, x1, y1).

    A map with fewer rows than another has its last one repeated.
    """
    columns = np.array([part.values.shape[1] for part in parts])
    starts = np.concatenate(([0], np.cumsum(columns)))
    turned = np.empty((starts[-1], max(len(part.values) for part in parts)), np.float32)
    for part, start, end in zip(parts, starts, starts[1:], strict=False):
        rows = len(part.values)
        turned[start:end, :rows] = part.values.T
        turned[start:end, rows:] = turned[start:end, rows - 1 : rows]
    turned -= least
    steps = np.zeros_like(turned)
    np.subtract(turned[1:], turned[:-1], out=steps[:-1])
    widths = places[:, 2] - places[:, 0]
    owner = np.repeat(np.arange(len(parts)), widths)
    scale = np.array([part.to_map[0, 0] for part in parts])
    shift = np.array([part.to_map[0, 2] for part in parts]) - 0.5 + scale * (places[:, 0] + 0.5)
    x = np.arange(len(owner)) - np.repeat(np.cumsum(widths) - widths, widths)
    at = np.minimum(np.maximum(x * scale[owner] + shift[owner], 0), columns[owner] - 1)
    left = np.minimum(at.astype(np.intp), np.maximum(columns - 2, 0)[owner])
    index = starts[owner] + left
    found: NDArray[np.float32] = steps[index]
    found *= (at - left).astype(np.float32)[:, None]
    found += turned[index]
    return found


def blank(target: Pixels, mask: Mask, to_frame: Affine, quad: NDArray[np.float64] | None, value: int) -> None:
    """Set what is not the object in a crop (h×w×3) to `value`.

    `to_frame` maps the crop's pixels to the frame's; with `quad` (4×2, frame pixels) its corners do, in perspective.
    """
    height, width = target.shape[:2]
    bits = np.ascontiguousarray(mask.bits).view(np.uint8) * 255
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_CONSTANT, "borderValue": 0}
    if quad is None:
        back = np.array([[1.0, 0.0, -mask.offset[0]], [0.0, 1.0, -mask.offset[1]]])
        seen = cv2.warpAffine(bits, opencv_map(compose(back, to_frame)), (width, height), **how)
    else:
        onto = perspective(quad - mask.offset, (width, height))
        seen = cv2.warpPerspective(bits, opencv_perspective(onto), (width, height), **how)
    target[seen < HALF] = value
