"""Tasks by name: our own, and those that other packages offer as entry points of the group ``hams.tasks``.

A plug-in is an entry point ``NAME = module:Class`` whose class has `Params` and is built as ``Class(params,
TaskContext)``. It is loaded only when a group asks for it, so that a broken plug-in affects no other group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hams_agents.faults import FAULTS, fault
from hams_agents.tasks import plugins
from hams_agents.tasks.attributes import Attributes
from hams_agents.tasks.base import (
    Affine,
    DescriptionTask,
    DetectionTask,
    Outputs,
    Reads,
    Task,
    TaskContext,
    TaskParams,
)
from hams_agents.tasks.centerface import CenterFace
from hams_agents.tasks.classification import Classification
from hams_agents.tasks.decoding import did_you_mean
from hams_agents.tasks.depth import Depth
from hams_agents.tasks.describe import Describe
from hams_agents.tasks.detection_output import DetectionOutput
from hams_agents.tasks.detr import Detr
from hams_agents.tasks.embedding import Embedding
from hams_agents.tasks.instances import Instances
from hams_agents.tasks.landmarks import Landmarks
from hams_agents.tasks.obb import Obb
from hams_agents.tasks.raw import Raw
from hams_agents.tasks.regression import Expectation, Regression
from hams_agents.tasks.retinaface import RetinaFace
from hams_agents.tasks.segmentation import Segmentation
from hams_agents.tasks.ssd import Ssd
from hams_agents.tasks.text import Text
from hams_agents.tasks.text_detection import TextDetection
from hams_agents.tasks.yolo import Yolo
from hams_agents.tasks.yolo_pose import YoloPose
from hams_agents.tasks.yolo_seg import YoloSeg
from hams_agents.tasks.zero_shot import ZeroShot
from hams_shared.errors import HamsError, TaskError
from hams_shared.group.findings import describe_all
from hams_shared.group.node_spec import InputSpec, TaskSpec

if TYPE_CHECKING:
    from typing_extensions import TypeIs

ENTRY_POINTS = "hams.tasks"

BUILT_IN: dict[str, type[Any]] = {
    "attributes": Attributes,
    "centerface": CenterFace,
    "classification": Classification,
    "depth": Depth,
    "describe": Describe,
    "detection_output": DetectionOutput,
    "detr": Detr,
    "embedding": Embedding,
    "expectation": Expectation,
    "instances": Instances,
    "landmarks": Landmarks,
    "obb": Obb,
    "raw": Raw,
    "regression": Regression,
    "retinaface": RetinaFace,
    "segmentation": Segmentation,
    "ssd": Ssd,
    "text": Text,
    "text_detection": TextDetection,
    "yolo": Yolo,
    "yolo-pose": YoloPose,
    "yolo-seg": YoloSeg,
    "zero_shot": ZeroShot,
}


def build_task(
    task: TaskSpec, input: InputSpec, metadata: Mapping[str, str] | None = None, *, in_image: bool = False
) -> Task:
    """Build the task that `task` describes, for a network that takes `input` and whose file holds `metadata`.

    `in_image`: the network knows the image's size; see :attr:`hams_agents.tasks.base.TaskContext.pixels`.

    Raises:
        TaskError: no such task, its parameters are wrong, or the plug-in that offers it is broken.
    """
    cls = task_class(task.type)
    params = _params(task, cls.Params)
    try:
        image = in_image and callable(getattr(cls, "detect", None))
        if image and not getattr(cls, "image_pixels", False):
            raise _pixels_refused(task.type)
        built: Task = cls(params, TaskContext(input, metadata or {}, "image" if image else "input"))
    except HamsError:
        raise
    except FAULTS as error:
        origin = cls.__module__.partition(".")[0]
        raise TaskError(f"task {task.type} cannot be built: {fault(error, origin)}") from error
    if task.type in BUILT_IN:
        return built
    own: Task = plugins.guarded(built, task.type)
    return own


def _pixels_refused(name: str) -> TaskError:
    return TaskError(
        f"task {name} reads boxes in pixels of the network's input, and inputs: gives the network the image's size or "
        "scale, so that it counts in pixels of the image",
        "feed input_wh (input_hw) instead of size_wh, and scale {value: 1}: HAMS maps boxes to the frame itself",
    )


def threshold_of(task: TaskSpec) -> float | None:
    """Return the least score of what a detection task finds; None where it has none. Raises as :func:`build_task`."""
    cls = task_class(task.type)
    threshold = getattr(_params(task, cls.Params), "threshold", None)
    return threshold if isinstance(threshold, float) and callable(getattr(cls, "detect", None)) else None


def with_lower_threshold(task: TaskSpec, margin: float) -> tuple[TaskSpec, float | None]:
    """Return `task` with its threshold lowered by `margin` (at most by half), and the threshold that it has.

    A task without a threshold is returned unchanged, with None. Raises as :func:`build_task`.
    """
    threshold = threshold_of(task)
    if threshold is None:
        return task, None
    return task.model_copy(update={"threshold": max(threshold - margin, threshold / 2)}), threshold


def is_detection(task: Task) -> TypeIs[DetectionTask]:
    """Return whether `task` finds objects (and does not describe an image)."""
    return callable(getattr(task, "detect", None))


def gives_objects(task: Task) -> bool:
    """Return whether a node with `task` may have children: it detects, or gives the parts of what it describes."""
    return is_detection(task) or bool(getattr(task, "parts", False))


def describe(
    task: DescriptionTask, outputs: Outputs, to_frame: Sequence[Affine], filled: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Decode N images; `filled` are width and height of the part of each input that is not padding.

    Raises as :meth:`DescriptionTask.describe`.
    """
    if not getattr(task, "maps", False):
        return task.describe(outputs, to_frame)
    items: list[dict[str, Any]] = task.describe(outputs, to_frame, filled)  # type: ignore[call-arg]
    return items


