"""What an application gets of a frame: typed, with the raw map beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_shared import codec
from hams_shared.errors import MessageError


class Object(Mapping[str, Any]):
    """Something found in a frame. What a child node says stands under the node's name: ``face["age"]["value"]``."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    @property
    def box(self) -> NDArray[np.float64]:
        """x0, y0, x1, y1 in pixels of the frame."""
        return np.asarray(self._data["box"], np.float64)

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

    data: dict[str, Any]

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
    def nodes(self) -> dict[str, dict[str, Any]]:
        """Per node: its device, and timings in ms."""
        nodes: dict[str, dict[str, Any]] = self.data["nodes"]
        return nodes

    @classmethod
    def from_bytes(cls, data: bytes) -> Result:
        """Decode a result message, msgpack or JSON. Raises MessageError."""
        value = codec.unpack(data)
        if not isinstance(value, dict) or not isinstance(value.get("objects"), list) or "frame" not in value:
            raise MessageError("not a HAMS result")
        return cls(value)
