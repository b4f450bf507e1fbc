"""What an application gets of a frame: typed, with the raw map beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict, cast, overload

import numpy as np
from numpy.typing import NDArray

from hams_shared.errors import MessageError
from hams_shared.wire import codec
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
    """Where a head looks, degrees."""

    yaw: float
    pitch: float
    roll: float


class Label(TypedDict):
    """One of several labels, and how sure the network is, 0-1."""

    label: str
    score: float


class Said(TypedDict, total=False):
    """What a child node says of an object; which keys there are depends on its task, as docs/messages.md lists."""

    label: str
    """Classification."""
    score: float
    """0-1: of a classification, of landmarks, of a text."""
    value: float
    """Regression, expectation."""
    unit: str
    points: list[list[float]]
    """Landmarks: x, y in pixels of the frame."""
    pose: Pose
    open: float
    """Of an eye: how far, height over width."""
    text: str
    attributes: dict[str, float | Label]
    embedding: list[float]
    identity: int | None
    """Who it is like; None: like nobody known."""
    similarity: float
    objects: list[ResultObject]
    """A detector, or a task that tells parts; see :meth:`Object.found_by`."""


class Object(Mapping[str, Any]):
    """Something found in a frame. What a child node says stands under the node's name: ``face["age"]["value"]``."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    @property
    def data(self) -> Mapping[str, Any]:
        """The raw map: for tasks of your own, whose keys :class:`Said` does not know."""
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
        """The detector's key points, K×2 (x, y), pixels of the frame; None when it tells none."""
        points = self._data.get("points")
        return None if points is None else np.asarray(points, np.float64).reshape(-1, 2)

    def found_by(self, node: str) -> list[Object]:
        """What the child detector `node` found in it; empty when it found nothing."""
        said = self._data.get(node)
        inner = said.get("objects", []) if isinstance(said, Mapping) else []
        return [Object(one) for one in inner]

    def array(self, node: str, key: str) -> NDArray[np.float64]:
        """A list of numbers that `node` told, e.g. ``("landmarks", "points")`` as K×2 or ``("who", "embedding")``.

        Raises:
            KeyError: it told no such thing of this object.
        """
        return np.asarray(self._data[node][key], np.float64)

    def said(self, node: str) -> Said | None:
        """What the child `node` said of it; None: it was not asked, or is no child of this detector."""
        said: Said | None = self._data.get(node)
        return said

    @overload
    def __getitem__(self, key: Literal["box"]) -> list[float]: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: Literal["score"]) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: Literal["label"]) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: Literal["points"]) -> list[list[float]]: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: str) -> Said: ...
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
        """When the frame was read, Unix time in s."""
        return float(self.data["captured"])

    @property
    def time(self) -> float | None:
        """Seconds since the stream's first frame, by a file's own clock, else by capture; None of a single image."""
        time = self.data.get("time")
        return None if time is None else float(time)

    @property
    def latency_ms(self) -> float:
        """From capture to join, ms."""
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
    def nodes(self) -> dict[str, NodeReport]:
        """Per node: its device, and timings in ms."""
        return self.data["nodes"]

    @classmethod
    def from_bytes(cls, data: bytes) -> Result:
        """Decode a result message, msgpack or JSON. Raises MessageError."""
        value = codec.unpack(data)
        if not isinstance(value, dict) or not isinstance(value.get("objects"), list) or "frame" not in value:
            raise MessageError("not a HAMS result")
        return cls(cast(FrameResult, value))