def in_full(task: TaskSpec) -> TaskSpec:
    """Return `task` with the parameters with which its answer holds what it is made from, too.

    Raises as :func:`build_task`.
    """
    return task.model_copy(update=getattr(task_class(task.type), "IN_FULL", {}))


def used_outputs(task: Task, outputs: Outputs) -> Reads:
    """Return the part of `outputs` that `task` uses; all of them by default. Raises TaskError: they do not fit it."""
    read = plugins.reads_of(task, outputs)
    return dict.fromkeys(outputs) if read is None else read


def task_class(name: str) -> Any:
    """Return the class of the task `name`. Raises TaskError: there is none, or the plug-in that offers it is broken."""
    offered = entry_points(group=ENTRY_POINTS)
    found = {point.value: point for point in offered if point.name == name}
    if name in BUILT_IN:
        if found:
            raise TaskError(f"plug-in {_origin(found)} redefines the built-in task {name}", "remove or rename it")
        return BUILT_IN[name]
    if not found:
        raise TaskError(f"no task {name!r}", did_you_mean(name, {*BUILT_IN, *(point.name for point in offered)}))
    if len(found) > 1:
        raise TaskError(f"task {name} is offered more than once: {_origin(found)}", "remove all but one")
    return _load(next(iter(found.values())))


def _load(point: EntryPoint) -> Any:
    try:
        cls = point.load()
    except FAULTS as error:
        text = fault(error, point.value.partition(":")[0].partition(".")[0])
        raise TaskError(f"plug-in {point.value} of task {point.name} cannot be loaded: {text}") from error
    plugins.loaded(point)
    params = getattr(cls, "Params", None)
    works = any(callable(getattr(cls, method, None)) for method in ("detect", "describe"))
    if not (works and isinstance(params, type) and issubclass(params, TaskParams)):
        raise TaskError(
            f"plug-in {point.value} is no task", "it needs Params, a subclass of TaskParams, and detect or describe"
        )
    return cls


def _origin(points: dict[str, EntryPoint]) -> str:
    return ", ".join(f"{value} ({p.dist.name if p.dist else 'unknown package'})" for value, p in points.items())


def _params(task: TaskSpec, model: type[TaskParams]) -> TaskParams:
    try:
        return model.model_validate(task.params)
    except ValidationError as error:
        findings = error.errors(include_url=False)
    unknown_keys = [str(f["loc"][0]) for f in findings if f["type"] == "extra_forbidden"]
    hint = did_you_mean(unknown_keys[0], model.model_fields) if unknown_keys else ""
    raise TaskError(f"task {task.type}: {describe_all(findings, 'parameters')}", hint)
