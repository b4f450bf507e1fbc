"""Data-plane messages: frames and crops on their way to a device, and the outputs of nodes on their way to the join.

Pixels travel inline, or, between processes of one host, as a pointer into shared memory (see
:mod:`hams_shared.wire.frame_pool`). A message holds several pieces of work, or several outputs: a message costs a
broker and its clients more than its content does. Pixels are uint8 B, G, R, rows top to bottom. All coordinates in
outputs are pixels of the original frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from hams_shared.errors import FrameUnreachableError, MessageError, RefusedError
from hams_shared.wire.frame_pool import FramePointer, FrameReader, FrameView
from hams_shared.wire.masks import ObjectMask
from hams_shared.wire.numbers import Numbers
from hams_shared.wire.trace_context import own

Pixels = NDArray[np.uint8]
T = TypeVar("T")

MAX_SIDE = 1 << 15
"""Longest side of a crop, pixels."""
MAX_PIXELS = 1 << 28
"""Most bytes of pixels in one message (a 16k × 16k grey picture): beyond it the message is refused."""

Name = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Side = Annotated[int, Meta(gt=0, le=MAX_SIDE)]
Length = Annotated[int, Meta(gt=0)]


class FrameId(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One attempt at one frame of one stream."""

    group: Name
    stream: Name
    frame: Count
    """Counts from 0 in each stream."""
    attempt: Count
    """Counts from 0; outputs of different attempts are never joined."""
    epoch: Count
    """Of the plan this attempt runs under."""
    captured: float
    """Unix time at which the frame was read, s."""


class DeferredCrops(Struct, frozen=True, eq=False):
    """Crops that the receiver takes from the frame in shared memory, so that no pixels of crops travel."""

    size: tuple[int, int]
    """Width and height of each crop, pixels."""
    pad: int
    """Value of what a crop shows nothing on."""
    filled: list[tuple[int, int]]
    """For each crop: width and height of the part that shows something, from the top left."""
    corners: list[NDArray[np.float64] | None]
    """For each crop: 4×2, frame pixels of that part's corners; None: by `to_frame`."""
    masks: list[ObjectMask | None] = []
    """For each crop: all that it shows; None: the whole rectangle. Empty: no crop has one."""


class Reduced(Struct, frozen=True, eq=False):
    """The same moment as the frame in fewer pixels: the root's input is prepared from it, and nothing else."""

    pixels: Pixels
    """H×W×3."""
    pointer: FramePointer | None = None
    """Where the pixels lie; None: they travel in the message."""
    view: FrameView | None = None
    """Received by pointer: must be checked after the last look at the pixels."""


class Given(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An object of the parent, of which a child is to take its crop from the frame."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels of the frame."""
    score: float
    label: str
    points: list[tuple[float, float]] | None = None
    mask: ObjectMask | None = None

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.box)):
            raise ValueError("objects: a box is not finite")


class Work(Struct, frozen=True, eq=False):
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
    route: dict[str, str] = {}
    """For each node with replicas: the device that does this frame. Other nodes have one device in the plan."""
    pointer: FramePointer | None = None
    """Where the pixels lie; None: they travel in the message."""
    view: FrameView | None = None
    """Received by pointer: must be checked after the last look at the pixels."""
    deferred: DeferredCrops | None = None
    """The receiver takes the images from the frame."""
    objects: list[Given] | None = None
    """Of a child whose objects the pipeline chooses: the receiver cuts their crops from `images`, the frame."""
    peers: dict[str, str] = {}
    """Shared-memory peers: they can map a frame that travels by pointer, and cut crops of it; with their mailboxes."""
    answer_to: str = ""
    """The sender's mailbox; see :mod:`hams_shared.bus.mailbox`."""
    reduced: Reduced | None = None
    """Of the root only: the input is prepared from it; crops are cut from `images`."""
    unreadable: RefusedError | None = None
    """Why the pixels that it points to cannot be had here: the answer to its sender."""
    traceparent: str = ""
    """Of a frame that is traced."""
    given: dict[str, NDArray[Any]] = {}
    """What the further inputs of a child's network need of its parent, by name: a row per image, or one for all."""
    filled: list[tuple[int, int]] | None = None
    """For each crop: width and height of the part, from the top left, that shows something; None: all of it."""

    @property
    def count(self) -> int:
        """How many images the node gets."""
        return len(self.sources)

    def check(self) -> None:
        """Raise FrameGoneError unless what was read of shared memory was the frame."""
        for view in (self.view, self.reduced.view if self.reduced is not None else None):
            if view is not None:
                view.check()


