"""Draws results on their image, for people: boxes, points, head pose, maps, outputs of child nodes, tracks and places.

It takes the plain maps of a result message (``objects``), with any names of nodes, and skips keys that it does not
know. Lines and letters scale with the image, and a small image is enlarged first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from hams_services.sinks.draw_maps import maps_on
from hams_services.sinks.draw_places import places_on, track_color, trails_on
from hams_services.sinks.draw_plates import Caption, captions_on
from hams_services.sinks.draw_shapes import mask_on, quad_on, skeleton
from hams_services.sinks.draw_strokes import (
    DARK,
    PALETTE,
    SUB,
    WHITE,
    Box,
    Points,
    dashed_rectangle,
    dots,
    fixed,
    rectangle,
)
from hams_services.sinks.draw_text import Color, Pixels
from hams_services.sinks.draw_words import SEEN, captions, children, inner_objects, is_carried, number
from hams_services.sinks.trails import Trail, track_of
from hams_shared.group.regions import Regions

LEAST_SIDE = 480
"""Pictures with a shorter side below this are enlarged, so that text on them can be read."""
RING = (255, 224, 64)
FEW = 8
"""Up to this many points on a part are drawn as a ring."""
SHUT = 0.22
"""An eye that is less open than this gets no iris; examples/face.yaml has the measurement."""
TURNED = 0.5
"""An eye with less than this part of the other eye's width is turned away, and not drawn."""
AXES: tuple[tuple[tuple[float, float, float], Color], ...] = (
    ((1.0, 0.0, 0.0), (80, 80, 240)),
    ((0.0, -1.0, 0.0), (90, 220, 90)),
    ((0.0, 0.0, -1.0), (255, 140, 60)),
)
"""Axes of a head that faces the camera (x right, y down, z away): right red, up green, nose blue."""


def annotate(
    image: Pixels,
    objects: Sequence[Mapping[str, Any]],
    regions: Regions | None = None,
    trails: Sequence[Trail] = (),
) -> Pixels:
    """Return a copy of `image` (H×W×3, B, G, R) with `objects` drawn on it, coordinates in pixels of `image`.

    Under them are maps, the stream's `regions` (masks hatched, zones and lines by name) and the `trails` of its tracks.
    An object with a track has the track's colour and its id; dashes where it is predicted. Words carried on from an
    earlier frame are grey. An image whose shorter side is below 480 pixels is enlarged by a whole factor.
    """
    factor = max(1, math.ceil(LEAST_SIDE / max(1, min(image.shape[:2]))))
    if max(image.shape[:2]) * factor > 1 << 14:
        factor = 1
    canvas = image.copy()
    if factor > 1:
        canvas = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    line = max(2, round(min(canvas.shape[:2]) / 360))
    names = maps_on(canvas, objects, factor)
    names += places_on(canvas, regions, _busy(objects), line) if regions is not None else []
    trails_on(canvas, trails, factor, line)
    notes: list[Caption] = []
    for one in objects:
        box, track = _box(one, factor), track_of(one)
        if box is None or (track is not None and _outside(box, canvas)):
            continue
        color = PALETTE[len(notes) % len(PALETTE)] if track is None else track_color(track)
        _outline(canvas, one, box, factor, line, color)
        notes.append(Caption(captions(one), box, color, "" if track is None else str(track)))
    captions_on(canvas, notes, line, names)
    return canvas


def _outside(box: Box, canvas: Pixels) -> bool:
    """Return whether nothing of a box is in the picture: that of a track that has left it, as is predicted."""
    return box[2] <= 0 or box[3] <= 0 or box[0] >= canvas.shape[1] or box[1] >= canvas.shape[0]


