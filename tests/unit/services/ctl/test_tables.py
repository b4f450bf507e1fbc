"""What `hams-ctl status` shows on a console of 80 characters: no name is cut, no number is lost."""

from __future__ import annotations

from rich.console import Console, RenderableType

from hams_services.ctl.tables import devices_table, groups_table, placement, streams_table
from hams_shared.messages import DeviceView, GroupView, PipelineView, StreamView
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
    lines = shown(streams_table(PipelineView(streams=(STREAM,)), narrow=True))
    text = " ".join(" ".join(lines).split())
    assert "…" not in text
    assert lines[2].split()[:3] == ["person/corridor", "reconnecting", "2.4"]
    words = {word.strip(",") for word in text.split()}
    assert {"1591", "18576", "(newer-frame", "16982)", "flight"} <= words
    assert "failed" not in words  # nought is not worth a word there


def test_streams_in_full_width() -> None:
    lines = shown(streams_table(PipelineView(streams=(STREAM,))), 160)
    assert lines[2].split()[-6:] == ["16982", "(newer-frame", "16982)", "0", "3", "0"]


def test_groups_and_devices_in_80_columns() -> None:
    serving = GroupView(name="face", state="serving", active=plan(3, {"det": "box.openvino.cpu0", "age": "box.b.u"}))
    lines = shown(groups_table((serving,), narrow=True))
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


def test_where_nodes_are() -> None:
    shares = {"face": {"box.b.u": 0.6, "box.c.u": 0.4}, "age": {"box.c.u": 1.0}}
    assert placement(shares) == "b.u: face 60% · c.u: face 40%, age"
