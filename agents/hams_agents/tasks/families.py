"""Which of the detector families a network's outputs are of, by shapes, names and metadata.

It is what `fits` of these tasks answers, and what an error proposes when outputs are not those of the chosen task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hams_agents.tasks.base import Outputs, TensorInfo
from hams_agents.tasks.layouts import image_size, kind_of
from hams_agents.tasks.names import names_in, point_shape
from hams_agents.tasks.yolo_forms import LONGEST_LIST, Shape, cells

Params = dict[str, Any]
Size = tuple[int, int]

ULTRALYTICS = {"detect": "yolo", "segment": "yolo-seg", "pose": "yolo-pose", "obb": "obb"}
"""Tasks by what the file's metadata `task` says."""
BODY = 17
"""Key points of COCO's persons."""
NO_OBJECT = 92
"""Classes of the original DETR on COCO: 91 category ids and `no object`."""
SMALLEST_MASK = 14
PROTOTYPES = range(8, 257)


def meant(outputs: Outputs, size: Size, task: str) -> str:
    """Return the other tasks whose form `outputs` have, as text; empty: none is known."""
    shapes = [TensorInfo(name, tuple(value.shape), value.dtype.name) for name, value in outputs.items()]
    return " or ".join(sorted(set(recognised(shapes, size, {})) - {task}))


def fit(task: str, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]) -> Params | None:
    """Return the parameters with which `outputs` are of `task`, None: they are not."""
    return recognised(outputs, image_size(input), metadata).get(task)


def recognised(outputs: Sequence[TensorInfo], size: Size | None, metadata: Mapping[str, str]) -> dict[str, Params]:
    """Return the tasks whose outputs have these shapes, each with its parameters; `size` is the input's, if known."""
    kind = ULTRALYTICS.get(kind_of(metadata))
    if "rtdetr" in (metadata.get("description", "") + metadata.get("head", "")).lower().replace("-", ""):
        kind = "detr"
    found = _by_shape(outputs, size, metadata)
    names = names_in(metadata)
    named: dict[str, Params] = {}
    for task, params in found.items():
        count = params.pop("classes", None)
        if (kind is not None and task != kind) or (names and count is not None and count != len(names)):
            continue
        named[task] = {**params, **({"labels": list(names)} if names else {})}
    return named


def class_count(
    task: str,
    outputs: Sequence[TensorInfo],
    input: TensorInfo,
    metadata: Mapping[str, str],
    params: Mapping[str, Any] | None = None,
) -> int | None:
    """Return how many classes a network of `task` has by its shapes; None: they leave it open, or it is not of it.

    `params`: those chosen; with a softmax that the shapes do not show, one class is `no object`.
    """
    found = _by_shape(outputs, image_size(input), metadata).get(task, {})
    count: int | None = found.get("classes")
    softmax = (params or {}).get("activation") == "softmax" and "activation" not in found
    return count - 1 if softmax and count is not None else count


def prototype_axis(shape: Shape, size: Size | None) -> int:
    """Return the axis of the M prototypes in N×M×h×w (1), or N×h×w×M (3), as TensorFlow has it: h×w is like the input.

    `size` is the input's (width, height).
    """
    _, first, second, third = shape
    if size is None or first is None or second is None or third is None or third not in PROTOTYPES:
        return 1
    return 3 if first * size[0] == second * size[1] and second * size[0] != third * size[1] else 1


def _by_shape(outputs: Sequence[TensorInfo], size: Size | None, metadata: Mapping[str, str]) -> dict[str, Params]:
    return {**_yolo(outputs, size, metadata), **_detr(outputs, size), **_instances(outputs)}


def _yolo(outputs: Sequence[TensorInfo], size: Size | None, metadata: Mapping[str, str]) -> dict[str, Params]:
    listed = [one for one in outputs if len(one.shape) == 3]
    maps = [one for one in outputs if len(one.shape) == 4]
    heads = [one for one in outputs if len(one.shape) == 5]  # v5 may export the maps of its heads, too
    extra_name: Params = {"output": listed[0].name} if heads and len(listed) == 1 else {}
    if len(listed) == 1 and len(maps) == 1 and len(outputs) == 2 + len(heads):
        count = maps[0].shape[prototype_axis(maps[0].shape, size)]
        read = _form(listed[0].shape, count, size) if count in PROTOTYPES else None
        return {} if read is None else {"yolo-seg": {**read, **extra_name}}
    if len(listed) == 1 and len(outputs) == 1 + len(heads):
        return {
            task: {**read, **({"points": points} if points else {}), **extra_name}
            for task, extra, points in _extras(listed[0].shape, metadata)
            if (read := _form(listed[0].shape, extra, size)) is not None
        }
    shapes = [one.shape for one in outputs]
    if len(outputs) == 4 and sorted(map(len, shapes)) == [2, 2, 2, 3] and any(shape[-1] == 1 for shape in shapes):
        return {"yolo": {"version": "nms"}}
    if len(outputs) == 2 == len(listed) and size is not None:
        (_, first, width), (_, second, other) = (one.shape for one in listed)
        if first == second and first in cells(size) and width == 4:
            return {"yolo": {"version": "nas", "classes": other}}
    return {}


