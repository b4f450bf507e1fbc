"""A training run in a child process: teacher, augmentation, student, the loop with its losses, export.

An epoch depends only on the seed, its number and the state before it, so a run that was killed and continued ends with
the same weights. The learning rate of a student that starts trained also falls with the time spent; such a run
continues to other weights of the same quality.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import onnx
import openvino as ov
import torch
from torch import Tensor
from torch.distributions import Bernoulli, kl_divergence
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import TensorDataset

from hams_services.optimizer.accuracy.heatmaps import is_heat
from hams_services.optimizer.augmentation import varied
from hams_services.optimizer.distill.request import Target, TrainRequest, TrainResult
from hams_services.optimizer.distill.students import Student, fitting, gflops, mean_and_spread, place_weights, stride_of
from hams_services.optimizer.importing.onnx_file import number_names, rename_tensors
from hams_services.optimizer.onnx_graph.run_openvino import one_core
from hams_services.optimizer.progress import ProgressCallback
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import BadInputError, ModelError
from hams_shared.runtime.files import replaced

LEAST, MOST = 20, 4096
"""Least samples, and most numbers of an output that is no map; lists of boxes are larger."""
HOLD_OUT, LESS = 0.2, 0.025
"""Part of the samples, the last, that measures the loss; where a student starts trained it decides on nothing."""
COPIES, LEAST_COPIES, MOST_COPIES, COPIED_BYTES = 1200, 3, 15, 1 << 30
"""Changed images in all, and per image; and bytes of all images together."""
LEAST_BATCH, BATCH, MOST_NUMBERS = 4, 32, 6_000_000
"""Images per step, at least and at most; in between, at most so many numbers."""
HOT, HEAT = 50.0, 20.0
"""Extra weight of places with heat, which are few, and weight of heat among the outputs."""
PATIENCE, LOWER, LEAST_RATE = 4, 0.4, 0.01
"""Epochs without a better hold-out loss until the learning rate falls, its factor, and its least, as a part."""
GENTLE = 0.15
"""Factor of the learning rate where a student starts trained."""
OPSET = 17

Batch = tuple[Tensor, ...]
"""Images N×C×H×W, and the reference of each output for them, N×C×H×W."""


def train_student(request: dict[str, Any], progress: ProgressCallback) -> dict[str, Any]:
    """Run a :class:`TrainRequest` in this process; return its :class:`TrainResult`.

    Raises:
        BadInputError: too few samples, outputs that cannot be learned, or a budget below the smallest student.
        ModelError: the teacher cannot be run.
    """
    given = TrainRequest.model_validate(request)
    training = Training(given, progress)
    student = training.student
    initial = training.export("initial.onnx") if student.pretrained and given.epochs else None
    stopped, epochs = training.run(), training.plateau.last_epoch
    progress("write the network", epochs, given.epochs)
    result = TrainResult(
        file=training.export("student.onnx"),
        initial=initial,
        gflops=gflops(student, training.shape),
        kind=student.kind,
        note=training.note,
        epochs=epochs,
        loss=training.plateau.best,
        stopped=stopped,
        tools={name: importlib.metadata.version(name) for name in ("torch", "torchvision", "onnx", "openvino")},
        outputs=student.targets,
    )
    return result.model_dump(mode="json")


class Training:
    """A student and what it learns; the hold-out set decides when to stop. Raises as :func:`train_student`."""

    def __init__(self, request: TrainRequest, progress: ProgressCallback) -> None:
        torch.manual_seed(request.seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        request.folder.mkdir(parents=True, exist_ok=True)
        self.request, self.progress, self.seconds = request, progress, 0.0
        images = torch.from_numpy(np.load(request.tensors).astype(np.float32))
        if len(images) < LEAST:
            raise BadInputError(f"{len(images)} samples are too few to train with", f"use {LEAST}, best hundreds")
        self.shape = tuple(images.shape[1:])
        self.teacher = _teacher(request.teacher, self.shape)
        images = images.permute(0, 3, 1, 2).contiguous() if request.layout == "nhwc" else images
        progress("run the teacher", 0, request.epochs)
        outputs = self._predict(images) if request.labels is None else self._labels(request.labels, images)
        strides = {stride_of(values.shape[1:], images.shape[2:]) for values in outputs.values()}
        targets = [_target(name, values, len(strides) == 1 and 0 not in strides) for name, values in outputs.items()]
        self.student, self.note = fitting(self.shape, targets, request)
        samples = TensorDataset(images, *self._grids(outputs))
        border = len(images) - max(1, round(len(images) * (LESS if self.student.pretrained else HOLD_OUT)))
        known, self.hold_out = samples[:border], TensorDataset(*samples[border:])
        if not self.student.pretrained and request.epochs:
            progress("augment the images", 0, request.epochs)
            known = self._augmented(known)
        self.known = TensorDataset(*known)
        self.student.calibrate(known[0], known[1:])
        self.units = [spread for _, spread in mean_and_spread(targets, known[1:])]
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=request.rate, weight_decay=1e-4)
        patience = request.epochs if self.student.pretrained else PATIENCE
        self.plateau = ReduceLROnPlateau(self.optimizer, factor=LOWER, patience=patience, threshold=0.0)
        """Counts the epochs as well."""
        self.best = deepcopy(self.student.state_dict())

    def _predict(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs of the teacher for N×C×H×W images, name → N×…."""
        element = self.teacher.input(0).element_type.to_dtype()
        images = images.permute(0, 2, 3, 1) if self.request.layout == "nhwc" else images
        rows = [list(self.teacher([image[None].numpy().astype(element)]).values()) for image in images]
        names = [min(port.get_names(), default=f"output{index}") for index, port in enumerate(self.teacher.outputs)]
        found = zip(names, zip(*rows, strict=True), strict=True)
        return {name: torch.from_numpy(np.concatenate(values).astype(np.float32)) for name, values in found}

    def _labels(self, path: Path, images: Tensor) -> dict[str, Tensor]:
        """Return labels in the form of the teacher's only output."""
        outputs = self._predict(images[:1])
        if len(outputs) > 1:
            raise BadInputError(f"labels are for one output, the network has {len(outputs)}")
        labels = torch.from_numpy(np.load(path).astype(np.float32))
        return {name: labels.reshape(-1, *values.shape[1:]) for name, values in outputs.items()}

    def _grids(self, outputs: dict[str, Tensor]) -> list[Tensor]:
        pairs = zip(self.student.targets, outputs.values(), strict=True)
        return [values.reshape(-1, *target.grid) for target, values in pairs]

    def _changed(self, batch: Batch, random: np.random.Generator) -> Batch:
        """Return images changed; a label holds for every copy of an image, the teacher predicts each."""
        images = torch.from_numpy(np.stack([varied(image, "nchw", random) for image in batch[0].numpy()]))
        return images, *(batch[1:] if self.request.labels else self._grids(self._predict(images)))

    def _augmented(self, batch: Batch) -> Batch:
        """Return the images with changed copies of them."""
        images, random = batch[0], np.random.default_rng(self.request.seed)
        fits = COPIED_BYTES // (images.numel() * 4) - 1
        count = max(0, min(max(LEAST_COPIES, COPIES // len(images)), MOST_COPIES, fits))
        copies = [batch, *(self._changed(batch, random) for _ in range(count))]
        return tuple(torch.cat(parts) for parts in zip(*copies, strict=True))

    def run(self) -> str:
        """Train until it stops; leave the best weights in the student, and return why it stopped."""
        path, key = self.request.folder / "checkpoint.pt", self._key()
        parts = {"student": self.student, "optimizer": self.optimizer, "plateau": self.plateau}
        if path.exists() and (state := torch.load(path, weights_only=True))["key"] == key:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            self.best, self.seconds = state["best"], state["seconds"]
            self.progress(
                f"goes on after epoch {self.plateau.last_epoch}", self.plateau.last_epoch, self.request.epochs
            )
        begun = monotonic() - self.seconds
        while not (why := self.why()):
            self._epoch()
            found = self._hold_out_loss()
            if found < self.plateau.best or self.student.pretrained:
                self.best = deepcopy(
                    self.student.state_dict()
                )  # trained at the start, it gets worse first: its last are its best
            self.plateau.step(found)
            self.seconds = monotonic() - begun
            state = {name: part.state_dict() for name, part in parts.items()}
            with replaced(path) as file:
                torch.save(state | {"key": key, "best": self.best, "seconds": self.seconds}, file)
            done = self.plateau.last_epoch
            self.progress(f"epoch {done}, loss {found:.4f}, best {self.plateau.best:.4f}", done, self.request.epochs)
        self.student.load_state_dict(self.best)
        return why

    @property
    def _batch(self) -> int:
        """Images per step."""
        most = LEAST_BATCH if self.student.pretrained else BATCH
        return max(LEAST_BATCH, min(most, MOST_NUMBERS // int(np.prod(self.shape))))

    def why(self) -> str:
        """Return why training stops now, or nothing."""
        done, rate = self.plateau.last_epoch, self.optimizer.param_groups[0]["lr"]
        if done >= self.request.epochs:
            return "epochs"
        if rate < LEAST_RATE * self.request.rate and not self.student.pretrained:
            return "patience"
        return "budget" if done and self.seconds >= self.request.budget_s else ""

    def _epoch(self) -> None:
        self.student.train()
        epoch, request, gentle = self.plateau.last_epoch, self.request, self.student.pretrained
        if gentle:  # falls to zero over the epochs or the time
            done = min(1.0, max(epoch / request.epochs, self.seconds / request.budget_s))
            self.optimizer.param_groups[0]["lr"] = request.rate * GENTLE * (1 + math.cos(math.pi * done)) / 2
        for inputs, *reference in _prefetched(self._batches(np.random.default_rng([request.seed, epoch]))):
            self.optimizer.zero_grad()
            loss(self.student, self.student.logits(inputs), reference, self.units).backward()
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
            self.optimizer.step()

    def _batches(self, random: np.random.Generator) -> Iterator[Batch]:
        for some in torch.from_numpy(random.permutation(len(self.known))).split(self._batch):
            if len(some) >= 2:  # batch normalisation needs two
                yield self._changed(self.known[some], random) if self.student.pretrained else self.known[some]

    def _hold_out_loss(self) -> float:
        student, total, count = self.student.eval(), 0.0, len(self.hold_out)
        with torch.no_grad():
            for some in torch.arange(count).split(self._batch):
                inputs, *reference = self.hold_out[some]
                total += float(loss(student, student.logits(inputs), reference, self.units)) * len(some)
        return total / count

    def _key(self) -> str:
        """Return what a checkpoint belongs to: the request without limits, the student, and the samples."""
        request = self.request.model_dump_json(exclude={"epochs", "budget_s"})
        samples = hashlib.sha256()
        for values in self.known.tensors:
            samples.update(values.numpy().tobytes())
        return f"{self.student.kind} {request} {samples.hexdigest()}"

    def export(self, name: str) -> Path:
        """Write the student as ONNX, with any batch, to a file in the run's folder; return it."""
        path, targets = self.request.folder / name, self.student.targets
        names = [f"output{index}" for index in range(len(targets))]  # the exporter takes no name that is a number
        torch.onnx.export(
            self.student.eval(),
            (torch.zeros(1, *self.shape),),
            str(path),
            input_names=["input"],
            output_names=names,
            dynamic_axes={name: {0: "N"} for name in ("input", *names)},
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
        number_names(model)
        rename_tensors(model, {old: target.name for old, target in zip(names, targets, strict=True)})
        path.write_bytes(model.SerializeToString(deterministic=True))
        return path


def _prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Prepare the next batch, for which the teacher runs, while the present one is learned."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch


def _teacher(path: Path, shape: tuple[int, ...]) -> Any:
    try:
        core = ov.Core()
        model = core.read_model(path)
        model.reshape([1, *shape])
        return one_core(model, core)
    except RuntimeError as error:
        raise ModelError(f"the teacher cannot be run: {reason(error)}") from None


def _target(name: str, values: Tensor, is_map: bool) -> Target:
    """Return what kind of output this is, by its values."""
    flat = values.flatten(1)
    size = flat.shape[1]
    if size > MOST and not is_map:
        raise BadInputError(
            f"output {name} has {size} numbers and is no map of the image; a list of boxes cannot be learned this way",
            "train nodes that classify, measure, embed, place points, or find objects by heat maps",
        )
    if not values.isfinite().all():
        raise ModelError(f"the teacher's output {name} is not finite")
    norms = flat.norm(dim=1)
    if is_map:
        kind = "heat" if is_heat(values.numpy()) else "map"
    elif size > 1 and flat.min() >= 0 and (flat.sum(1) - 1).abs().max() < 1e-2:
        kind = "probabilities"
    else:
        kind = "direction" if size >= 64 and norms.max() - norms.min() < 1e-2 * norms.mean() else "numbers"
    return Target(name=name, shape=tuple(values.shape[1:]), kind=kind)


def loss(student: Student, logits: Sequence[Tensor], reference: Sequence[Tensor], units: Sequence[Tensor]) -> Tensor:
    """Return the mean loss over the outputs, N×C×H×W each; 0 where the student equals the reference.

    Probabilities and heat: KL divergence. Numbers and maps: smooth L1 in `units`. Directions: 1 - cosine.
    """
    parts, weight = [], place_weights(student.targets, reference)
    for target, y, values, unit in zip(student.targets, logits, reference, units, strict=True):
        if target.kind == "heat":
            emphasis = 1 + HOT * values
            error = kl_divergence(Bernoulli(values.clamp(1e-6, 1 - 1e-6)), Bernoulli(logits=y))
            parts.append((error * emphasis).sum() / emphasis.sum() * HEAT)
        elif target.kind == "probabilities":
            parts.append(functional.kl_div(y.log_softmax(1), values.clamp_min(1e-8), reduction="batchmean"))
        elif target.kind == "direction":
            parts.append((1 - functional.cosine_similarity(y, values)).mean())
        else:
            error = functional.smooth_l1_loss(y / unit, values / unit, beta=student.beta, reduction="none")
            parts.append((error * weight).sum() / (weight.sum() * values.shape[1]).clamp_min(1e-6))
    return torch.stack(parts).mean()
