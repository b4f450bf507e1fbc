"""The state as the page shows it, and its alarms."""

from __future__ import annotations

import msgspec
import pytest

from hams_services.web.alarms import Alarm, alarms
from hams_services.web.state_view import KEPT_S, Reading, kept, state_view
from hams_shared.wire.messages.agents import DeviceHealth, Heartbeat, NodeLoad
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.pipeline import PipelineView, StreamView
from hams_shared.wire.messages.scheduler import DeviceView, GroupView, MatrixView, SchedulerView
from support.build import device, group_spec, plan

NAME = "box.openvino.cpu0"


def view(*devices: DeviceView, groups: tuple[GroupView, ...] = ()) -> SchedulerView:
    return SchedulerView(devices=devices, groups=groups, matrix=MatrixView(models=(), devices=(), fps=()))


def group(**more: object) -> GroupView:
    return GroupView.model_validate({"name": "face", "state": "serving", "active": plan(1, {"det": NAME}), **more})


def stream(**more: object) -> StreamView:
    return StreamView.model_validate({"group": "face", "stream": "lobby", "state": "playing", "fps": 5.0, **more})


def found(
    device_: DeviceView | None = None, group_: GroupView | None = None, stream_: StreamView | None = None
) -> list[Alarm]:
    scheduler = view(*([device_] if device_ else []), groups=(group_,) if group_ else ())
    return alarms(scheduler, PipelineView(streams=(stream_,) if stream_ else ()), {}, {("face", "lobby"): 11.0})


def test_nothing_is_wrong() -> None:
    assert found(DeviceView(record=device(NAME), state="alive"), group(), stream()) == []


@pytest.mark.parametrize(
    ("alarm", "level", "title"),
    [
        (found(DeviceView(record=device(NAME), state="lost", silent_s=4)), "alarm", f"Device {NAME} is lost"),
        (found(DeviceView(record=device(NAME), state="quarantined")), "alarm", f"Device {NAME} is in quarantine"),
        (
            found(DeviceView(record=device(NAME), state="alive", health=DeviceHealth(device=NAME, hangs=(1.0, 2.0)))),
            "warning",
            f"Device {NAME} has hung 2 times",
        ),
        (
            found(None, group(state="failed", active=None, error=WireError(code="x", text="no model"))),
            "alarm",
            "Group face does not serve",
        ),
        (found(None, group(state="waiting", text="no device")), "alarm", "Group face waits for devices"),
        (
            found(None, group(error=WireError(code="x", text="bad"))),
            "warning",
            "Group face: its newest version is not served",
        ),
        (
            found(None, group(target_fps=30.0, expected_fps=12.0)),
            "warning",
            "Group face is below its target",
        ),
        (
            found(None, group(target_fps=30.0, active=plan(1, {"det": NAME}).model_copy(update={"unmet": True}))),
            "warning",
            "Group face cannot reach 30 FPS",
        ),
        (found(None, None, stream(state="failed", text="gone")), "alarm", "Stream face/lobby has ended with an error"),
        (found(None, None, stream(state="reconnecting")), "alarm", "Stream face/lobby is interrupted"),
        (found(None, None, stream(fps=0.0, in_flight=2)), "alarm", "Stream face/lobby is stalled"),
        (found(None, None, stream(failed={"model": 3})), "warning", "Stream face/lobby: 3 frames failed"),
        (alarms(None, None, {"scheduler": "gone"}), "alarm", "The scheduler does not answer"),
        (
            alarms(None, None, {"scheduler": "gone", "pipeline": "gone"}),
            "alarm",
            "Neither scheduler nor pipeline answers",
        ),
    ],
)
def test_what_is_wrong_has_one_alarm(alarm: list[Alarm], level: str, title: str) -> None:
    assert [(one.level, one.title) for one in alarm] == [(level, title)]


def test_a_stream_without_frames_or_with_slow_ones_is_not_stalled() -> None:
    assert found(None, None, stream(fps=0.0)) == []
    assert found(None, None, stream(fps=0.0, in_flight=2, p99_ms=6000.0)) == []
    assert alarms(None, PipelineView(streams=(stream(fps=0.0, in_flight=2),)), {}) == []


def stalled(*readings: tuple[float, int, int]) -> bool:
    """Whether the last reading has the alarm; of each: when, frames under way, delivered ones."""
    last = None
    for at, in_flight, delivered in readings:
        pipeline = PipelineView(streams=(stream(fps=0.0, in_flight=in_flight, delivered=delivered),))
        last = kept(last, reading_of(at, view(), pipeline, {}))
    assert last is not None
    return any("stalled" in one["title"] for one in state_view(None, last)["alarms"])