def _extras(shape: Shape, metadata: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """Return tasks that one output may be of, each with its further numbers and its points."""
    found = [("yolo", 0, 0)]
    stated = point_shape(metadata)
    points, dims = stated or (BODY, 3)
    if stated is not None or 5 + points * dims in shape[1:] or 6 + points * dims == shape[2]:
        found.append(("yolo-pose", points * dims, points))
    if kind_of(metadata) == "obb" or shape[2] == 7:
        found.append(("obb", 1, 0))
    return found


def _form(shape: Shape, extra: int | None, size: Size | None) -> Params | None:
    """Return what is to be set for YOLO's output N×A×B with `extra` numbers, and its `classes`; None: it is no YOLO."""
    rows, columns = shape[1], shape[2]
    extra = extra or 0
    single = () if size is None else cells(size)
    triple = tuple(3 * count for count in single)
    if columns == 6 + extra and (rows is None or (rows <= LONGEST_LIST and rows not in (*single, *triple))):
        return {}
    fewer = rows is not None and columns is not None and rows < columns
    if rows is not None and rows > 4 + extra and (columns in single or (not single and (columns is None or fewer))):
        return {"classes": rows - 4 - extra}
    if columns is None or columns <= 5 + extra:
        return None
    if rows in single:
        return {"version": "yolox" if not extra else "v5", "classes": columns - 5 - extra}
    if rows in triple or (not single and (rows is None or rows > columns)):
        return {"classes": columns - 5 - extra}
    return None


def _detr(outputs: Sequence[TensorInfo], size: Size | None) -> dict[str, Params]:
    few = [
        one
        for one in outputs
        if len(one.shape) in (2, 3) and (one.shape[1] is None or one.shape[1] <= LONGEST_LIST) and one.shape[0] != 0
    ]
    masks = [one for one in outputs if len(one.shape) == 4]
    if len(few) + len(masks) != len(outputs) or len(masks) > 1:
        return {}
    threes = [one for one in few if len(one.shape) == 3]
    twos = [one for one in few if len(one.shape) == 2]
    if len(threes) == 1 and len(twos) == 2 and threes[0].shape[2] == 4 and twos[0].shape[1] == threes[0].shape[1]:
        return {"detr": {}}
    if len(threes) == 2 and not twos and threes[0].shape[1] == threes[1].shape[1]:
        widths = [one.shape[2] for one in threes]
        if 4 not in widths or (size is not None and threes[0].shape[1] in cells(size)):
            return {}
        boxes = widths.index(4) if widths.count(4) == 1 else next((i for i in (0, 1) if _is_boxes(threes[i].name)), -1)
        if boxes < 0:
            return {}
        classes = threes[1 - boxes].shape[2]
        order: Params = {"outputs": [threes[boxes].name, threes[1 - boxes].name]} if widths.count(4) == 2 else {}
        softmax: Params = {"activation": "softmax"} if classes == NO_OBJECT else {}
        return {"detr": {**order, **softmax, "classes": classes if not softmax else NO_OBJECT - 1}}
    if len(threes) == 1 and not twos and not masks and (threes[0].shape[2] or 0) > 4:
        width, count = threes[0].shape[2] or 0, threes[0].shape[1]
        is_map = count is not None and size is not None and count * size[0] == width * size[1]  # of the input's depth
        if count is not None and count >= width and not is_map and not (size is not None and count in cells(size)):
            return {"detr": {"classes": width - 4}}
    return {}


def _is_boxes(name: str) -> bool:
    return "box" in name.lower() or name.lower() == "dets"


def _instances(outputs: Sequence[TensorInfo]) -> dict[str, Params]:
    """Lists of objects, with a batch axis or without: boxes (4, or 5 with the score), labels, scores, masks, points."""
    boxes = [one for one in outputs if len(one.shape) in (2, 3) and one.shape[-1] in (4, 5)]
    masks = [one for one in outputs if len(one.shape) >= 3 and all((s or 99) >= SMALLEST_MASK for s in one.shape[-2:])]
    masks = [one for one in masks if one not in boxes and (len(one.shape) > 3 or one.shape[0] != 1)]
    points = [one for one in outputs if len(one.shape) in (3, 4) and one.shape[-1] == 3 and one not in masks]
    flat = [one for one in outputs if len(one.shape) in (1, 2) and one not in boxes]
    one_object = len(boxes) == 1 and len(boxes[0].shape) == 2 and boxes[0].shape[0] == 1  # no batch axis
    counted = any(  # how many there are: YOLO's form nms
        one.shape[-1] == 1 and not (one_object and len(one.shape) == 1) for one in flat
    )
    if len(boxes) != 1 or not flat or counted or len(masks) > 1 or len(points) > 1:
        return {}
    if boxes[0].shape[-1] == 4 and len(flat) < 2:
        return {}
    return {"instances": {}}
