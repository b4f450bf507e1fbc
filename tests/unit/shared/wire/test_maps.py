"""Maps in results, as applications read them."""

from __future__ import annotations

import json
import struct
import zlib

import cv2
import numpy as np
import pytest

from hams_client.result import Object
from hams_shared.errors import MessageError
from hams_shared.wire import codec, maps

PIXELS = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
PNG = bytes(cv2.imencode(".png", PIXELS)[1].tobytes())


@pytest.mark.parametrize("as_json", [False, True])
def test_depths_come_back_from_msgpack_and_from_json(as_json: bool) -> None:
    one = {"far": {"map": {"size": [3, 4], "png": PNG, "scale": 0.5, "offset": 10.0}}}
    read = json.loads(codec.pack_json(one)) if as_json else codec.unpack(codec.pack(one))
    depths = Object(read).map("far")
    assert depths.dtype == np.float32
    assert (depths == PIXELS * 0.5 + 10).all()


def test_classes_are_numbers() -> None:
    assert (maps.values({"png": PNG}) == PIXELS).all()


def bomb(side: int) -> bytes:
    """A few bytes that unpack to a grey PNG of zeros."""
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert maps.pixels({"png": bomb(16)}).shape == (16, 16)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was unpacked"))
    for data in (bomb(30_000), cv2.imencode(".jpg", np.zeros((9, 9), np.uint8))[1].tobytes()):
        with pytest.raises(MessageError, match="a map is not a grey PNG"):
            maps.pixels({"png": data})


@pytest.mark.parametrize("wrong", [{"scale": "x"}, {"scale": None}, {"scale": 1.0, "offset": []}])
def test_numbers_that_are_none_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(MessageError, match="no numbers"):
        maps.values({"png": PNG, **wrong})


@pytest.mark.parametrize("png", [b"", b"PNG", "§", 3, bytes(cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1])])
def test_what_is_no_map_is_an_error(png: object) -> None:
    with pytest.raises(MessageError, match="a map"):
        maps.pixels({"png": png})