class Steps(Struct, frozen=True, array_like=True):
    """When a node of a traced frame did what."""

    traceparent: str
    """Of the frame."""
    arrived: float
    """When the work came, Unix time by the clock of the agent's host, s."""
    steps: list[tuple[str, float, float]]
    """Name, begin and end of each, ms since then."""


class Output(Struct, frozen=True):
    """One node's output for one frame, or the error in its place.

    `items` has one entry per image the node was given: for a detector a list of objects, for a describing node one map.
    """

    id: FrameId
    node: str
    device: str
    items: list[Any]
    sources: list[Count] = []
    """For each item: which of the parent's objects it is about, counted over all the parent's images."""
    timing: dict[str, float] = {}
    """Milliseconds: queue, prepare, infer, decode, crop."""
    error: dict[str, str] | None = None
    """Code, text, hint."""
    trace: Steps | UnsetType = UNSET
    """Of a traced frame only; of others it does not travel."""

    def __post_init__(self) -> None:
        if self.error is not None and "code" not in self.error:
            raise ValueError("error is not {code, text, hint}")

    def pack(self) -> bytes:
        """Encode it alone, as applications get it."""
        return _encoder.encode(self)

    @classmethod
    def unpack(cls, data: bytes) -> Output:
        """Decode one that was packed alone. Raises MessageError."""
        return _decoded(_output, data)


# ── as it travels ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Deferred(Struct, array_like=True, forbid_unknown_fields=True):
    size: tuple[Side, Side]
    pad: Annotated[int, Meta(ge=0, le=255)]
    filled: list[tuple[Side, Side]]
    corners: list[tuple[float, float, float, float, float, float, float, float] | None]
    masks: list[ObjectMask | None] = []

    def __post_init__(self) -> None:
        width, height = self.size
        if self.masks and len(self.masks) != len(self.filled):
            raise ValueError("deferred: not one mask per crop")
        if len(self.filled) * width * height * 3 > MAX_PIXELS or len(self.filled) != len(self.corners):
            raise ValueError("deferred: not one part and its corners per crop, or too many pixels")
        if any(across > width or down > height for across, down in self.filled):
            raise ValueError(f"deferred: a part is larger than {width}×{height}")
        if any(quad is not None and not all(abs(v) < 1e9 for v in quad) for quad in self.corners):
            raise ValueError("deferred: corners are no pixels")


class _Pixels(Struct, omit_defaults=True):
    """Pixels in the message, or a pointer to them."""

    shape: tuple[Count, Count, Count, Annotated[int, Meta(ge=3, le=3)]]
    """N, height, width, 3."""
    pixels: memoryview | None = None
    pointer: FramePointer | None = None

    def __post_init__(self) -> None:
        size = math.prod(self.shape)
        inline = 0 if self.pixels is None else self.pixels.nbytes
        either = (self.pointer is None) != (self.pixels is None)
        if size > MAX_PIXELS or not either or (self.pixels is not None and inline != size):
            raise ValueError(f"{inline} bytes of pixels do not fill shape {list(self.shape)}")

    @classmethod
    def of(cls, images: Pixels, pointer: FramePointer | None) -> _Pixels:
        """Of N×H×W×3 pixels."""
        if pointer is not None:
            return cls(images.shape, None, pointer)
        return cls(images.shape, np.ascontiguousarray(images).data.cast("B") if images.size else memoryview(b""))

    def read(self, reader: FrameReader | None) -> tuple[Pixels, FrameView | None]:
        """Return the pixels in place, N×H×W×3. Raises MessageError and RefusedError."""
        if self.pointer is None:
            return np.frombuffer(self.pixels or b"", np.uint8).reshape(self.shape), None
        if reader is None:
            raise FrameUnreachableError("this process reads no shared memory")
        view = reader.view(self.pointer, self.shape)
        return view.pixels, view


