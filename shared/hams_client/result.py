"""The result of a frame as applications get it: typed, with access to the raw map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict, cast, overload

import numpy as np
from numpy.typing import NDArray

from hams_shared.errors import MessageError
from hams_shared.wire import codec, maps, masks
from hams_shared.wire.results import FrameResult, NodeReport, ResultObject


class Box(NamedTuple):
    """A rectangle in pixels of the frame; x to the right, y down. As JSON it is a list."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """x1 - x0."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """y1 - y0."""
        return self.y1 - self.y0


class Pose(TypedDict):
    """Direction of a head, degrees."""

    yaw: float
    pitch: float
    roll: float


class Label(TypedDict):
    """One of several labels, and how sure the network is, 0-1."""

    label: str
    score: float


class Map(TypedDict, total=False):
    """Something for each pixel; read it with :meth:`Object.map`."""

    size: list[int]
    """Height, width."""
    png: bytes
    """Grey, 8 or 16 bits; base64 where the group file has ``results: json``."""
    to_frame: list[list[float]]
    """2×3: pixels of the map → pixels of the frame."""
    labels: dict[str, str]
    """Of classes: the number of each that is seen, but the background, and its label."""
    kind: str
    """Of depths: ``inverse`` or ``metric``."""
    scale: float
    """Of depths: a value is ``pixel * scale + offset``."""
    offset: float


class Prediction(TypedDict, total=False):
    """A child node's prediction for an object; its keys depend on the node's task, as docs/messages.md lists."""

    label: str
    """Classification."""
    score: float
    """0-1: of a classification, of landmarks, of a text."""
    value: float
    """Regression, expectation."""
    unit: str
    points: list[list[float]]
    """Landmarks: x, y in pixels of the frame."""
    visibility: list[float]
    """For each point, 0-1: how sure it can be seen."""
    pose: Pose
    open: float
    """Of an eye: how far, height over width."""
    text: str
    attributes: dict[str, float | Label]
    embedding: list[float]
    identity: int | None
    """The known object that it resembles; None: it resembles none."""
    similarity: float
    objects: list[ResultObject]
    """Of a detector, or a task with parts; see :meth:`Object.found_by`."""
    from_frame: int
    """It was carried on: the frame that it is of. Coordinates in it are of that frame, too."""
    name: str
    """Of the known object, where it was given one."""
    shares: dict[str, float]
    """Segmentation: label → the part of the image that it covers, the largest first."""
    scores: dict[str, float]
    """Labels given as texts: the best ones."""
    min: float
    """Depth, as max, mean and quantiles."""
    max: float
    mean: float
    quantiles: dict[str, float]
    kind: str
    map: Map
    """Segmentation and depth, with ``png: true``."""


class Object(Mapping[str, Any]):
    """Something found in a frame. A child node's prediction is under the node's name: ``face["age"]["value"]``."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    @property
    def data(self) -> Mapping[str, Any]:
        """The raw map: for tasks of your own, whose keys :class:`Prediction` does not declare."""
        return self._data

    @property
    def box(self) -> Box:
        """x0, y0, x1, y1 in pixels of the frame."""
        return Box(*map(float, self._data["box"]))

    @property
    def score(self) -> float:
        """How sure the detector is, 0–1."""
        return float(self._data["score"])

    @property
    def label(self) -> str:
        """What it is."""
        return str(self._data["label"])

    @property
    def points(self) -> NDArray[np.float64] | None:
        """The detector's key points, K×2 (x, y), pixels of the frame; None when it has none."""
        points = self._data.get("points")
        return None if points is None else np.asarray(points, np.float64).reshape(-1, 2)

    @property
    def visibility(self) -> NDArray[np.float64] | None:
        """For each of `points`, 0–1: how sure the detector is that it can be seen; None: it does not give that."""
        sure = self._data.get("visibility")
        return None if sure is None else np.asarray(sure, np.float64)

    @property
    def angle(self) -> float | None:
        """Of a turned box, whose corners are `points`: of its upper side, clockwise, degrees; None: it is upright."""
        return self._data.get("angle")

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """H×W: which pixels of its box, from pixel `mask_offset` of the frame, are the object; None: it has no mask.

        Raises:
            MessageError: it cannot be read.
        """
        mask = self._data.get("mask")
        return None if mask is None else masks.decode(mask)

    @property
    def mask_offset(self) -> tuple[int, int]:
        """x, y of the frame's pixel at the top left of `mask`; 0, 0 without one."""
        x, y = (self._data.get("mask") or {}).get("offset", (0, 0))
        return int(x), int(y)

    def mask_in(self, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """`mask` in a whole frame of `size` (width, height): height×width. Raises as `mask`."""
        mask = self._data.get("mask")
        return None if mask is None else masks.in_frame(mask, size)

    @property
    def track(self) -> int | None:
        """The object over frames, unique in the stream's :attr:`Result.run`; None: its group has no tracks."""
        return self._data.get("track")

    @property
    def age_s(self) -> float:
        """Since the track's first detection, s; 0 without tracks."""
        return float(self._data.get("age_s", 0.0))

    @property
    def velocity(self) -> tuple[float, float]:
        """To the right and down, pixels/s; 0 without tracks."""
        right, down = self._data.get("velocity", (0.0, 0.0))
        return float(right), float(down)

    @property
    def predicted(self) -> bool:
        """Whether the detector did not find it in this frame: then the box is where it is expected."""
        return bool(self._data.get("predicted", False))

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones of its stream in which its foot point is."""
        return tuple(self._data.get("zones", ()))

    def skipped(self, node: str) -> str | None:
        """Why the child `node` did not run on it, as ``when``; None: it did, or was not due."""
        reason: str | None = self._data.get("skipped", {}).get(node)
        return reason

    def found_by(self, node: str) -> list[Object]:
        """What the child detector `node` found in it; empty when it found nothing."""
        prediction = self._data.get(node)
        inner = prediction.get("objects", []) if isinstance(prediction, Mapping) else []
        return [Object(one) for one in inner]

    def array(self, node: str, key: str) -> NDArray[np.float64]:
        """A list of numbers that `node` predicted, e.g. ``("landmarks", "points")`` as K×2 or ``("who", "embedding")``.

        Raises:
            KeyError: it predicted no such thing for this object.
        """
        return np.asarray(self._data[node][key], np.float64)

    def map(self, node: str) -> NDArray[Any]:
        """What a node with ``png: true`` gave for each pixel, H×W: numbers of classes, or float32 depths.

        ``["map"]["to_frame"]`` of its prediction maps its pixels to those of the frame.

        Raises:
            KeyError: it gave no map for this object.
            MessageError: the map cannot be read.
        """
        return maps.values(self._data[node]["map"])

    def prediction(self, node: str) -> Prediction | None:
        """The prediction of the child `node`; None: the node did not run on it, or is no child of this detector."""
        found: Prediction | None = self._data.get(node)
        return found

    @overload
    def __getitem__(self, key: Literal["box"]) -> list[float]: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: Literal["score"]) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: Literal["label"]) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: Literal["points"]) -> list[list[float]]: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: str) -> Prediction: ...
    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"Object({dict(self._data)!r})"


@dataclass(frozen=True)
class Result:
    """The joined result of one frame. The raw map, as docs/messages.md describes it, is in `data`."""

    data: FrameResult
    sequence: int = 0
    """Of a stored result: its place among those of the site; `after` takes it."""

    @property
    def group(self) -> str:
        """The group it comes from."""
        return str(self.data["group"])

    @property
    def stream(self) -> str:
        """The stream it comes from."""
        return str(self.data["stream"])

    @property
    def frame(self) -> int:
        """The frame's number in its stream, from 0."""
        return int(self.data["frame"])

    @property
    def captured(self) -> float:
        """When the camera took the frame, by its own clock where that is credible, else when the pipeline read it.

        Unix time, s.
        """
        return float(self.data["captured"])

    @property
    def media_time_s(self) -> float | None:
        """Presentation time, s since the stream's first frame, by the media's own clock, else by capture.

        It goes on where a file starts over or a camera reconnects. None of a single image (`infer`).
        """
        time = self.data.get("media_time_s")
        return None if time is None else float(time)

    @property
    def latency_ms(self) -> float:
        """From reading the frame to the join, ms."""
        return float(self.data["latency_ms"])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frame, pixels."""
        return int(self.data["width"]), int(self.data["height"])

    @property
    def objects(self) -> list[Object]:
        """What the first node found."""
        return [Object(one) for one in self.data["objects"]]

    @property
    def run(self) -> str | None:
        """Of the stream, where it has tracks: their ids begin again with another one."""
        return self.data.get("run")

    @property
    def traceparent(self) -> str | None:
        """W3C trace context of the frame, where its trace is exported: spans of the application become its children."""
        return self.data.get("traceparent")

    @property
    def nodes(self) -> dict[str, NodeReport]:
        """Per node that ran on it: its device, and timings in ms."""
        return self.data["nodes"]

    @classmethod
    def from_bytes(cls, data: bytes) -> Result:
        """Decode a result message, msgpack or JSON. Raises MessageError."""
        value = codec.unpack(data)
        if not isinstance(value, dict) or not isinstance(value.get("objects"), list) or "frame" not in value:
            raise MessageError("not a HAMS result")
        return cls(cast(FrameResult, value))
