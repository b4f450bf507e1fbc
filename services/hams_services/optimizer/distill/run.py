"""Teacher, student and what comes out: the steps of a training run."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import torch
from numpy.typing import NDArray

from hams_services.models.onnx_dims import normalize_onnx
from hams_services.optimizer.accuracy.heatmaps import is_heat
from hams_services.optimizer.distill.augmentation import anew, copies
from hams_services.optimizer.distill.downscaled_student import ShrunkStudent, sizes
from hams_services.optimizer.distill.loop import Batch, Varied, split, train
from hams_services.optimizer.distill.loss import spread
from hams_services.optimizer.distill.map_student import MapStudent, stride_of
from hams_services.optimizer.distill.request import Target, TrainRequest, TrainResult
from hams_services.optimizer.distill.student import WIDTHS, Learner, Student, gflops
from hams_services.optimizer.distill.teacher import Teacher
from hams_shared.errors import BadInputError, ModelError, UnsupportedModelError

MOST = 4096
"""Numbers of one output that is no map; larger ones (lists of boxes) are not learned."""
MAPS = ("heat", "map")
OPSET = 17


def run(request: TrainRequest, told: Callable[[str, int, int], None]) -> TrainResult:
    """Do it; see :class:`TrainRequest`.

    Raises:
        BadInputError: too few samples, or outputs that cannot be learned this way.
        ModelError: the teacher cannot be run.
    """
    torch.manual_seed(request.seed)
    torch.set_num_threads(request.threads)
    torch.use_deterministic_algorithms(True)
    request.folder.mkdir(parents=True, exist_ok=True)
    samples = np.load(request.tensors).astype(np.float32)
    if samples.ndim != 4:
        raise BadInputError(f"samples of shape {samples.shape} are no images")
    if request.teacher is None and request.labels is None:
        raise BadInputError("neither a teacher nor labels: nothing to learn")
    border = split(len(samples), request.held_back)
    teacher = Teacher(request.teacher, samples.shape[1:]) if request.teacher is not None else None
    told("ask the network", 0, request.epochs)
    truth, targets = _truth(request, teacher, samples)
    image = samples.shape[1:] if request.layout == "nchw" else (samples.shape[3], *samples.shape[1:3])
    student, note = fitting(image, targets, request)
    varied: Varied | None = None
    if request.vary and student.begins_trained and teacher is not None:
        varied = _varied(request.layout, teacher)
        border = split(len(samples), request.held_back / 8)  # its end is set by the time: more to learn from
    elif request.vary:
        told("vary the images", 0, request.epochs)
        more = copies(torch.from_numpy(samples[:border]), request.layout, request.seed).numpy()
        rounds = len(more) // border
        if request.labels is not None:  # a label holds for all that is made of an image
            said = [np.concatenate([t[:border]] * rounds) if rounds else t[:0] for t in truth]
        else:
            said = list(_asked(teacher, more).values()) if rounds else [t[:0] for t in truth]
        truth = [np.concatenate([t[:border], s, t[border:]]) for t, s in zip(truth, said, strict=True)]
        samples = np.concatenate([samples[:border], more, samples[border:]])
        border += len(more)
    inputs = torch.from_numpy(samples)
    student.normalize_like(student.plain(inputs))
    learned = [torch.from_numpy(t) for t in truth]
    known = [values[:border] for values in learned]
    scale = spread(student.targets, known)
    student.answer_like(inputs[:border], known, scale)
    begun: tuple[Path, ...] = ()
    if student.begins_trained and request.epochs:
        begun = export(student.eval(), samples.shape[1:], request.folder / "begun")
    stopping, why = train(student, inputs, learned, border, scale, request, told, varied)
    told("write the network", stopping.epoch, request.epochs)
    files = export(student, samples.shape[1:], request.folder)
    return TrainResult(
        files=files,
        begun=begun,
        gflops=gflops(student, samples.shape[1:]),
        kind=student.kind,
        note=note,
        width=student.width,
        epochs=stopping.epoch,
        best_epoch=stopping.best_epoch,
        loss=stopping.best,
        stopped=why,
        tools={name: importlib.metadata.version(name) for name in ("torch", "onnx", "openvino")},
        outputs=tuple(targets),
    )


def fitting(image: tuple[int, ...], targets: list[Target], request: TrainRequest) -> tuple[Learner, str]:
    """The largest student within the budget, for images C×H×W; and why it is not the network itself, if it might be.

    Where the network says maps that is the network itself on a smaller image, else the widest of a kind.

    Raises:
        BadInputError: the narrowest is above the budget.
    """
    shape = image if request.layout == "nchw" else (*image[1:], image[0])
    size = (image[1], image[2])
    note = ""
    if targets[0].kind in MAPS and request.origin is not None:
        try:
            for smaller in sizes(size):
                shrunk = ShrunkStudent(request.origin, image[0], size, smaller, targets, request.layout)
                if gflops(shrunk, shape) <= request.gflops:
                    return shrunk, ""
            note = "it does not begin as the network: that is above the budget on the smallest image"
        except UnsupportedModelError as error:
            note = f"it does not begin as the network: {error.text}"
    kind = MapStudent if targets[0].kind in MAPS else Student
    found: float | None = None
    least = 0.0
    for width in WIDTHS:
        torch.manual_seed(request.seed)
        student = kind(image[0], size, targets, width, request.layout)
        cost = gflops(student, shape)
        least = least or cost
        if cost > request.gflops:
            break
        found = width
    if found is None:
        raise BadInputError(
            f"the smallest student needs {least:.4f} GFLOPs, more than {request.gflops:g}", "a larger --gflops"
        )
    torch.manual_seed(request.seed)  # the same weights, whatever was tried before
    return kind(image[0], size, targets, found, request.layout), note


def _truth(
    request: TrainRequest, teacher: Teacher | None, samples: NDArray[np.float32]
) -> tuple[list[NDArray[np.float32]], list[Target]]:
    """What is to be learned of each sample."""
    said = _asked(teacher, samples if request.labels is None else samples[:1])
    if request.labels is not None:
        values = np.load(request.labels).astype(np.float32)
        (name, first), *more = list(said.items()) or [("output", values[:1])]
        if more:
            raise BadInputError(f"labels are for one output, the network has {1 + len(more)}")
        values = values.reshape(len(values), *first.shape[1:])
        return [values], [_target(name, values)]
    size = samples.shape[2:] if request.layout == "nchw" else samples.shape[1:3]
    strides = [stride_of(values.shape[1:], size) for values in said.values()]
    if strides and min(strides) > 0 and len(set(strides)) == 1:
        return list(said.values()), [_map(name, values) for name, values in said.items()]
    return list(said.values()), [_target(name, values) for name, values in said.items()]


def _asked(teacher: Teacher | None, samples: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return teacher.says(samples) if teacher is not None else {}


def _varied(layout: str, teacher: Teacher) -> Varied:
    """Images changed each time otherwise, and what the teacher says of them."""

    def vary(images: torch.Tensor, generator: torch.Generator) -> Batch:
        changed = anew(images, layout, generator)
        return changed, [torch.from_numpy(values) for values in teacher.says(changed.numpy()).values()]

    return vary


def _map(name: str, values: NDArray[np.float32]) -> Target:
    """Tell from what the teacher says whether a map holds chances, mostly none, or numbers."""
    _check_finite(name, values)
    return Target(name=name, shape=values.shape[1:], kind="heat" if is_heat(values) else "map")


def _check_finite(name: str, values: NDArray[np.float32]) -> None:
    if not np.isfinite(values).all():
        raise ModelError(f"the teacher's output {name} is not finite")


def _target(name: str, values: NDArray[np.float32]) -> Target:
    """Tell from what the teacher says what kind of output it is."""
    size = int(np.prod(values.shape[1:]))
    if size > MOST:
        raise BadInputError(
            f"output {name} has {size} numbers and is no map of the image; a list of boxes cannot be learned this way",
            "train nodes that classify, measure, embed, place points, or find objects by heat maps",
        )
    _check_finite(name, values)
    flat = values.reshape(len(values), -1)
    if size > 1 and flat.min() >= 0 and np.abs(flat.sum(1) - 1).max() < 1e-2:
        kind = "probabilities"
    elif size >= 64 and np.ptp(np.linalg.norm(flat, axis=1)) < 1e-2 * np.linalg.norm(flat, axis=1).mean():
        kind = "direction"
    else:
        kind = "numbers"
    return Target(name=name, shape=values.shape[1:], kind=kind)


def export(student: Learner, shape: tuple[int, ...], folder: Path) -> tuple[Path, ...]:
    """Write the student as ONNX and as OpenVINO IR, with any batch."""
    folder.mkdir(exist_ok=True)
    raw = folder / "raw.onnx"
    names = [f"output{index}" for index in range(len(student.targets))]  # the exporter takes no name that is a number
    torch.onnx.export(
        student,
        (torch.zeros(1, *shape),),
        str(raw),
        input_names=["input"],
        output_names=names,
        dynamic_axes={name: {0: "N"} for name in ("input", *names)},
        opset_version=OPSET,
        dynamo=False,
    )
    called = dict(zip(names, (target.name for target in student.targets), strict=True))
    data = normalize_onnx(_named(raw.read_bytes(), called), (1, *shape))
    onnx.checker.check_model(onnx.load_from_string(data))
    network = folder / "student.onnx"
    network.write_bytes(data)
    raw.unlink()
    ir = ov.convert_model(str(network))
    ov.save_model(ir, folder / "student.xml", compress_to_fp16=False)
    return network, folder / "student.xml", folder / "student.bin"


def _named(data: bytes, names: dict[str, str]) -> bytes:
    """An ONNX file with the outputs called otherwise; what else has one of these names gets another."""
    model = onnx.load_from_string(data)
    names = {**{name: f"inner/{name}" for name in names.values() if name not in names}, **names}
    for node in model.graph.node:
        for place in (node.input, node.output):
            place[:] = [names.get(name, name) for name in place]
    for one in (*model.graph.output, *model.graph.initializer):
        one.name = names.get(one.name, one.name)
    return bytes(model.SerializeToString(deterministic=True))


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
