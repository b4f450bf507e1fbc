"""Which frames `hams-ctl demo` shows: those in which most was found, spread over the clip."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hams_client import Result
from hams_services.ctl.actions.demo import findings_in, judge, once_losslessly, own_home, worth_showing
from hams_shared.errors import GroupSpecError, RefusedError
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.pipeline import StreamView


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


def test_it_keeps_the_strategy_of_the_file() -> None:
    spec = group(source="/a/clip.mp4").model_copy(update={"strategy": "replicated"})
    assert once_losslessly(spec).strategy == "replicated"
    assert once_losslessly(spec, "mfs").strategy == "mfs"


def test_gated_frames_are_accounted_for() -> None:
    stream = StreamView(group="g", stream="s", state="ended", submitted=3, delivered=2, gated=1)
    box = {"box": [0, 0, 1, 1], "score": 0.9}
    results = [Result({"frame": frame, "objects": [box]}) for frame in (0, 2)]
    judge(stream, results)
    with pytest.raises(RefusedError, match="not every frame"):
        judge(stream.model_copy(update={"gated": 0}), results)


def test_the_logs_of_a_demo_that_fails_are_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAMS_HOME", "/nowhere")
    monkeypatch.setenv("HAMS_CREDENTIALS", "admin.creds")
    with own_home() as home:
        assert home.is_dir()
        assert os.environ["HAMS_HOME"] == str(home)
        assert "HAMS_CREDENTIALS" not in os.environ  # its broker takes none
    assert not home.exists()
    with pytest.raises(RefusedError), own_home() as home:
        for folder in ("logs", "broker/jetstream"):
            (home / folder).mkdir(parents=True)
        raise RefusedError("an agent does not start")
    assert str(home / "logs") in capsys.readouterr().err
    assert (home / "logs").is_dir()
    assert not (home / "broker" / "jetstream").exists()
    shutil.rmtree(home)


def test_what_has_no_end_is_not_played() -> None:
    with pytest.raises(GroupSpecError, match=r"rtsp://cam/live has none"):
        once_losslessly(group(source="rtsp://user:hunter2@cam/live"), "hfs")
