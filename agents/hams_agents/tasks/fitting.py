"""Which tasks fit a network's outputs, best first, with the reason in plain words.

Each task class states by ``fits`` whether outputs of such shapes can be its own. Many can: 1×512 numbers may be classes
or a vector. Where the network was run once, its numbers decide what shapes leave open, and each task must decode them.
Specific tasks come before general ones, and `raw`, which takes everything, last. What only the publisher knows (names
of classes) gets a stand-in, which is named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from hams_agents.faults import FAULTS
from hams_agents.tasks import evidence, layouts
from hams_agents.tasks.base import Outputs, Task, TensorInfo
from hams_agents.tasks.coco import NAMES
from hams_agents.tasks.families import class_count
from hams_agents.tasks.registry import BUILT_IN, ENTRY_POINTS, build_task, describe, is_detection, task_class
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec

GENERAL = ("landmarks", "classification", "attributes", "embedding", "regression", "text", "expectation", "raw")
"""Tasks whose outputs are plain vectors, in the order in which they are offered where nothing tells them apart."""
LAST_OF_SPECIFIC = ("ssd", "yolo", "obb", "instances", "segmentation", "depth", "text_detection", "text")
"""Of tasks for shapes of their own those that fit others' outputs by chance."""
LISTED = 4
"""Classes that stand in where a network lists objects and nothing tells how many classes it has."""
CLASSES_OF_MAPS = frozenset({19, 21})
"""Of Cityscapes and Pascal VOC."""
VECTORS = frozenset({128, 256, 512, 768, 1024, 2048})
"""Lengths that vectors have more often than lists of classes."""


@dataclass(frozen=True)
class Seen:
    """What is known of a network."""

    outputs: tuple[TensorInfo, ...]
    input: TensorInfo
    """Of the image."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    sample: Outputs | None = None
    """The outputs for one image of noise, where it was run."""
    operators: Collection[str] | None = None
    """Kinds of operators in it; None: not known."""


@dataclass(frozen=True)
class Fit:
    """A task that fits."""

    type: str
    params: Mapping[str, Any]
    """As in group.yaml, without `type`."""
    reason: str
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Parameter → what stands in for it, and why."""

    @property
    def words(self) -> str:
        """The task and what matters of its parameters: ``yolo (version v8, 80 labels)``."""
        shown = [f"{key} {value}" for key, value in self.params.items() if isinstance(value, str | int)]
        counted = [f"{len(value)} {key}" for key, value in self.params.items() if isinstance(value, list | dict)]
        inner = ", ".join((*shown, *counted))
        return f"{self.type} ({inner})" if inner else self.type


def fitting(seen: Seen, spec: InputSpec, *, plug_ins: bool = True) -> list[Fit]:
    """Return the tasks that fit, the likeliest first. `spec` is the input that a node would have.

    With `plug_ins` it loads all that are installed.
    """
    kinds = _kinds() if plug_ins else list(BUILT_IN)
    found = [fit for kind in kinds if (fit := _fit(kind, seen, spec)) is not None]
    first, why = _favourite(seen)
    ranked = sorted(found, key=lambda fit: _rank(fit, first, seen))
    return [
        Fit(fit.type, fit.params, f"{fit.reason}; {why}", fit.stand_ins) if fit.type == first and why else fit
        for fit in ranked
    ]


def would_fit(outputs: Outputs, spec: InputSpec, metadata: Mapping[str, str]) -> str:
    """Return a hint which built-in tasks fit `outputs` (N = 1); empty: none but `raw`."""
    infos = tuple(TensorInfo(name, value.shape, value.dtype.name) for name, value in outputs.items())
    image = TensorInfo("", spec.shape(), "float32")
    found = [fit for fit in fitting(Seen(infos, image, metadata, outputs), spec, plug_ins=False) if fit.type != "raw"]
    return f"these outputs fit {' or '.join(fit.words for fit in found[:3])}" if found else ""


def try_task(task: Task, outputs: Outputs, size: tuple[int, int]) -> None:
    """Decode one image's outputs. Raises TaskError: they are not of this task."""
    to_frame = [np.eye(2, 3)]
    if is_detection(task):
        task.detect(outputs, to_frame, size)
    else:
        describe(task, outputs, to_frame, [size])


def _kinds() -> list[str]:
    return [*BUILT_IN, *sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - set(BUILT_IN))]


