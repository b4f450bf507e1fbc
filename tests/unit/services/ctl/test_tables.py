"""What `hams-ctl status` shows on narrow consoles: no name is cut, no number is lost."""

from __future__ import annotations

import pytest
from rich.console import Console, RenderableType

from hams_services.ctl.tables import (
    NARROW,
    devices_table,
    groups_table,
    placement,
    plans_table,
    predicted_otherwise,
    reasons,
    streams_table,
)
from hams_services.monitor.core import SystemSnapshot
from hams_services.monitor.screen import screen
from hams_shared.wire.messages.agents import ProfilePoint, ProfileRecord
from hams_shared.wire.messages.pipeline import PipelineView, StreamView
from hams_shared.wire.messages.scheduler import DeviceView, GroupView, MatrixView, StrategyAnswer
from support.build import device, plan

STREAM = StreamView(
    group="person", stream="corridor", state="reconnecting", submitted=18576, delivered=1591, in_flight=3,
    dropped={"newer-frame": 16982}, fps=2.4, p50_ms=1019.7, p99_ms=2526.4,
)  # fmt: skip


def shown(table: RenderableType, width: int = 80) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_streams_in_80_columns() -> None:
    lines = shown(streams_table(PipelineView(streams=(STREAM,)), compact=True))
    text = " ".join(" ".join(lines).split())
    assert "…" not in text
    assert lines[2].split()[:3] == ["person/corridor", "reconnecting", "2.4"]
    words = {word.strip(",") for word in text.split()}
    assert {"1591", "18576", "(newer-frame", "16982)", "flight"} <= words
    assert "failed" not in words  # nought is not worth a word there


def test_streams_in_full_width() -> None:
    lines = shown(streams_table(PipelineView(streams=(STREAM,))), 160)
    assert lines[2].split()[-6:] == ["16982", "(newer-frame", "16982)", "0", "3", "0"]


def test_frames_without_motion_are_shown_where_there_is_a_gate() -> None:
    gated = STREAM.model_copy(update={"gated": 512})
    heads, *rows = shown(streams_table(PipelineView(streams=(STREAM, gated))), 160)[1:]
    assert heads.split()[-7:] == ["delivered", "gated", "dropped", "failed", "in", "flight", "resent"]
    assert [row.split()[9] for row in rows if row.startswith("person/")] == ["0", "512"]
    sentence = " ".join(" ".join(shown(streams_table(PipelineView(streams=(gated,)), compact=True))).split())
    assert "512 gated" in sentence
    assert "gated" not in " ".join(shown(streams_table(PipelineView(streams=(STREAM,)))))


def test_groups_and_devices_in_80_columns() -> None:
    serving = GroupView(name="face", state="serving", active=plan(3, {"det": "box.openvino.cpu0", "age": "box.b.u"}))
    lines = shown(groups_table((serving,), compact=True))
    assert lines[1].split() == ["group", "state", "epoch", "strategy", "expected", "now"]
    assert lines[2].split()[:2] == ["face", "serving"]
    assert "placement" in shown(groups_table((serving,)), 160)[1]
    record = device("longhost.onnxruntime.cpu1").model_copy(
        update={"runtime": "onnxruntime 1.31.1", "name": "AMD EPYC"}
    )
    assert "longhost.onnxruntime.cpu1" in " ".join(shown(devices_table((DeviceView(record=record, state="alive"),))))


def test_a_failed_group_has_its_reason_below_the_table_only() -> None:
    failed = GroupView(name="face", state="failed", text="node face/det runs on no device")
    assert not any("runs on no device" in line for line in shown(groups_table((failed,)), 160))


@pytest.mark.parametrize(
    ("fps", "bottleneck", "told"),
    [(10.0, "box.b.u", False), (10.4, "box.b.u", False), (5.0, "box.b.u", True), (10.0, "host box's cores", True)],
)
def test_a_prediction_is_told_where_it_differs_from_the_plan(fps: float, bottleneck: str, told: bool) -> None:
    serving = GroupView(
        name="face", state="serving", active=plan(3, {"det": "box.b.u"}), predicted_fps=fps, bottleneck=bottleneck
    )
    assert predicted_otherwise(serving) == told
    assert not predicted_otherwise(serving.model_copy(update={"active": None}))


def test_where_nodes_are() -> None:
    shares = {"face": {"box.b.u": 0.6, "box.c.u": 0.4}, "age": {"box.c.u": 1.0}}
    assert placement(shares) == "b.u: face 60% · c.u: face 40%, age"


NAMES = ("longhost.onnxruntime.cpu1-2-3", "longhost.openvino.gpu0")


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_word_is_cut_on_any_console(width: int) -> None:
    records = [
        device(name).model_copy(update={"runtime": "onnxruntime 1.31.1", "name": "AMD EPYC 7763 64-Core Processor"})
        for name in NAMES
    ]
    views = tuple(DeviceView(record=record, state="quarantined") for record in records)
    streams = PipelineView(streams=(STREAM,))
    answer = StrategyAnswer(
        strategy="round-robin", fps=13.05, bound_fps=13.5, gap=0.03, bottleneck=NAMES[0],
        shares={"landmarks": {NAMES[0]: 0.6, NAMES[1]: 0.4}, "emotion": {NAMES[1]: 1.0}},
    )  # fmt: skip
    look = SystemSnapshot(views, streams.streams, (), ())
    for table, words in (
        (devices_table(views), {*NAMES, "quarantined", "Processor", "1.31.1"}),
        (streams_table(streams, compact=width < NARROW), {"person/corridor", "reconnecting", "16982", "(newer-frame"}),
        (plans_table((answer,)), {"round-robin", "onnxruntime.cpu1-2-3", "landmarks", "emotion", "60%"}),
        (screen(look, look), {*NAMES, "person/corridor", "reconnecting", "quarantined"}),
    ):
        lines = shown(table, width)
        assert "…" not in "".join(lines)
        assert max(map(len, lines)) <= width
        assert words <= {part for line in lines for word in line.split() for part in (word, word.rstrip(",:"))}


@pytest.mark.parametrize(("lanes", "lines"), [(1, 1), (4, 0)])
def test_the_matrix_names_networks_that_use_fewer_lanes(lanes: int, lines: int) -> None:
    curve = (ProfilePoint(lanes=4, fps=31.0, ms=129.0), ProfilePoint(lanes=1, fps=40.0, ms=25.0))
    cell = ProfileRecord(
        digest="0" * 64, model_name="vgg", input_shape=(1, 3, 8, 8), fingerprint="f", runtime="r", precision="fp32",
        fps=40.0, lanes=lanes, curve=curve,
    )  # fmt: skip
    matrix = MatrixView(models=("vgg",), devices=("box.ov.cpu",), fps=((40.0,),), cells={"vgg": {"box.ov.cpu": cell}})
    expected = "  vgg @ box.ov.cpu: at most 1 at a time, which is faster: 31.0 frames/s with all 4 lanes"
    assert reasons(matrix) == [expected] * lines
