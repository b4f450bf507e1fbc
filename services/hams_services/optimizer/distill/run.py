"""The steps of a training run: teacher, augmentation, student, training, export."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import torch
from numpy.typing import NDArray
from torch import Tensor

from hams_services.models.onnx_dims import normalize_onnx
from hams_services.optimizer.accuracy.heatmaps import is_heat
from hams_services.optimizer.augmentation import varied
from hams_services.optimizer.distill.loop import Batch, Samples, Training, Vary
from hams_services.optimizer.distill.request import MAPS, Target, TrainRequest, TrainResult
from hams_services.optimizer.distill.students import (
    WIDTHS,
    DownscaledStudent,
    FreshStudent,
    Student,
    gflops,
    smaller_sizes,
    stride_of,
)
from hams_services.optimizer.importing.onnx_file import number_names, rename_tensors
from hams_services.optimizer.onnx_graph.run_openvino import one_core
from hams_services.optimizer.progress import ProgressCallback
from hams_shared.errors import BadInputError, ModelError, UnsupportedModelError

LEAST, MOST = 20, 4096
"""Least samples, and most numbers of an output that is no map; lists of boxes are larger."""
COPIES, LEAST_COPIES, MOST_COPIES, COPIED_BYTES = 1200, 3, 15, 1 << 30
"""Changed images in all, and per image; and bytes of all images together."""
OPSET = 17
Random = np.random.Generator


def train_student(request: dict[str, Any], progress: ProgressCallback) -> dict[str, Any]:
    """Run a :class:`TrainRequest` in this process; return its :class:`TrainResult`. Raises as :func:`run`."""
    return run(TrainRequest.model_validate(request), progress).model_dump(mode="json")


def run(request: TrainRequest, progress: ProgressCallback) -> TrainResult:
    """Train a student.

    Raises:
        BadInputError: too few samples, outputs that cannot be learned, or a budget below the smallest student.
        ModelError: the teacher cannot be run.
    """
    torch.manual_seed(request.seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    request.folder.mkdir(parents=True, exist_ok=True)
    images = _images(request)
    nhwc, shape = request.layout == "nhwc", tuple(images.shape[1:])
    images = images.permute(0, 3, 1, 2).contiguous() if nhwc else images
    teacher = _teacher(request.teacher, shape, nhwc) if request.teacher is not None else None
    progress("run the teacher", 0, request.epochs)
    samples, targets = _samples(request, teacher, images)
    student, note = fitting(shape, targets, request)
    samples, vary = _augmented(request, samples, student, teacher, progress)
    training = Training(student, samples, request, progress, vary)
    initial = export(student, shape, request.folder / "initial") if student.pretrained and request.epochs else ()
    stopped = training.run()
    progress("write the network", training.stopping.epoch, request.epochs)
    return TrainResult(
        files=export(student, shape, request.folder),
        initial=initial,
        gflops=gflops(student, shape),
        kind=student.kind,
        note=note,
        width=student.width,
        epochs=training.stopping.epoch,
        loss=training.stopping.best,
        stopped=stopped,
        tools={name: importlib.metadata.version(name) for name in ("torch", "torchvision", "onnx", "openvino")},
        outputs=tuple(targets),
    )


def _images(request: TrainRequest) -> Tensor:
    images = torch.from_numpy(np.load(request.tensors).astype(np.float32))
    if images.dim() != 4:
        raise BadInputError(f"samples of shape {tuple(images.shape)} are no images")
    if request.teacher is None and request.labels is None:
        raise BadInputError("neither a teacher nor labels: nothing to learn")
    if len(images) < LEAST:
        raise BadInputError(f"{len(images)} samples are too few to train with", f"use at least {LEAST}, best hundreds")
    return images


Teacher = Callable[[Tensor], dict[str, Tensor]]
"""Returns the outputs of the network for N×C×H×W images, name → N×…."""


def _teacher(path: Path, shape: tuple[int, ...], nhwc: bool) -> Teacher:
    try:
        core = ov.Core()
        model = core.read_model(path)
        element = model.input(0).element_type.to_dtype()
        model.reshape([1, *shape])
        compiled = one_core(model, core)
    except RuntimeError as error:
        raise ModelError(f"the teacher cannot be run: {' '.join(str(error).split())[:300]}") from None
    names = [min(port.get_names(), default=f"output{index}") for index, port in enumerate(compiled.outputs)]

    def outputs(images: Tensor) -> dict[str, Tensor]:
        images = images.permute(0, 2, 3, 1) if nhwc else images
        rows = [compiled([image[None].numpy().astype(element)]) for image in images]
        return {n: torch.from_numpy(np.concatenate([np.float32(r[i]) for r in rows])) for i, n in enumerate(names)}

    return outputs


def _samples(request: TrainRequest, teacher: Teacher | None, images: Tensor) -> tuple[Samples, list[Target]]:
    """Return the images with their reference outputs, and what these are."""
    border = len(images) - max(1, round(len(images) * request.hold_out))
    found = teacher(images if request.labels is None else images[:1]) if teacher is not None else {}
    if request.labels is not None:
        if len(found) > 1:
            raise BadInputError(f"labels are for one output, the network has {len(found)}")
        labels = torch.from_numpy(np.load(request.labels).astype(np.float32))
        found = {name: labels.reshape(-1, *y.shape[1:]) for name, y in found.items()} or {"output": labels}
    strides = {stride_of(tuple(values.shape[1:]), tuple(images.shape[2:])) for values in found.values()}
    maps = len(strides) == 1 and strides != {0}
    return Samples(images, list(found.values()), border), [_target(n, y.numpy(), maps) for n, y in found.items()]


def _target(name: str, values: NDArray[np.float32], is_map: bool) -> Target:
    """Return what kind of output this is, by its values."""
    flat = values.reshape(len(values), -1)
    size = flat.shape[1]
    if size > MOST and not is_map:
        raise BadInputError(
            f"output {name} has {size} numbers and is no map of the image; a list of boxes cannot be learned this way",
            "train nodes that classify, measure, embed, place points, or find objects by heat maps",
        )
    if not np.isfinite(values).all():
        raise ModelError(f"the teacher's output {name} is not finite")
    norms = np.linalg.norm(flat, axis=1)
    if is_map:
        kind = "heat" if is_heat(values) else "map"
    elif size > 1 and flat.min() >= 0 and np.abs(flat.sum(1) - 1).max() < 1e-2:
        kind = "probabilities"
    else:
        kind = "direction" if size >= 64 and np.ptp(norms) < 1e-2 * norms.mean() else "numbers"
    return Target(name=name, shape=values.shape[1:], kind=kind)


def fitting(shape: tuple[int, ...], targets: list[Target], request: TrainRequest) -> tuple[Student, str]:
    """Return the largest student within the budget, for an input of `shape`, and why it is not the teacher itself.

    For maps that is the teacher on a smaller image where possible, else the widest of inverted residuals.

    Raises:
        BadInputError: the narrowest exceeds the budget.
    """
    nhwc, note = request.layout == "nhwc", ""
    inputs, *size = (shape[2], *shape[:2]) if nhwc else shape
    if targets[0].kind in MAPS and request.origin is not None:
        try:
            for smaller in smaller_sizes(size):
                student = DownscaledStudent(inputs, size, targets, nhwc, request.origin, smaller)
                if gflops(student, shape) <= request.gflops:
                    return student, ""
            note = "it does not start as the network: that exceeds the budget even on the smallest image"
        except UnsupportedModelError as error:
            note = f"it does not start as the network: {error.text}"
    found, cost = None, 0.0
    for width in WIDTHS:
        torch.manual_seed(request.seed)  # the same weights, whatever was tried before
        fresh = FreshStudent(inputs, size, targets, nhwc, width)
        if (cost := gflops(fresh, shape)) > request.gflops:
            break
        found = fresh
    if found is None:
        hint = "a larger --gflops"
        raise BadInputError(f"the smallest student needs {cost:.4f} GFLOPs, more than {request.gflops:g}", hint)
    return found, note


def _augmented(
    request: TrainRequest, samples: Samples, student: Student, teacher: Teacher | None, progress: ProgressCallback
) -> tuple[Samples, Vary | None]:
    """Return the samples with changed copies, or how they change in each epoch where the student starts trained."""
    if not request.augment:
        return samples, None
    if student.pretrained and teacher is not None:
        # Time ends the training of such a student, so the hold-out set may be small.
        border = len(samples.inputs) - max(1, round(len(samples.inputs) * request.hold_out / 8))
        return Samples(samples.inputs, samples.reference, border), partial(_changed, teacher)
    progress("augment the images", 0, request.epochs)
    random, (images, known) = np.random.default_rng(request.seed), samples.part(slice(samples.border))
    fits = COPIED_BYTES // max(1, images.numel() * 4) - 1
    count = max(0, min(max(LEAST_COPIES, COPIES // len(images)), MOST_COPIES, fits))
    # A label holds for every copy of an image; the teacher sees each copy.
    copies = [_changed(None if request.labels else teacher, images, random, known) for _ in range(count)]
    hold_out, last = samples.part(slice(samples.border, None))
    reference = [torch.cat(parts) for parts in zip(known, *(more for _, more in copies), last, strict=True)]
    inputs = torch.cat([images, *(copy for copy, _ in copies), hold_out])
    return Samples(inputs, reference, samples.border * (1 + count)), None


def _changed(
    teacher: Teacher | None, images: Tensor, random: np.random.Generator, known: Sequence[Tensor] = ()
) -> Batch:
    """Return images changed, with the teacher's outputs for them, or those that are `known`."""
    images = torch.from_numpy(np.stack([varied(image, "nchw", random) for image in images.numpy()]))
    return images, list(teacher(images).values() if teacher is not None else known)


def export(student: Student, shape: tuple[int, ...], folder: Path) -> tuple[Path, ...]:
    """Write the student as ONNX and as OpenVINO IR, with any batch; return the files."""
    folder.mkdir(exist_ok=True)
    files = folder / "student.onnx", folder / "student.xml", folder / "student.bin"
    names = [f"output{index}" for index in range(len(student.targets))]  # the exporter takes no name that is a number
    torch.onnx.export(
        student.eval(),
        (torch.zeros(1, *shape),),
        str(files[0]),
        input_names=["input"],
        output_names=names,
        dynamic_axes={name: {0: "N"} for name in ("input", *names)},
        opset_version=OPSET,
        dynamo=False,
    )
    model: Any = onnx.load(files[0])
    number_names(model)
    rename_tensors(model, {old: target.name for old, target in zip(names, student.targets, strict=True)})
    data = normalize_onnx(model.SerializeToString(deterministic=True), (1, *shape))
    onnx.checker.check_model(onnx.load_from_string(data))
    files[0].write_bytes(data)
    ov.save_model(ov.convert_model(str(files[0])), files[1], compress_to_fp16=False)
    return files
