"""A training run in a child process: teacher, augmentation, student, the loop with its losses, export.

An epoch depends only on the seed, its number and the state before it, so a run that was killed and continued ends with
the same weights.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from copy import deepcopy
from math import prod
from pathlib import Path
from statistics import fmean
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
from torch.utils.data import DataLoader, TensorDataset

from hams_services.optimizer.accuracy.heatmaps import is_heat
from hams_services.optimizer.augmentation import varied
from hams_services.optimizer.distill.request import TrainRequest, TrainResult
from hams_services.optimizer.distill.students import Kind, Student, Target, fitting, gflops, place_weights
from hams_services.optimizer.importing.onnx_file import number_names, rename_tensors
from hams_services.optimizer.onnx_graph.run_openvino import one_core
from hams_services.optimizer.progress import ProgressCallback
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import BadInputError, ModelError
from hams_shared.runtime.files import replaced

LEAST, MOST, HOLD_OUT = 20, 4096, 0.2
"""Least samples; most numbers of an output that is no map; part of the samples, the last, that measures the loss."""
COPIES, LEAST_COPIES, MOST_COPIES, COPIED_BYTES = 1200, 3, 15, 1 << 30
"""Changed images in all, and per image; and bytes of all images together."""
BATCH, MOST_NUMBERS = 32, 6_000_000
"""Most images per step, and most numbers, if these are more than 4 images."""
GENTLE, LEAST_RATE = 0.025, 0.01
"""Factor of the learning rate where a student starts trained; and the least learning rate, as a part of the first."""


def train_student(request: dict[str, Any], progress: ProgressCallback) -> dict[str, Any]:
    """Run a :class:`TrainRequest` in this process; return its :class:`TrainResult`.

    Raises:
        BadInputError: too few samples, outputs that cannot be learned, or a budget below the smallest student.
        ModelError: the teacher cannot be run.
    """
    given = TrainRequest.model_validate(request)
    training = Training(given, progress)
    student, stopped, epochs = training.student, training.run(), training.plateau.last_epoch
    progress("write the network", epochs, given.epochs)
    result = TrainResult(
        file=training.export(),
        gflops=gflops(student, training.shape),
        kind=student.kind,
        note=training.note,
        epochs=epochs,
        loss=training.plateau.best,
        stopped=stopped,
        tools={name: importlib.metadata.version(name) for name in ("torch", "torchvision", "onnx", "openvino")},
        outputs={target.name: target.kind for target in student.targets},
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
        reference = self._predict(images[:1] if request.labels else images)
        if request.labels and len(reference) > 1:
            raise BadInputError(f"labels are for one output, the network has {len(reference)}")
        if request.labels:
            labels = torch.from_numpy(np.load(request.labels).astype(np.float32))
            reference = [labels.reshape(-1, *reference[0].shape[1:])]
        maps = are_maps(reference, images)
        ports = zip(self.teacher.outputs, reference, strict=True)
        self.targets = [target_of(port.any_name, values, maps) for port, values in ports]
        self.student, self.note = fitting(self.shape, self.targets, request)
        samples = TensorDataset(images, *self._grids(reference))
        border = len(images) - round(len(images) * HOLD_OUT)
        self.hold_out = TensorDataset(*samples[border:])
        self.known = TensorDataset(*self._augmented(samples[:border]))
        inputs, *wanted = samples[:border] if self.student.pretrained else self.known.tensors
        self.student.calibrate(inputs, wanted)
        self.rate = request.rate * (GENTLE if self.student.pretrained else 1)
        self.optimizer = torch.optim.AdamW(self.student.parameters(), self.rate, weight_decay=1e-4)
        self.plateau = ReduceLROnPlateau(self.optimizer, factor=0.4, patience=4, threshold=0.0)
        """Counts the epochs as well."""
        self.plateau.best, self.best = self._hold_out_loss(), deepcopy(self.student.state_dict())

    def _predict(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of the teacher for N×C×H×W images, N×… each."""
        element = self.teacher.input(0).element_type.to_dtype()
        images = images.permute(0, 2, 3, 1) if self.request.layout == "nhwc" else images
        rows = [self.teacher([image[None].numpy().astype(element)]).to_tuple() for image in images]
        return [torch.from_numpy(np.concatenate(values).astype(np.float32)) for values in zip(*rows, strict=True)]

    def _grids(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        return [values.reshape(-1, *target.grid) for target, values in zip(self.targets, outputs, strict=True)]

    def _augmented(self, batch: Sequence[Tensor]) -> list[Tensor]:
        """Return images and reference with changed copies: a label holds for each, the teacher predicts each."""
        images, random = batch[0], np.random.default_rng(self.request.seed)
        fits = COPIED_BYTES // (images.numel() * 4) - 1
        count = max(0, min(max(LEAST_COPIES, COPIES // len(images)), MOST_COPIES, fits)) if self.request.epochs else 0
        parts = [tuple(batch)]
        for done in range(count):
            self.progress("augment the images", done, count)
            changed = torch.from_numpy(np.stack([varied(image, "nchw", random) for image in images.numpy()]))
            parts.append((changed, *(batch[1:] if self.request.labels else self._grids(self._predict(changed)))))
        return [torch.cat(values) for values in zip(*parts, strict=True)]

    def run(self) -> str:
        """Train until it stops; leave the best weights in the student, and return why it stopped."""
        request = self.request
        data = [file.read_bytes() for file in (request.tensors, request.labels) if file]
        limits = {"epochs", "budget_s"}
        key = hashlib.sha256(b"".join([request.model_dump_json(exclude=limits).encode(), *data])).hexdigest()
        path = request.folder / "checkpoint.pt"
        parts = {"student": self.student, "optimizer": self.optimizer, "plateau": self.plateau}
        if path.exists() and (state := torch.load(path, weights_only=True))["key"] == key:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            self.best, self.seconds, done = state["best"], state["seconds"], self.plateau.last_epoch
            self.progress(f"goes on after epoch {done}", done, self.request.epochs)
        begun = monotonic() - self.seconds
        while not (why := self.why()):
            self._epoch()
            found = self._hold_out_loss()
            if found < self.plateau.best:
                self.best = deepcopy(self.student.state_dict())
            self.plateau.step(found)
            self.seconds = monotonic() - begun
            state = {name: part.state_dict() for name, part in parts.items()}
            with replaced(path) as file:
                torch.save(state | {"key": key, "best": self.best, "seconds": self.seconds}, file)
            done = self.plateau.last_epoch
            self.progress(f"epoch {done}, loss {found:.4f}, best {self.plateau.best:.4f}", done, self.request.epochs)
        self.student.load_state_dict(self.best)
        return why

    def why(self) -> str:
        """Return why training stops now, or nothing."""
        done = self.plateau.last_epoch
        if done >= self.request.epochs:
            return "epochs"
        if self.optimizer.param_groups[0]["lr"] < LEAST_RATE * self.rate:
            return "patience"
        return "budget" if done and self.seconds >= self.request.budget_s else ""

    def _epoch(self) -> None:
        self.student.train()
        random = np.random.default_rng([self.request.seed, self.plateau.last_epoch])
        size = max(4, min(BATCH, MOST_NUMBERS // prod(self.shape)))
        for some in torch.from_numpy(random.permutation(len(self.known))).split(size):
            if len(some) < 2:
                continue  # batch normalisation needs two
            inputs, *reference = self.known[some]
            self.optimizer.zero_grad()
            loss(self.student, self.student.logits(inputs), reference).backward()
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
            self.optimizer.step()

    def _hold_out_loss(self) -> float:
        student, losses = self.student.eval(), []
        with torch.no_grad():
            for inputs, *reference in DataLoader(self.hold_out):
                losses.append(float(loss(student, student.logits(inputs), reference)))
        return fmean(losses)

    def export(self) -> Path:
        """Write the student as ONNX, with any batch, to a file in the run's folder; return it."""
        path = self.request.folder / "student.onnx"
        names = {f"output{index}": one.name for index, one in enumerate(self.targets)}  # it takes no number as a name
        torch.onnx.export(
            self.student.eval(),
            (torch.zeros(1, *self.shape),),
            str(path),
            input_names=["input"],
            output_names=list(names),
            dynamic_axes={name: {0: "N"} for name in ("input", *names)},
            opset_version=17,
            dynamo=False,
        )
        model = onnx.load(path)
        number_names(model)
        rename_tensors(model, names)
        path.write_bytes(model.SerializeToString(deterministic=True))
        return path


def _teacher(path: Path, shape: tuple[int, ...]) -> Any:
    try:
        core = ov.Core()
        model = core.read_model(path)
        model.reshape([1, *shape])
        return one_core(model, core)
    except RuntimeError as error:
        raise ModelError(f"the teacher cannot be run: {reason(error)}") from None


def are_maps(outputs: Sequence[Tensor], images: Tensor) -> bool:
    """Return whether all outputs are maps N×C×H×W, smaller than the images by the same 4, 8 or 16."""
    grids = [[side // stride for side in images.shape[2:]] for stride in (4, 8, 16)]
    return any(min(grid) >= 8 and all([*y.shape[2:]] == grid for y in outputs) for grid in grids)


def target_of(name: str, values: Tensor, is_map: bool) -> Target:
    """Return what kind of output this is, by its values. Raises BadInputError, ModelError: it cannot be learned."""
    flat = values.flatten(1)
    size, norms = flat.shape[1], flat.norm(dim=1)
    if size > MOST and not is_map:
        raise BadInputError(
            f"output {name} has {size} numbers and is no map of the image; a list of boxes cannot be learned this way",
            "train nodes that classify, measure, embed, place points, or find objects by heat maps",
        )
    if not values.isfinite().all():
        raise ModelError(f"the teacher's output {name} is not finite")
    kind: Kind = "numbers"
    if is_map:
        kind = "heat" if is_heat(values.numpy()) else "map"
    elif size > 1 and flat.min() >= 0 and (flat.sum(1) - 1).abs().max() < 1e-2:
        kind = "probabilities"
    elif size >= 64 and norms.max() - norms.min() < 1e-2 * norms.mean():
        kind = "direction"
    return Target(name, tuple(values.shape[1:]), kind)


def loss(student: Student, logits: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
    """Return the mean loss over the outputs, N×C×H×W each; 0 where the student equals the reference.

    Probabilities and heat: KL divergence. Numbers and maps: smooth L1 in its `units`. Directions: 1 - cosine.
    """
    parts, weight = [], place_weights(student.targets, reference)
    for target, y, values, unit in zip(student.targets, logits, reference, student.units, strict=True):
        if target.kind == "heat":
            emphasis = 1 + 50 * values  # places with heat are few
            error = kl_divergence(Bernoulli(values.clamp(1e-6, 1 - 1e-6)), Bernoulli(logits=y))
            parts.append((error * emphasis).sum() / emphasis.sum() * 20)  # against the other outputs
        elif target.kind == "probabilities":
            parts.append(functional.kl_div(y.log_softmax(1), values.clamp_min(1e-8), reduction="batchmean"))
        elif target.kind == "direction":
            parts.append((1 - functional.cosine_similarity(y, values)).mean())
        else:
            error = functional.smooth_l1_loss(y / unit, values / unit, beta=0.5, reduction="none")
            parts.append((error * weight).sum() / (weight.sum() * values.shape[1]).clamp_min(1e-6))
    return torch.stack(parts).mean()