def _fit(kind: str, seen: Seen, spec: InputSpec) -> Fit | None:
    """Return how task `kind` fits; None: it does not, does not say so, or is a broken plug-in."""
    try:
        cls = task_class(kind)
        fits = getattr(cls, "fits", None)
        params = fits(seen.outputs, seen.input, seen.metadata) if callable(fits) else None
        if params is None:
            return None
        if seen.sample is not None:
            params = evidence.refined(kind, dict(params), seen.sample)
            if params is None:
                return None
        params, why = _by_operators(kind, dict(params), seen)
        for whole, stand_ins in _completed(kind, cls, params, seen):
            if _decodes(kind, whole, seen, spec):
                return Fit(kind, whole, _reason(cls, seen), {**stand_ins, **why})
    except FAULTS:  # of a plug-in, whose own error appears where it is used
        if kind in BUILT_IN:
            raise
    return None


def _by_operators(kind: str, params: dict[str, Any], seen: Seen) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `params` with what the operators tell, and what of it is a guess, and why.

    The outputs of DETR are those of its kin, but for one class more, `no object`, and a softmax. Its kin with a sigmoid
    (Deformable DETR, RT-DETR, D-FINE, RF-DETR) sample feature maps at points, which is GridSample; DETR, YOLOS and
    Table Transformer do not.
    """
    raw = kind == "detr" and "activation" not in params and sum(len(one.shape) == 3 for one in seen.outputs) == 2
    sampling = seen.operators is None or any("grid" in name.lower() for name in seen.operators)
    if not raw or sampling or any(one.name == "dets" for one in seen.outputs):
        return params, {}
    why = "a guess by its operators: softmax, and the last class is `no object`; else remove activation, add a label"
    return {**params, "activation": "softmax"}, {"activation": why}


def _decodes(kind: str, params: Mapping[str, Any], seen: Seen, spec: InputSpec) -> bool:
    """Whether the task can be built and, with a trial, decodes it."""
    try:
        task = build_task(TaskSpec.model_validate({"type": kind, **params}), spec, seen.metadata)
        if seen.sample is not None:
            try_task(task, seen.sample, spec.size)
    except TaskError:
        return False
    return True


def _reason(cls: Any, seen: Seen) -> str:
    text = " ".join((getattr(cls, "layout", "") or (cls.__doc__ or "").partition("\n\n")[0]).split())
    shapes = " and ".join(shape_text(one.shape) for one in seen.outputs[:4])
    return f"{shapes}{' …' if len(seen.outputs) > 4 else ''}: {text or 'as the task wants it'}"


def shape_text(shape: Sequence[int | None]) -> str:
    """Write a shape as ``1×3×?×?``."""
    return "×".join("?" if size is None else str(size) for size in shape) or "one number"


# Order


def _rank(fit: Fit, first: str, seen: Seen) -> tuple[int, int]:
    kind, late = fit.type, LAST_OF_SPECIFIC
    if kind == "raw":
        return (3, 0)
    if kind == "landmarks" and "decode" in fit.params:  # heat maps, or as many classes in a map of a quarter's size
        return (1, 2 * late.index("segmentation") + 1) if fit.params.get("points") in CLASSES_OF_MAPS else (0, 0)
    if kind in GENERAL and (kind != "text" or "decode" in fit.params):
        return (2, -1 if kind == first else GENERAL.index(kind))
    if kind == "detr" and len(seen.outputs) == 1:  # rows of boxes and scores; of YOLO's end-to-end networks, too
        return (1, 2 * late.index("yolo") + 1)
    if kind == "detr" and len(seen.outputs) == 3 and len(seen.outputs[0].shape) == 3:
        return (1, 2 * late.index("instances") + 1)  # torchvision lists boxes first, RT-DETR and its kin labels
    if kind == "text_detection" and seen.sample is not None and evidence.probable(next(iter(seen.sample.values()))):
        return (1, 2 * late.index("depth") - 1)
    return (1, 2 * late.index(kind)) if kind in late else (0, 0)


def _favourite(seen: Seen) -> tuple[str, str]:
    """Return the general task that the evidence favours, and why in words; empty: none."""
    wide = [one for one in seen.outputs if (layouts.width(one) or 0) > 1]
    if len(wide) != 1:
        return ("attributes", "") if wide else ("regression", "")
    width = layouts.width(wide[0]) or 0
    if layouts.class_names(seen.metadata, width):
        return "classification", "the file names as many classes"
    values = None if seen.sample is None else seen.sample.get(wide[0].name)
    if values is not None and evidence.sums_to_one(values):
        return "classification", "the numbers of a trial sum to 1"
    if values is not None and evidence.counts(values):
        return "text", "the numbers of a trial are whole"
    if layouts.points_of(wide[0]) is not None and (width >= 60 or len(seen.outputs) > 1):
        return "landmarks", "as long as those of published networks for points"
    if any(word in wide[0].name.lower() for word in ("embed", "pooler")):
        return "embedding", "the output is called so"
    if width in VECTORS:
        return "embedding", f"{width} is a common length of such vectors"
    return ("classification", "") if width > layouts.MOST_NUMBERS or len(seen.outputs) == 1 else ("regression", "")


# Stand-ins


def _completed(kind: str, cls: Any, params: dict[str, Any], seen: Seen) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Return ways to fill in what only the publisher knows, each with what stands in."""
    match kind:
        case "attributes":
            return [_attributes(params, seen)]
        case "text" if not seen.metadata.get("character"):
            return _characters(params, seen)
    fields = cls.Params.model_fields
    if "labels" not in fields or "labels" in params:
        return [(params, {})]
    if kind == "detection_output":
        why = "the file does not name its classes: class0 … stand in for likely ones; 0 may be background"
        return [({**params, "labels": {number: f"class{number}" for number in range(LISTED)}}, {"labels": why})]
    lists = _label_lists(kind, cls, seen, params)
    filled = [({**params, "labels": names}, {"labels": why} if why else {}) for names, why in lists]
    return filled if fields["labels"].is_required() else [(params, {}), *filled]


