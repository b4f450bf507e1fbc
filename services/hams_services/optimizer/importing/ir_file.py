"""An OpenVINO IR's XML, checked before OpenVINO reads it: no entities, sane shapes, weights within the ``.bin``."""

from __future__ import annotations

from pathlib import Path
from xml.parsers import expat

from hams_services.optimizer.importing.shapes import check_dims
from hams_shared.errors import ModelError

MAX_XML = 256 << 20
MAX_DEPTH = 128


def check_ir(path: Path) -> Path:
    """Return the weights file beside `path`.

    Raises:
        ModelError: no network, its weights are missing, or it says what cannot be.
    """
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ModelError(f"{path.name} needs its weights {weights.name} beside it")
    if path.stat().st_size > MAX_XML:
        raise ModelError(f"{path.name} has more than {MAX_XML} bytes of XML")
    reader = _Reader(weights.stat().st_size)
    try:
        reader.parse(path.read_bytes())
    except expat.ExpatError as error:
        raise ModelError(f"{path.name} is damaged: {error}", "fetch or export it again") from None
    if not reader.layers:
        raise ModelError(f"{path.name} is an OpenVINO file without a layer")
    return weights


class _Reader:
    def __init__(self, weights: int) -> None:
        self.layers = 0
        self._weights = weights
        self._depth = 0
        self._name = "?"
        self._dims: list[int] = []
        self._text: list[str] | None = None
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def parse(self, data: bytes) -> None:
        self._parser.Parse(data, True)

    def _doctype(self, *_: object) -> None:
        raise ModelError("a document type in an OpenVINO file: entities are not read")

    def _start(self, tag: str, said: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ModelError(f"elements are nested more than {MAX_DEPTH} deep")
        if tag == "layer":
            self.layers += 1
            self._name = said.get("name", "?")[:80]
        elif tag == "port":
            self._dims = []
        elif tag == "dim":
            self._text = []
        elif tag == "data":
            if "shape" in said:
                check_dims(f"layer {self._name!r}", [_whole(self._name, part) for part in _sizes(said["shape"])])
            if "offset" in said and "size" in said:
                self._check_weights(said["offset"], said["size"])

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "dim" and self._text is not None:
            self._dims.append(_whole(self._name, "".join(self._text)))
            self._text = None
        elif tag == "port":
            check_dims(f"layer {self._name!r}", self._dims)

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def _check_weights(self, offset: str, size: str) -> None:
        start, length = _whole(self._name, offset), _whole(self._name, size)
        if start < 0 or length < 0 or start + length > self._weights:
            raise ModelError(
                f"layer {self._name!r} wants bytes {start} to {start + length} of weights that have {self._weights}",
                "is the .bin the one that belongs to the .xml?",
            )


def _sizes(shape: str) -> list[str]:
    """Split ``1,3,?,10..20``; bounds count by their upper end."""
    parts = [part.strip().rpartition("..")[2] for part in shape.split(",")]
    return [part for part in parts if part and part != "?"]


def _whole(layer: str, text: str) -> int:
    try:
        if len(text) > 20:
            raise ValueError
        return int(text)
    except ValueError:
        raise ModelError(f"layer {layer!r} has {text[:40]!r} where a number belongs") from None
