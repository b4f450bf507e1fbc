"""Kinds of sources, by their text."""

from __future__ import annotations

from typing import Any

import pytest

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
        ("https://cam/video", "http"),
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