def test_a_stream_that_delivers_now_and_then_is_not_stalled() -> None:
    assert not stalled((0.0, 1, 5), (8.0, 1, 5), (9.0, 1, 6), (16.0, 1, 6))
    assert not stalled((0.0, 0, 5), (40.0, 1, 5), (41.0, 1, 5))
    assert stalled((0.0, 1, 5), (8.0, 1, 5), (10.5, 1, 5))
    assert not stalled((0.0, 1, 5))


def test_alarms_come_before_warnings() -> None:
    lost = DeviceView(record=device("box.onnxruntime.cpu1"), state="lost")
    hung = DeviceView(record=device(NAME), state="alive", health=DeviceHealth(device=NAME, hangs=(1.0,)))
    assert [a.level for a in alarms(view(hung, lost), None, {})] == ["alarm", "warning"]


def reading_of(
    at: float, scheduler: SchedulerView | None, pipeline: PipelineView | None, troubles: dict[str, str]
) -> Reading:
    return Reading(1e9 + at, at, scheduler, pipeline, troubles)


def reading(at: float, busy_s: float) -> Reading:
    load = NodeLoad(group="face", node="det", frames=int(10 * at), inferences=int(20 * at), busy_s=busy_s)
    beat = Heartbeat(device=NAME, incarnation="i1", sequence=1, nodes=(load,), busy_s=busy_s, uptime_s=at)
    one = DeviceView(record=device(NAME), state="alive", heartbeat=beat)
    spec = group_spec(streams={"lobby": {"source": "push", "zones": {"door": [[0, 0], [1, 0], [1, 1]]}}})
    active = plan(1, {"det": NAME, "age": NAME}, spec)
    scheduler = view(one, groups=(group(active=active),))
    pipeline = PipelineView(streams=(stream(),))
    return reading_of(at, scheduler, pipeline, {})


def test_the_state_is_plain_and_has_rates_and_places() -> None:
    state = msgspec.json.decode(msgspec.json.encode(state_view(reading(1.0, 0.25), reading(2.0, 0.75))))
    [one] = state["devices"]
    assert one["busy"] == pytest.approx(0.5)
    assert one["nodes"][0] | {"variant": ""} == {
        "group": "face", "node": "det", "frames_per_s": 10.0, "inferences_per_s": 20.0, "busy": 0.5, "variant": "",
    }  # fmt: skip
    assert state["groups"][0]["places"]["lobby"]["zones"]["door"][1] == [1.0, 0.0]
    assert state["streams"][0]["name"] == "lobby"


def test_without_a_reading_before_there_are_no_rates() -> None:
    state = state_view(None, reading(2.0, 0.75))
    assert state["devices"][0]["busy"] is None
    assert state["devices"][0]["nodes"] == []


SILENT = {"scheduler": "gone", "pipeline": "gone"}


def test_what_a_part_answered_before_stays_while_it_does_not_answer() -> None:
    before = reading(1.0, 0.25)
    for troubles in ({"scheduler": "gone"}, {"pipeline": "gone"}, SILENT):
        answered = reading(2.0, 0.75)
        scheduler = None if "scheduler" in troubles else answered.scheduler
        pipeline = None if "pipeline" in troubles else answered.pipeline
        state = state_view(before, kept(before, reading_of(2.0, scheduler, pipeline, troubles)))
        assert [len(state[name]) for name in ("groups", "streams", "devices")] == [1, 1, 1]
        assert state["troubles"] == troubles
        assert "answer" in state["alarms"][0]["title"]


def test_what_was_answered_long_ago_is_not_shown() -> None:
    silent = reading_of(2.0 + KEPT_S, None, None, SILENT)
    assert kept(reading(1.0, 0.25), silent) == kept(None, silent) == silent


def test_a_part_that_answers_again_is_shown_as_it_answers() -> None:
    answered = reading_of(2.0, view(), PipelineView(streams=()), {})
    assert kept(reading(1.0, 0.25), answered) == answered


def test_a_state_of_which_nothing_answered_is_a_state() -> None:
    state = state_view(None, reading_of(1.0, None, None, SILENT))
    assert state["groups"] == []
    assert state["alarms"]
    msgspec.json.encode(state)
