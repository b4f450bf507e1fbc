"""Data-plane messages: frames and crops on their way to a device, and a node's outputs on their way to the join.

Pixels travel inline, or, between processes of one host, as a pointer into shared memory (see
:mod:`hams_shared.wire.frame_pool`).

Packed by hand rather than through pydantic, since there are several per frame and they carry megabytes. Pixels are
uint8 B, G, R, rows top to bottom. All coordinates in outputs are pixels of the original frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hams_shared.errors import FrameUnreachableError, MessageError, RefusedError
from hams_shared.wire import codec
from hams_shared.wire.frame_pool import FramePointer, FrameReader, FrameView

Pixels = NDArray[np.uint8]
T = TypeVar("T")

MAX_SIDE = 1 << 15
"""Longest side of a crop, pixels."""
MAX_PIXELS = 1 << 28
"""Most bytes of pixels in one message (a 16k × 16k grey picture): beyond it the message is refused."""


@dataclass(frozen=True, slots=True)
class FrameId:
    """One attempt at one frame of one stream."""

    group: str
    stream: str
    frame: int
    """Counts from 0 in each stream."""
    attempt: int
    """Counts from 0; outputs of different attempts are never joined."""
    epoch: int
    """Of the plan this attempt runs under."""
    captured: float
    """Unix time at which the frame was read, s."""

    def to_wire(self) -> list[Any]:
        """The id as it travels."""
        return [self.group, self.stream, self.frame, self.attempt, self.epoch, self.captured]

    @classmethod
    def from_wire(cls, value: Any) -> FrameId:
        """Check and rebuild. Raises MessageError."""
        match value:
            case [str(group), str(stream), int(frame), int(attempt), int(epoch), float(captured)]:
                if frame < 0 or attempt < 0 or epoch < 0 or not group or not stream:
                    raise MessageError("frame id: negative number or empty name")
                return cls(group, stream, frame, attempt, epoch, captured)
        raise MessageError("frame id: not [group, stream, frame, attempt, epoch, captured]")


def _get(message: dict[str, Any], key: str, kind: type[T]) -> T:
    value = message.get(key)
    if not isinstance(value, kind):
        raise MessageError(f"field {key!r} is {type(value).__name__}, not {kind.__name__}")
    return value


def _map(data: bytes) -> dict[str, Any]:
    value = codec.unpack(data)
    if not isinstance(value, dict):
        raise MessageError(f"a message is a map, not {type(value).__name__}")
    return value


def _indices(message: dict[str, Any]) -> list[int]:
    sources = _get(message, "sources", list)
    if not all(isinstance(index, int) and index >= 0 for index in sources):
        raise MessageError("sources is not a list of indices")
    return sources


@dataclass(frozen=True, slots=True)
class DeferredCrops:
    """Crops that the receiver takes from the frame in shared memory, so that no pixels of crops travel."""

    size: tuple[int, int]
    """Width and height of each crop, pixels."""
    pad: int
    """Value of what a crop shows nothing on."""
    filled: list[tuple[int, int]]
    """For each crop: width and height of the part that shows something, from the top left."""
    corners: list[NDArray[np.float64] | None]
    """For each crop: 4×2, frame pixels of that part's corners; None: by `to_frame`."""

    def to_wire(self) -> list[Any]:
        """The crops as they travel."""
        corners = [None if quad is None else quad.ravel().tolist() for quad in self.corners]
        return [list(self.size), self.pad, [list(part) for part in self.filled], corners]

    @classmethod
    def from_wire(cls, value: Any) -> DeferredCrops:
        """Check and rebuild. Raises MessageError."""
        match value:
            case [[int(width), int(height)], int(pad), list(filled), list(corners)]:
                fits = (
                    0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and len(filled) * width * height * 3 <= MAX_PIXELS
                )
                if fits and len(filled) == len(corners) and 0 <= pad <= 255:
                    parts = [_part(part, width, height) for part in filled]
                    return cls((width, height), pad, parts, [_quad(quad) for quad in corners])
        raise MessageError("deferred: not [size, pad, filled, corners] of one number of crops")


def _part(value: Any, width: int, height: int) -> tuple[int, int]:
    match value:
        case [int(across), int(down)] if 0 < across <= width and 0 < down <= height:
            return across, down
    raise MessageError(f"deferred: {value!r} is no part of {width}×{height}")


def _quad(value: Any) -> NDArray[np.float64] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 8 and all(isinstance(v, float) and abs(v) < 1e9 for v in value)):
        raise MessageError("deferred: corners are not eight numbers")
    return np.array(value).reshape(4, 2)


