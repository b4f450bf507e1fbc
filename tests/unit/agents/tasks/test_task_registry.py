from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any, ClassVar

import pytest

from hams_agents.tasks import registry
from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams
from hams_agents.tasks.registry import build_task, is_detection, with_lower_threshold
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec

INPUT = InputSpec(size=(64, 64))


def build(**spec: Any) -> Any:
    return build_task(TaskSpec.model_validate(spec), INPUT)


def test_kinds() -> None:
    assert is_detection(build(type="centerface"))
    assert not is_detection(build(type="raw"))


@pytest.mark.parametrize(
    ("spec", "lower", "was"),
    [
        ({"type": "centerface"}, 0.45, 0.5),
        ({"type": "yolo", "labels": ["car"], "threshold": 0.06}, 0.03, 0.06),  # no lower than half of it
        ({"type": "raw"}, None, None),
        ({"type": "embedding", "gallery": {"threshold": 0.7}}, None, None),  # that is no object's score
    ],
)
def test_with_lower_threshold(spec: dict[str, Any], lower: float | None, was: float | None) -> None:
    task = TaskSpec.model_validate(spec)
    found, threshold = with_lower_threshold(task, 0.05)
    assert threshold == was
    assert found.model_dump().get("threshold") == (None if lower is None else pytest.approx(lower))
    build_task(found, INPUT)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"type": "centreface"}, r"no task 'centreface' \(did you mean centerface\? known: attributes, centerface"),
        ({"type": "zzz"}, r"no task 'zzz' \(known: attributes"),
        ({"type": "centerface", "treshold": 0.5}, r"treshold: unknown key \(did you mean threshold"),
        ({"type": "centerface", "threshold": 2}, "task centerface: threshold: must be less than 1"),
        ({"type": "centerface", "threshold": "high"}, "threshold: must be a valid number"),
        ({"type": "classification"}, "labels: is missing"),
        ({"type": "classification", "labels": ["a", "a"]}, "labels: a label is there twice"),
        ({"type": "classification", "labels": ["a"]}, "labels: .*at least 2"),
        (
            {"type": "expectation", "classes": 3, "activation": "relu"},
            "activation: must be 'softmax' or 'none'",
        ),
    ],
)
def test_what_is_wrong_is_named(spec: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        build(**spec)


class Plug:
    class PlugParams(TaskParams):
        size: int = 1

    Params: ClassVar[type[TaskParams]] = PlugParams

    def __init__(self, params: PlugParams, context: TaskContext) -> None:
        if params.size < 0:
            raise ZeroDivisionError("negative")
        self.got = (params.size, context.input.size)

    def describe(self, outputs: Outputs, to_frame: list[Affine]) -> list[dict[str, Any]]:
        return [{} for _ in to_frame]


class NoTask:
    pass


def offer(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    entries = [EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in points.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(entries).select(group=group))


def test_plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, plug=f"{__name__}:Plug", broken="no_such_module:X", nothing=f"{__name__}:NoTask")
    monkeypatch.setattr(EntryPoint, "load", lambda self: _load(self.value))
    assert build(type="plug", size=3).got == (3, (64, 64))
    assert build(type="raw")  # a broken plug-in breaks nobody else
    with pytest.raises(TaskError, match=r"size: unknown key|size: must be a valid integer"):
        build(type="plug", size="x")
    with pytest.raises(TaskError, match=r"no_such_module:X of task broken cannot be loaded: ModuleNotFoundError"):
        build(type="broken")
    with pytest.raises(TaskError, match="NoTask is no task"):
        build(type="nothing")
    with pytest.raises(TaskError, match="plug cannot be built: ZeroDivisionError: negative"):
        build(type="plug", size=-1)
    with pytest.raises(TaskError, match="did you mean plug"):
        build(type="plugg")


def _load(value: str) -> Any:
    if value.startswith("no_such_module"):
        raise ModuleNotFoundError(value)
    return {"Plug": Plug, "NoTask": NoTask}[value.split(":")[1]]


def test_a_plug_in_must_not_hide_a_built_in_task(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, raw="somewhere:Raw")
    with pytest.raises(TaskError, match=r"somewhere:Raw .* redefines the built-in task raw"):
        build(type="raw")


def test_two_plug_ins_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint("x", value, registry.ENTRY_POINTS) for value in ("a:X", "b:X")]
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(entries))
    with pytest.raises(TaskError, match=r"more than once: a:X .*, b:X"):
        build(type="x")
