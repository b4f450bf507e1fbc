"""A child's work: the crops of the objects that its parent found, cut, or as places in the frame. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec.structs import replace

from hams_agents.tasks.base import Detected
from hams_agents.tasks.crops import cut, maps_of, view_of, views_of
from hams_agents.tasks.masks import encoded
from hams_shared.group.node_spec import CropSpec, InputSpec
from hams_shared.wire.frames import MAX_PIXELS, DeferredCrops, Work


def _pad(takes: InputSpec) -> int | None:
    """The value of pixels that a crop leaves empty; None: it is stretched and leaves none."""
    return takes.pad if takes.fit == "letterbox" else None


def _fitting(crop: CropSpec, size: tuple[int, int], others: int = 0) -> CropSpec:
    """Return `crop` with at most as many crops of `size` (width, height) as one message takes beside `others`."""
    most = max(0, MAX_PIXELS // (size[0] * size[1] * 3) - others)
    return crop if crop.max_count <= most else crop.model_copy(update={"max_count": most})


def deferred_crops(work: Work, child: str, crop: CropSpec, takes: InputSpec, objects: list[Detected]) -> Work:
    """Return work for a device that can map the frame: where its crops are; at most as many as fit a message."""
    pad = _pad(takes)
    height, width = work.images.shape[1:3]
    views, kept = views_of((height, width), None, objects, _fitting(crop, takes.size), takes.size, pad)
    masks = [None if view.mask is None else encoded(view.mask) for view in views] if crop.mask else []
    deferred = DeferredCrops(takes.size, pad or 0, [one.size for one in views], [one.corners for one in views], masks)
    return replace(
        work, node=child, to_frame=maps_of(views), sources=kept, deferred=deferred, reduced=None, given={}, filled=None
    )


def cut_crops(work: Work, child: str, crop: CropSpec, takes: InputSpec, found: list[list[Detected]]) -> Work:
    """Return work with the crops themselves; at most as many as fit a message, those of the first images first."""
    width, height = takes.size
    pad = _pad(takes)
    filled: list[tuple[int, int]] = []
    pixels: list[Any] = []
    transforms: list[Any] = []
    sources: list[int] = []
    first = 0
    for image, to_frame, objects in zip(work.images, work.to_frame, found, strict=True) if found else ():
        fitting = _fitting(crop, takes.size, len(sources))
        crops, maps, kept = cut(image, to_frame, objects, fitting, takes.size, pad)
        pixels.append(crops)
        transforms.append(maps)
        if pad is not None:
            filled += [view_of(objects[index], crop, takes.size, letterbox=True).size for index in kept]
        sources += [first + index for index in kept]
        first += len(objects)
    return replace(
        work,
        node=child,
        images=np.concatenate(pixels) if pixels else np.empty((0, height, width, 3), np.uint8),
        to_frame=np.concatenate(transforms) if transforms else np.empty((0, 2, 3)),
        sources=sources,
        pointer=None,
        view=None,
        reduced=None,
        given={},
        filled=None if pad is None else filled,
    )