class _Work(Struct, omit_defaults=True):
    id: FrameId
    node: str
    images: _Pixels
    to_frame: bytes
    sources: list[Count]
    frame_size: tuple[Length, Length]
    route: dict[str, str] = {}
    peers: dict[str, str] = {}
    answer_to: str = ""
    deferred: _Deferred | None = None
    reduced: _Pixels | None = None
    objects: list[Given] | None = None
    traceparent: str = ""
    given: dict[str, Numbers] = {}
    filled: list[tuple[Side, Side]] | None = None

    def __post_init__(self) -> None:
        images = self.images.shape[0]
        width, height = self.frame_size
        if width * height > MAX_PIXELS:
            raise ValueError(f"a frame of {width}×{height} is too large")
        masks = [one.mask for one in self.objects or ()] + (self.deferred.masks if self.deferred is not None else [])
        if any(one is not None and (one["size"][0] > height or one["size"][1] > width) for one in masks):
            raise ValueError(f"a mask is larger than its frame of {width}×{height}")
        if any(value.shape[0] not in (1, len(self.sources)) for value in self.given.values()):
            raise ValueError("given: not one row per image, nor one for all")
        if self.objects is not None:
            if images != 1 or self.deferred is not None or self.reduced is not None or self.to_frame:
                raise ValueError("objects: crops are cut from one frame, and nothing else is given")
            if len(self.sources) != len(self.objects):
                raise ValueError(f"{len(self.objects)} objects, {len(self.sources)} sources")
            return
        if self.deferred is not None and images != 1:
            raise ValueError(f"crops are taken from one frame, not from {images}")
        count = images if self.deferred is None else len(self.deferred.filled)
        if len(self.to_frame) != count * 48 or len(self.sources) != count:
            raise ValueError(f"{count} images, {len(self.sources)} sources, {len(self.to_frame)} bytes of transforms")
        if self.filled is not None and len(self.filled) != count:
            raise ValueError(f"filled: {len(self.filled)} parts of {count} images")
        if self.reduced is not None:
            if images != 1 or self.deferred is not None:
                raise ValueError("reduced: only with one frame that comes whole")
            if self.reduced.shape[0] != 1 or 0 in self.reduced.shape:
                raise ValueError(f"reduced: shape {list(self.reduced.shape)} is not [1, H, W, 3]")


def _plain(value: Any) -> Any:
    """Numbers of NumPy, which tasks may give, travel as numbers."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written in a message")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_works = msgspec.msgpack.Decoder(list[_Work])
_output = msgspec.msgpack.Decoder(Output)
_outputs = msgspec.msgpack.Decoder(list[Output])


def _decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MessageError(f"not what is expected: {error}"[:300]) from None


def pack_outputs(outputs: Sequence[Output]) -> bytes:
    """Encode the outputs of nodes."""
    return _encoder.encode(outputs)


def unpack_outputs(data: bytes) -> list[Output]:
    """Decode and check outputs. Raises MessageError."""
    return _decoded(_outputs, data)


def pack_works(works: Sequence[Work]) -> bytes:
    """Encode work for one device."""
    return _encoder.encode([_to_wire(work) for work in works])


def _to_wire(work: Work) -> _Work:
    crops, deferred = work.deferred, None
    if crops is not None:
        corners = [None if quad is None else tuple(quad.ravel().tolist()) for quad in crops.corners]
        deferred = _Deferred(crops.size, crops.pad, crops.filled, corners, crops.masks)  # type: ignore[arg-type]
    reduced = work.reduced
    return _Work(
        work.id,
        work.node,
        _Pixels.of(work.images, work.pointer),
        work.to_frame.astype("<f8", copy=False).tobytes(),
        work.sources,
        work.frame_size,
        work.route,
        work.peers,
        work.answer_to,
        deferred,
        None if reduced is None else _Pixels.of(reduced.pixels[None], reduced.pointer),
        work.objects,
        work.traceparent,
        {name: Numbers.of(values) for name, values in work.given.items()} if work.given else {},
        work.filled,
    )


def unpack_works(data: bytes, reader: FrameReader | None = None) -> list[Work]:
    """Decode and check work; the pixels are views into `data`, or into shared memory.

    Work whose pixels cannot be had here comes without them, with the reason in :attr:`Work.unreadable`.

    Raises:
        MessageError: this is not work.
    """
    return [_from_wire(one, reader) for one in _decoded(_works, data)]


def _from_wire(one: _Work, reader: FrameReader | None) -> Work:
    images, view, reduced, unreadable = UNREAD, None, None, None
    try:
        images, view = one.images.read(reader)
        if one.reduced is not None:
            pixels, reduced_view = one.reduced.read(reader)
            reduced = Reduced(pixels[0], one.reduced.pointer, reduced_view)
    except RefusedError as error:
        unreadable = error
    return Work(
        one.id,
        one.node,
        images,
        np.frombuffer(one.to_frame, "<f8").reshape(-1, 2, 3),
        one.sources,
        one.frame_size,
        one.route,
        one.images.pointer,
        view,
        None if one.deferred is None else _deferred(one.deferred),
        one.objects,
        one.peers,
        one.answer_to,
        reduced,
        unreadable,
        own(one.traceparent) if one.traceparent else "",
        {name: value.read() for name, value in one.given.items()} if one.given else {},
        one.filled,
    )


def _deferred(one: _Deferred) -> DeferredCrops:
    corners = [None if quad is None else np.array(quad).reshape(4, 2) for quad in one.corners]
    return DeferredCrops(one.size, one.pad, one.filled, corners, one.masks)


UNREAD: Pixels = np.empty((0, 1, 1, 3), np.uint8)
"""The images of work whose pixels cannot be had here."""