def onto_frame(shape: tuple[int, ...], frame_size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the 2×3 map from pixels of a picture of `shape` (H, W, …) to those of the whole frame that it shows.

    `frame_size` is the frame's width and height, pixels.
    """
    return np.array([[frame_size[0] / shape[1], 0.0, 0.0], [0.0, frame_size[1] / shape[0], 0.0]])


@dataclass(frozen=True, slots=True)
class Reduced:
    """The same moment as the frame in fewer pixels: the root's input is prepared from it, and nothing else."""

    pixels: Pixels
    """H×W×3."""
    pointer: FramePointer | None = None
    """Where the pixels lie; None: they travel in the message."""
    view: FrameView | None = None
    """Received by pointer: must be checked after the last look at the pixels."""

    def to_wire(self) -> dict[str, Any]:
        """The picture as it travels."""
        shape = [1, *self.pixels.shape]
        if self.pointer is not None:
            return {"shape": shape, "pointer": self.pointer.to_wire()}
        return {"shape": shape, "pixels": np.ascontiguousarray(self.pixels).data.cast("B")}

    @classmethod
    def from_wire(cls, value: Any) -> Reduced:
        """Check and rebuild; by pointer, `pixels` has only the shape. Raises MessageError."""
        if not isinstance(value, dict):
            raise MessageError("reduced: not a map")
        pointer = FramePointer.from_wire(value["pointer"]) if "pointer" in value else None
        shape, pixels = _pixels(value, by_pointer=pointer is not None)
        if shape[0] != 1 or 0 in shape:
            raise MessageError(f"reduced: shape {list(shape)!r} is not [1, H, W, 3]")
        blank = np.broadcast_to(np.uint8(0), shape[1:])
        return cls(blank if pointer is not None else np.frombuffer(pixels, np.uint8).reshape(shape[1:]), pointer)


@dataclass(frozen=True, slots=True)
class Work:
    """Images for one node: the whole frame for the root, all crops of one frame for a child (possibly none)."""

    id: FrameId
    node: str
    images: Pixels
    """N×H×W×3; N = 1 for a frame, N = number of crops for a child. With `deferred`: the frame, 1×H×W×3.
    1×0×0×3: only `reduced` is sent, since nobody cuts crops."""
    to_frame: NDArray[np.float64]
    """N×2×3: maps pixels of image i to pixels of the original frame."""
    sources: list[int]
    """For each image: which of the parent's objects it shows, counted over all the parent's images; a frame is 0."""
    frame_size: tuple[int, int]
    """Width and height of the original frame, pixels."""
    route: dict[str, str] = field(default_factory=dict)
    """For each node with replicas: the device that does this frame. Other nodes have one device in the plan."""
    pointer: FramePointer | None = None
    """Where the pixels lie; None: they travel in the message."""
    view: FrameView | None = None
    """Received by pointer: must be checked after the last look at the pixels."""
    deferred: DeferredCrops | None = None
    """The receiver takes the images from the frame."""
    peers: tuple[str, ...] = ()
    """Shared-memory peers: devices that can map a frame that travels by pointer, and so take their crops from it."""
    reduced: Reduced | None = None
    """Of the root only: the input is prepared from it; crops are cut from `images`."""

    @property
    def count(self) -> int:
        """How many images the node gets."""
        return len(self.sources)

    def check(self) -> None:
        """Raise FrameGoneError unless what was read of shared memory was the frame."""
        for view in (self.view, self.reduced.view if self.reduced is not None else None):
            if view is not None:
                view.check()

    def pack(self) -> bytes:
        """Encode."""
        message: dict[str, Any] = {
            "id": self.id.to_wire(),
            "node": self.node,
            "shape": list(self.images.shape),
            "to_frame": self.to_frame.astype("<f8", copy=False).tobytes(),
            "sources": self.sources,
            "frame_size": list(self.frame_size),
            "route": self.route,
        }
        if self.peers:
            message["peers"] = list(self.peers)
        if self.deferred is not None:
            message["deferred"] = self.deferred.to_wire()
        if self.reduced is not None:
            message["reduced"] = self.reduced.to_wire()
        if self.pointer is not None:
            message["pointer"] = self.pointer.to_wire()
        else:
            message["pixels"] = np.ascontiguousarray(self.images).data.cast("B") if self.images.size else b""
        return codec.pack(message)

    @classmethod
    def unpack(cls, data: bytes, reader: FrameReader | None = None) -> Work:
        """Decode and check; the pixels are a view into `data`, or into shared memory.

        Raises:
            MessageError: this is not work.
            WorkUnreadableError: it is, but its pixels cannot be had; it holds all the rest.
        """
        message = _map(data)
        pointer = FramePointer.from_wire(message["pointer"]) if "pointer" in message else None
        deferred = DeferredCrops.from_wire(message["deferred"]) if "deferred" in message else None
        shape, pixels = _pixels(message, by_pointer=pointer is not None)
        sources = _indices(message)
        work = cls(
            id=FrameId.from_wire(message.get("id")),
            node=_get(message, "node", str),
            images=np.frombuffer(pixels, np.uint8).reshape(shape if pointer is None else (0, 1, 1, 3)),
            to_frame=_transforms(message, shape[0], deferred, len(sources)),
            sources=sources,
            frame_size=_frame_size(message),
            route=_route(message),
            pointer=pointer,
            deferred=deferred,
            peers=_peers(message),
            reduced=_reduced(message, shape[0], deferred),
        )
        return _mapped(work, shape, reader)


def _pixels(message: dict[str, Any], *, by_pointer: bool) -> tuple[tuple[int, ...], bytes]:
    """Return the shape of the images, and their bytes unless they come by pointer. Raises MessageError."""
    shape = _get(message, "shape", list)
    if len(shape) != 4 or not all(isinstance(n, int) and n >= 0 for n in shape) or shape[3] != 3:
        raise MessageError(f"shape {shape!r} is not [N, H, W, 3]")
    size = shape[0] * shape[1] * shape[2] * 3
    pixels = b"" if by_pointer else _get(message, "pixels", bytes)
    if size > MAX_PIXELS or (not by_pointer and len(pixels) != size):
        raise MessageError(f"{len(pixels)} bytes of pixels do not fill shape {shape}")
    return tuple(shape), pixels


def _transforms(
    message: dict[str, Any], images: int, deferred: DeferredCrops | None, sources: int
) -> NDArray[np.float64]:
    """Return one map to the frame for each image, or deferred crop. Raises MessageError."""
    if deferred is not None and images != 1:
        raise MessageError(f"crops are taken from one frame, not from {images}")
    count = images if deferred is None else len(deferred.filled)
    transforms = _get(message, "to_frame", bytes)
    if len(transforms) != count * 48:
        raise MessageError(f"{count} images need {count * 48} bytes of transforms, not {len(transforms)}")
    if sources != count:
        raise MessageError(f"{count} images but {sources} sources")
    return np.frombuffer(transforms, "<f8").reshape(-1, 2, 3)


def _frame_size(message: dict[str, Any]) -> tuple[int, int]:
    match message.get("frame_size"):
        case [int(width), int(height)] if width > 0 and height > 0:
            return width, height
        case other:
            raise MessageError(f"frame_size {other!r} is not [width, height]")


def _route(message: dict[str, Any]) -> dict[str, str]:
    route = message.get("route", {})
    if not (isinstance(route, dict) and all(isinstance(d, str) for d in route.values())):
        raise MessageError("route is not a map of devices")
    return route


def _peers(message: dict[str, Any]) -> tuple[str, ...]:
    peers = message.get("peers", [])
    if not (isinstance(peers, list) and all(isinstance(d, str) for d in peers)):
        raise MessageError("peers is not a list of devices")
    return tuple(peers)


def _reduced(message: dict[str, Any], images: int, deferred: DeferredCrops | None) -> Reduced | None:
    if "reduced" not in message:
        return None
    if images != 1 or deferred is not None:
        raise MessageError("reduced: only with one frame that comes whole")
    return Reduced.from_wire(message["reduced"])


def _mapped(work: Work, shape: tuple[int, ...], reader: FrameReader | None) -> Work:
    """Return `work` with the pixels that its pointers point to. Raises WorkUnreadableError."""
    whole, reduced = work, work.reduced
    try:
        if work.pointer is not None:
            view = _view(work.pointer, shape, reader)
            whole = replace(whole, images=view.pixels, view=view)
        if reduced is not None and reduced.pointer is not None:
            view = _view(reduced.pointer, reduced.pixels.shape, reader)
            whole = replace(whole, reduced=replace(reduced, pixels=view.pixels, view=view))
    except RefusedError as error:
        raise WorkUnreadableError(work, error) from None
    return whole


def _view(pointer: FramePointer, shape: tuple[int, ...], reader: FrameReader | None) -> FrameView:
    if reader is None:
        raise FrameUnreachableError("this process reads no shared memory")
    return reader.view(pointer, shape)


class WorkUnreadableError(Exception):
    """Work whose pixels cannot be read here; `reason` is the answer to its sender."""

    def __init__(self, work: Work, reason: RefusedError) -> None:
        super().__init__(reason.text)
        self.work = work
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Output:
    """One node's output for one frame, or the error in its place.

    `items` has one entry per image the node was given: for a detector a list of objects, for a describing node one map.
    """

    id: FrameId
    node: str
    device: str
    items: list[Any]
    sources: list[int] = field(default_factory=list)
    """For each item: which of the parent's objects it is about, counted over all the parent's images."""
    timing: dict[str, float] = field(default_factory=dict)
    """Milliseconds: queue, prepare, infer, decode, crop."""
    error: dict[str, str] | None = None

    def pack(self) -> bytes:
        """Encode."""
        return codec.pack(
            {
                "id": self.id.to_wire(),
                "node": self.node,
                "device": self.device,
                "items": self.items,
                "sources": self.sources,
                "timing": self.timing,
                "error": self.error,
            }
        )

    @classmethod
    def unpack(cls, data: bytes) -> Output:
        """Decode and check. Raises MessageError."""
        message = _map(data)
        error = message.get("error")
        if error is not None and not (isinstance(error, dict) and isinstance(error.get("code"), str)):
            raise MessageError("error is not {code, text, hint}")
        timing = _get(message, "timing", dict)
        if not all(isinstance(ms, int | float) for ms in timing.values()):
            raise MessageError("timing is not a map of milliseconds")
        return cls(
            id=FrameId.from_wire(message.get("id")),
            node=_get(message, "node", str),
            device=_get(message, "device", str),
            items=_get(message, "items", list),
            sources=_indices(message),
            timing=timing,
            error=error,
        )