def _label_lists(kind: str, cls: Any, seen: Seen, params: Mapping[str, Any]) -> list[tuple[list[str], str]]:
    """Return lists of class names to try; their length follows from the outputs."""
    sizes = [size for one in seen.outputs for size in one.shape[1:] if size and size <= 22_000]
    known = class_count(kind, seen.outputs, seen.input, seen.metadata, params)
    if kind == "classification":
        counts = [layouts.width(one) or 0 for one in seen.outputs]
    elif kind == "ssd":
        counts = [one.shape[-1] - 1 for one in seen.outputs if one.shape[-1] not in (None, 4)]
    elif known is not None:
        counts = [known]
    else:  # a detector that gives the class's number is likely one of COCO's
        coco = [len(NAMES)] if callable(getattr(cls, "detect", None)) else []
        named = len(layouts.class_names(seen.metadata))
        counts = [named, *coco, *(size - other for other in (0, 1, 4, 5) for size in sizes)]
    wanted = [count for count in dict.fromkeys(counts) if 1 <= count <= 22_000]
    return [_names(count, seen.metadata) for count in wanted[:64]]


def _names(count: int, metadata: Mapping[str, str]) -> tuple[list[str], str]:
    if known := layouts.class_names(metadata, count):
        return known, ""
    if count == len(NAMES):
        return list(NAMES), "the file does not name its 80 classes: COCO's are a guess"
    if count == 1:
        return ["object"], "the file does not name its class: `object` stands in"
    return [f"class{i}" for i in range(count)], f"the file does not name its {count} classes: class0 … stand in"


def _attributes(params: dict[str, Any], seen: Seen) -> tuple[dict[str, Any], dict[str, str]]:
    widths = {one.name: layouts.width(one) or 2 for one in seen.outputs}
    classes = {
        name: {**of, "labels": [f"value{i}" for i in range(widths[of["output"]])]}
        for name, of in params.get("classes", {}).items()
    }
    found = {**params, **({"classes": classes} if classes else {})}
    if "flags" in params:
        width = widths[params["flags"].get("output", seen.outputs[0].name)]
        found["flags"] = {**params["flags"], "names": [f"flag{i}" for i in range(width)]}
    return found, {"names": "the file does not name attributes and their values: value0 …, flag0 … stand in"}


def _characters(params: dict[str, Any], seen: Seen) -> list[tuple[dict[str, Any], dict[str, str]]]:
    if params.get("decode") == "indices":
        highest = 0 if seen.sample is None else int(max(value.max() for value in seen.sample.values()))
        counts = [max(highest + 1, 36)]
    else:
        counts = [size - 1 for size in reversed(seen.outputs[0].shape[1:]) if size and size > 2]
    why = {"characters": "the file does not list its characters: <0> … stand in"}
    return [({**params, "characters": [f"<{i}>" for i in range(count)]}, why) for count in counts]
