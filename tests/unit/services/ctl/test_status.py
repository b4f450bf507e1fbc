"""What `hams-ctl status` shows of a missing pipeline: that it is missing, and not that there are no streams."""

from __future__ import annotations

from hams_services.ctl.actions.show import print_status, status_json
from hams_services.ctl.console import out
from hams_shared.errors import HamsError, NotFoundError
from hams_shared.wire.messages.pipeline import PipelineView, StreamView
from hams_shared.wire.messages.scheduler import DeviceView, LeaderRecord, MatrixView, SchedulerView
from hams_shared.wire.protocol import SPOKEN
from support.build import device

AWAY = NotFoundError("no pipeline is running", "start it")
VIEW = SchedulerView(
    devices=(DeviceView(record=device("box.openvino.cpu0").model_copy(update={"version": "9"}), state="alive"),),
    groups=(),
    matrix=MatrixView(models=(), devices=(), fps=()),
    version="9",
    protocol=SPOKEN,
    leader=LeaderRecord(holder="s", term=1),
)


def printed(pipeline: PipelineView | HamsError) -> str:
    with out.capture() as capture:
        print_status(VIEW, pipeline)
    return capture.get()


def test_a_missing_pipeline_is_named_and_has_no_version() -> None:
    text = printed(AWAY)
    assert "streams are not known: no pipeline is running (start it)" in text
    assert "several versions" not in text
    assert "earlier one" not in text
    assert "box.openvino.cpu0" in text
    said = status_json(VIEW, AWAY)
    assert (said["streams"], said["candidates"]) == ([], [])
    assert said["troubles"] == ["no pipeline is running (start it)"]


def test_a_pipeline_of_another_version_is_named() -> None:
    stream = StreamView(group="face", stream="cam", state="playing")
    view = PipelineView(streams=(stream,), version="8", protocol=SPOKEN)
    text = printed(view)
    assert "face/cam" in text
    assert "of several versions: scheduler 9, pipeline 8, box.openvino.cpu0 9" in text
    assert status_json(VIEW, view)["troubles"] == []
