"""The chart of `hams-ctl trace`: whole at each width, with and without colours."""

from __future__ import annotations

from typing import Any

import pytest

from hams_services.ctl.gantt import ASCII, BLOCKS, Glyphs, chart, legend
from hams_shared.wire.messages.trace import FrameTrace, TraceSpan

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def span(name: str, parent: int | None, start: float, end: float, **more: Any) -> TraceSpan:
    return TraceSpan(name=name, parent=parent, start_ms=start, end_ms=end, **more)


def trace(*spans: TraceSpan, **more: Any) -> FrameTrace:
    about = {"outcome": "delivered", "objects": 1, "attempts": 1, **more}
    return FrameTrace(
        group="face",
        stream="cam",
        frame=7,
        captured=0,
        began=0,
        traceparent=CONTEXT,
        sampled=False,
        spans=spans,
        **about,
    )


TWO = trace(
    span("frame", None, 0, 40),
    span("read", 0, 0, 4),
    span("det", 0, 6, 20, follows=1, node="det", device="box.openvino.cpu0", images=1),
    span("queue", 2, 6, 10, node="det", device="box.openvino.cpu0"),
    span("infer", 2, 10, 20, node="det", device="box.openvino.cpu0"),
    span("decode", 2, 20, 20.01, node="det", device="box.openvino.cpu0"),
    span("age", 0, 22, 36, follows=2, node="age", device="box.onnxruntime.cpu1", images=3),
    span("infer", 6, 22, 36, node="age", device="box.onnxruntime.cpu1"),
    span("sex", 0, 22, 23, follows=2, node="sex", device="box.onnxruntime.cpu1", images=0),
    span("queue", 8, 22, 23, node="sex", device="box.onnxruntime.cpu1"),
    span("join", 0, 37, 39, follows=6),
    span("publish", 0, 39, 40, follows=10),
)

AT_80 = """\
face/cam #7  delivered after 40.0 ms, 1 object
                             0                    20                  40      ms
* read                       ████                                           4.00
* det      openvino.cpu0           ────────────────                        14.00
*   queue                          ░░░░░                                    4.00
*   infer                              ████████████                        10.00
* age ×3   onnxruntime.cpu1                         ────────────────       14.00
*   infer                                           ████████████████       14.00
  sex ×0   onnxruntime.cpu1                         ▒▒                      1.00
* join                                                              ███     2.00
* publish                                                             ██    1.00
* read 4.0 + det 14.0 + age 14.0 + join 2.0 + publish 1.0 = 35.0 ms
  5.0 ms between them: messages on their way, threads that wait for a core"""


def text(found: FrameTrace, width: int, glyphs: Glyphs = BLOCKS) -> list[str]:
    return [line.plain.rstrip() for line in chart(found, width, glyphs)]


def test_the_chart_at_80_columns() -> None:
    assert "\n".join(text(TWO, 80)) == AT_80


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 160])
@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII], ids=["blocks", "ascii"])
def test_no_row_is_wider_than_the_terminal(width: int, glyphs: Glyphs) -> None:
    lines = text(TWO, width, glyphs)
    rows = lines[1:-2]
    assert len(rows) == 10
    least = 2 + len("publish") + 2 + 16 + 8  # where a terminal is narrower than any chart
    assert max(map(len, rows)) <= max(width, least)
    if glyphs is ASCII:
        assert all(line.isascii() for line in [*lines, legend(glyphs).plain])


def test_bars_lie_where_their_time_is() -> None:
    rows = {line[2:9].strip(): line for line in text(TWO, 120)[2:11]}
    begin = rows["read"].index("█")
    width = rows["publish"].rindex("█") + 1 - begin
    for name, sign, start, end in (("det", "─", 6, 20), ("age ×3", "─", 22, 36), ("join", "█", 37, 39)):
        assert (rows[name].index(sign) - begin) / width == pytest.approx(start / 40, abs=1.5 / width)
        assert (rows[name].rindex(sign) + 1 - begin) / width == pytest.approx(end / 40, abs=1.5 / width)


def test_what_did_not_go_well_is_said() -> None:
    lost = trace(
        span("frame", None, 0, 500, error="device-lost"),
        span("det", 0, 0, 500, node="det", device="box.openvino.cpu0", error="no answer"),
        outcome="dropped",
        reason="device-lost",
        detail="it ended",
        attempts=2,
    )
    shown = text(lost, 80)
    assert shown[0] == "face/cam #7  dropped after 500.0 ms: device-lost, 2 attempts"
    assert shown[1].strip() == "it ended"
    assert "    ! no answer" in shown


def test_a_gated_frame_and_a_predicted_one_and_an_empty_one() -> None:
    gated = trace(span("frame", None, 0, 0.5), span("gate", 0, 0, 0.5), outcome="gated", reason="nothing moved")
    assert text(gated, 80)[0] == "face/cam #7  gated after 0.5 ms: nothing moved"
    waits = (span("frame", None, 0, 5), span("wait", 0, 0, 4), span("join", 0, 4, 4.5, follows=1))
    assert text(trace(*waits, predicted=True), 80)[0].endswith("1 object, predicted")
    assert text(trace(*waits, objects=0), 80)[0].endswith("nothing found")
    assert text(trace(span("frame", None, 0, 0)), 80) == ["face/cam #7  delivered after 0.0 ms, 1 object"]


def test_devices_of_several_boxes_keep_their_hosts() -> None:
    far = TWO.model_copy(update={"spans": (*TWO.spans[:6], TWO.spans[6].model_copy(update={"device": "far.x.gpu"}))})
    shown = "\n".join(text(far, 120))
    assert "box.openvino.cpu0" in shown
    assert "far.x.gpu" in shown
