"""Kinds of sources, and pairing of results with pictures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_client import Result
from hams_client.pairs import Pairs
from hams_shared.errors import GroupSpecError
from hams_shared.group.source_kind import source_kind
from hams_shared.group.spec import parse_group


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("clip.mp4", "file"),
        ("pypi:a==1/b.mp4", "file"),
        ("/data/x:y.mp4", "file"),
        ("RTSP://cam/1", "rtsp"),
        ("https://cam/video", "mjpeg"),
        ("camera:0", "camera"),
        ("push", "push"),
        ("push.mp4", "file"),
    ],
)
def test_what_a_source_is(source: str, kind: str) -> None:
    assert source_kind(source) == kind


@pytest.mark.parametrize("more", [{"loop": True}, {"fps": 5}, {"mode": "lossless", "pace": "max"}])
def test_what_is_for_files_only_is_refused_for_others(more: dict[str, Any]) -> None:
    node = {"model": "/m.onnx", "input": {"size": [8, 8]}, "task": {"type": "raw"}}
    group = {"name": "g", "nodes": {"n": node}, "streams": {"s": {"source": "rtsp://cam/1", **more}}}
    with pytest.raises(GroupSpecError, match="frames as they are made"):
        parse_group(group)


def result(stream: str, frame: int) -> Result:
    return Result({"stream": stream, "frame": frame, "objects": []})


@given(st.permutations([(kind, n) for kind in "rp" for n in range(6)]))
def test_every_frame_is_paired_once_in_whatever_order_its_parts_come(order: list[tuple[str, int]]) -> None:
    pairs = Pairs(16)
    found = []
    for kind, n in order:
        pair = pairs.result(result("s", n)) if kind == "r" else pairs.picture("s", n, b"%d" % n)
        if pair is not None:
            found.append((pair[0].frame, pair[1]))
    assert sorted(found) == [(n, b"%d" % n) for n in range(6)]


def test_what_finds_no_partner_is_forgotten() -> None:
    pairs = Pairs(2)
    for n in range(5):
        assert pairs.result(result("s", n)) is None
        assert pairs.picture("t", n, b"") is None
    assert pairs.picture("s", 2, b"") is None
    assert pairs.picture("s", 4, b"x") is not None