def _busy(objects: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the zones that have objects in them."""
    found = [one.get("zones") for one in objects]
    return {name for zones in found if isinstance(zones, list | tuple) for name in zones if isinstance(name, str)}


def _box(one: Mapping[str, Any], factor: int) -> Box | None:
    box = one.get("box")
    points = _points([box[:2], box[2:]] if isinstance(box, list | tuple) and len(box) == 4 else None, factor)
    return None if points is None else (points[0, 0], points[0, 1], points[1, 0], points[1, 1])


def _points(value: Any, factor: int) -> Points | None:
    """Return K×2 canvas pixels, or None unless `value` is a list of finite points that OpenCV can draw."""
    try:
        points = np.asarray(value, np.float64)[:, :2] * factor
    except (TypeError, ValueError, IndexError):
        return None
    drawable = points.ndim == 2 and points.shape[1] == 2 and len(points) > 0
    return points if drawable and bool((np.abs(points) < 1 << 20).all()) else None


def _outline(canvas: Pixels, one: Mapping[str, Any], box: Box, factor: int, line: int, color: Color) -> None:
    """Draw everything of one object but its text."""
    own = _points(one.get("points"), factor)
    if one.get("mask") is not None:
        mask_on(canvas, one["mask"], factor, color)
    if quad_on(canvas, one, own, line, color):
        own = None
    else:
        (dashed_rectangle if one.get("predicted") is True else rectangle)(canvas, box, color, line)
    width = box[2] - box[0]
    if own is not None and not skeleton(canvas, own, one, line, color):
        dots(canvas, own, max(1.2 * line, width / 50), color)
    _outputs(canvas, one, box, factor, line, color)


def _outputs(canvas: Pixels, one: Mapping[str, Any], box: Box, factor: int, line: int, color: Color) -> None:
    """Draw the outputs of child nodes for one object. What is carried on is not where it was: it has words only."""
    width = box[2] - box[0]
    for child in children(one):
        if is_carried(child):
            continue
        mesh = _points(child.get("points"), factor) if number(child.get("score"), 1.0) >= SEEN else None
        if mesh is not None and not skeleton(canvas, mesh, child, line, color):
            dense = len(mesh) > 30  # a mesh on a small face must not hide it
            radius = max(0.5, width / 220) if dense else max(min(line, width / 24), width / 60)
            dots(canvas, mesh, radius, WHITE, 0.65 * min(1.0, width / 140) if dense else 0.8)
        nested = child.get("pose")
        pose: Mapping[str, Any] = nested if isinstance(nested, Mapping) else child
        if {"yaw", "pitch", "roll"} <= pose.keys() and number(child.get("score"), 1.0) >= SEEN:
            centre = mesh.mean(axis=0) if mesh is not None else np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
            _axes(canvas, centre, pose, width * 0.6, line + 1)
        inners = [(inner, _box(inner, factor)) for inner in inner_objects(child)]
        widest = max((box[2] - box[0] for _, box in inners if box is not None), default=0.0)
        for inner, inner_box in inners:
            if inner_box is not None and mesh is not None:  # a part of what the points show: they outline it already
                if inner_box[2] - inner_box[0] >= TURNED * widest and not _shut(inner):
                    _ring(canvas, inner, factor, line)
                    _outputs(canvas, inner, inner_box, factor, max(1, line - 1), color)
            elif inner_box is not None:
                _outline(canvas, inner, inner_box, factor, max(1, line - 1), color)


def _shut(part: Mapping[str, Any]) -> bool:
    """Return whether a child node found that an eye is shut."""
    return any(number(child.get("open"), 1.0) < SHUT for child in children(part))


def _ring(canvas: Pixels, part: Mapping[str, Any], factor: int, line: int) -> None:
    """Draw a ring around the few points that a child node found on a part, such as an iris."""
    for child in children(part):
        points = _points(child.get("points"), factor)
        if points is not None and 2 < len(points) <= FEW:
            (x, y), radius = cv2.minEnclosingCircle(points.astype(np.float32))
            for shade, thickness in ((DARK, line + 1), (RING, max(1, line - 1))):
                cv2.circle(canvas, fixed((x, y)), round(radius * (1 << SUB)), shade, thickness, cv2.LINE_AA, SUB)


def _axes(canvas: Pixels, centre: Points, pose: Mapping[str, Any], length: float, line: int) -> None:
    """Draw where a head's right, up and nose point; angles as the landmarks task defines them."""
    yaw, pitch, roll = (math.radians(number(pose[name], 0.0)) for name in ("yaw", "pitch", "roll"))
    rotation = cv2.Rodrigues(np.array([0, 0, roll]))[0] @ cv2.Rodrigues(np.array([0, -yaw, 0]))[0]
    rotation = rotation @ cv2.Rodrigues(np.array([-pitch, 0, 0]))[0]
    tips = [(rotation @ axis, color) for axis, color in AXES]
    for tip, color in sorted(tips, key=lambda item: -float(item[0][2])):  # the nearest one last
        end = centre + tip[:2] * length
        for shade, thickness in ((DARK, line + 2), (color, line)):
            cv2.line(canvas, fixed(centre), fixed(end), shade, thickness, cv2.LINE_AA, SUB)
