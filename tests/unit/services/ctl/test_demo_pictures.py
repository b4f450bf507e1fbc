"""Which frames `hams-ctl demo` shows: those in which most was found, spread over the clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hams_services.ctl.actions.demo import findings_in, once_losslessly, worth_showing
from hams_shared.errors import GroupSpecError
from hams_shared.group.spec import GroupSpec


@pytest.mark.parametrize(
    ("objects", "much"),
    [
        ([], 0),
        ([{"label": "car", "score": 0.9, "box": [0, 0, 1, 1]}], 1),
        ([{"label": "face", "age": {"value": 31.0}, "gender": {"label": "male"}}], 3),
        ([{"label": "car", "plate": {"objects": []}}], 1),
        ([{"label": "car", "plate": {"objects": [{"label": "plate", "text": {"text": "B7"}}]}}], 3),
        ([{"label": "car", "plate": {"objects": [{"label": "plate", "text": {"text": ""}}]}}], 2),
    ],
)
def test_what_a_result_tells(objects: list[dict[str, Any]], much: int) -> None:
    assert findings_in(objects) == much


def test_no_empty_frame_is_shown_while_others_tell_something() -> None:
    """65 people in 250 frames, and all six pictures used to be empty."""
    clip = {frame: int(30 <= frame < 43 or 193 <= frame < 204) for frame in range(250)}
    shown = worth_showing(clip, 6)
    assert len(shown) == 6
    assert all(clip[frame] for frame in shown)
    assert any(frame < 100 for frame in shown)
    assert any(frame > 100 for frame in shown)


def test_the_richest_frames_of_all_parts_of_the_clip() -> None:
    clip = {frame: 1 + (frame % 20 == 7) * 3 for frame in range(120)}
    assert worth_showing(clip, 6) == [7, 27, 47, 67, 87, 107]


def test_neighbours_are_shown_only_for_want_of_others() -> None:
    clip = {frame: 5 if 100 <= frame < 110 else 1 if frame in (20, 180) else 0 for frame in range(200)}
    shown = worth_showing(clip, 4)
    assert {20, 180} <= set(shown)
    assert len(shown) == 4


@pytest.mark.parametrize("findings", [{}, {0: 0}, {3: 2}, dict.fromkeys(range(4), 0), {0: 1, 1: 0, 2: 0}])
def test_short_clips(findings: dict[int, int]) -> None:
    assert worth_showing(findings, 6) == sorted(findings)


def group(**stream: Any) -> GroupSpec:
    node = {"model": "a.onnx", "input": {"size": [8, 8]}, "task": {"type": "regression"}}
    return GroupSpec.model_validate({"name": "g", "nodes": {"n": node}, "streams": {"s": stream, "t": stream}})


def test_the_first_stream_or_another_source_is_played_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = group(source="/a/clip.mp4", mode="live", loop=True)
    played = once_losslessly(spec, "hfs").streams
    assert {n: (s.source, s.mode, s.pace, s.loop) for n, s in played.items()} == {
        "s": ("/a/clip.mp4", "lossless", "max", False)
    }
    assert once_losslessly(spec, "hfs", "mine.mp4").streams["s"].source == str(tmp_path / "mine.mp4")
    wheel = "pypi:some==1.0/clip.mp4"
    assert once_losslessly(spec, "hfs", wheel).streams["s"].source == wheel
    camera = group(source="rtsp://cam/large", substream="rtsp://cam/small", transport="udp")
    [replaced] = once_losslessly(camera, "hfs", "mine.mp4").streams.values()
    assert replaced == type(replaced).model_validate(replaced.model_dump())
    assert replaced.addresses == (str(tmp_path / "mine.mp4"),)


def test_what_has_no_end_is_not_played() -> None:
    with pytest.raises(GroupSpecError, match=r"rtsp://cam/live has none"):
        once_losslessly(group(source="rtsp://user:hunter2@cam/live"), "hfs")
