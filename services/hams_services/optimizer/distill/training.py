"""A training run in a child process: teacher, augmentation, student, the loop with its losses, export.

An epoch depends only on its number and the state before it, so a run that was killed and continued ends with the same
weights.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from copy import deepcopy
from math import prod
from pathlib import Path
from statistics import fmean
from time import monotonic
from typing import Any, Literal

import numpy as np
import onnx
import openvino as ov
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset
from torchvision.ops import Permute

from hams_services.optimizer.accuracy.heatmaps import is_heat
from hams_services.optimizer.accuracy.samples import digest_of
from hams_services.optimizer.augmentation import varied
from hams_services.optimizer.distill.students import SEED, Target, fitting, gflops
from hams_services.optimizer.importing.onnx_file import number_names
from hams_services.optimizer.onnx_graph.run_openvino import one_core, outputs_of
from hams_services.optimizer.progress import ProgressCallback
from hams_shared.errors import BadInputError, ModelError
from hams_shared.group.findings import Strict
from hams_shared.runtime.files import replaced

LEAST, MOST, HOLD_OUT = 20, 4096, 0.2
"""Least samples; most numbers of an output that is no map; part of the samples, the last, that measures the loss."""
COPIES, LEAST_COPIES, MOST_COPIES, COPIED_BYTES = 1200, 3, 15, 1 << 30
"""Changed images in all, and per image; and bytes of all images together."""


class TrainRequest(Strict):
    """A run. The same request with the same folder continues a run that was stopped."""

    folder: Path = Field(description="has tensors.npy, inputs of the network, N×…; gets the checkpoint and the student")
    teacher: Path = Field(description="network whose outputs are learned")
    origin: Path | None = Field(None, description="the teacher's ONNX file, with which a student of maps may start")
    labels: bool = Field(False, description="learn labels.npy of the folder, N×K, the only output, not the teacher's")
    layout: Literal["nchw", "nhwc"] = "nchw"
    gflops: float = Field(gt=0, description="most multiplications and additions of one inference, 10⁹")
    epochs: int = Field(200, ge=0, description="0: the untrained student, to measure its speed, of any size")
    rate: float = Field(2e-3, gt=0, description="learning rate")
    budget_s: float = Field(600.0, gt=0, description="no epoch starts after this time, s")


def train_student(request: dict[str, Any], progress: ProgressCallback) -> dict[str, Any]:
    """Run a :class:`TrainRequest` in this process; return the student's ``files`` (ONNX), and how it came about.

    These are its ``kind`` and ``gflops``, a ``note`` why it does not start as the teacher, the ``epochs``, the ``loss``
    on the hold-out set, why training ``stopped`` (patience, epochs, budget), and ``tools``.

    Raises:
        BadInputError: too few samples, outputs that cannot be learned, or a budget below the smallest student.
        ModelError: the teacher's outputs are not finite.
    """
    training = Training(TrainRequest.model_validate(request), progress)
    stopped, epochs = training.run(), training.plateau.last_epoch
    progress("write the network", epochs, training.request.epochs)
    return {
        "files": [training.export()],
        "gflops": gflops(training.best, training.shape),
        "kind": training.best.kind,
        "note": training.note,
        "epochs": epochs,
        "loss": training.plateau.best,
        "stopped": stopped,
        "tools": {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "onnx", "openvino")},
    }


class Training:
    """A student and what it learns; the hold-out set decides when to stop. Raises as :func:`train_student`."""

    def __init__(self, request: TrainRequest, progress: ProgressCallback) -> None:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        self.request, self.progress, self.seconds, self.nhwc = request, progress, 0.0, request.layout == "nhwc"
        images = torch.from_numpy(np.load(request.folder / "tensors.npy").astype(np.float32))
        if len(images) < LEAST:
            raise BadInputError(f"{len(images)} samples are too few to train with", f"use {LEAST}, best hundreds")
        model = ov.Core().read_model(request.teacher)
        model.reshape([1, *images.shape[1:]])
        self.teacher = one_core(model)
        images = images.permute(0, 3, 1, 2).contiguous() if self.nhwc else images
        self.shape = images.shape[1:]
        progress("run the teacher", 0, request.epochs)
        reference = self._predict(images[:1] if request.labels else images)
        if request.labels:
            if len(reference) > 1:
                raise BadInputError(f"labels are for one output, the network has {len(reference)}")
            labels = torch.from_numpy(np.load(request.folder / "labels.npy").astype(np.float32))
            reference = [labels.reshape(-1, *reference[0].shape[1:])]
        maps, ports = are_maps(reference, images), zip(self.teacher.outputs, reference, strict=True)
        self.targets = [target_of(port.any_name, values, maps) for port, values in ports]
        self.student, self.note = fitting(self.shape, self.targets, request.gflops, request.origin, self.nhwc)
        if request.epochs and (needed := gflops(self.student, self.shape)) > request.gflops:
            raise BadInputError(f"the smallest student needs {needed:.4f} GFLOPs", "a larger --gflops")
        samples = TensorDataset(images, self._joined(reference))
        border = len(images) - round(len(images) * HOLD_OUT)
        self.hold_out, self.known = TensorDataset(*samples[border:]), self._augmented(*samples[:border])
        self.student.calibrate(*samples[torch.linspace(0, border - 1, 64).long().unique()])
        self.rate = request.rate * (0.025 if self.student.pretrained else 1)  # a trained network changes gently
        self.optimizer = torch.optim.AdamW(self.student.parameters(), self.rate, weight_decay=1e-4)
        self.plateau = ReduceLROnPlateau(self.optimizer, factor=0.4, patience=4, threshold=0.0)  # counts the epochs
        self.plateau.best, self.best = self._hold_out_loss(), deepcopy(self.student)

    def _predict(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of the teacher for N×C×H×W images, N×… each."""
        images = images.permute(0, 2, 3, 1) if self.nhwc else images
        found = outputs_of(self.teacher, images.numpy().astype(self.teacher.input(0).element_type.to_dtype()))
        return [torch.from_numpy(np.concatenate(values)) for values in found]

    def _joined(self, outputs: Sequence[Tensor]) -> Tensor:
        return torch.cat([y.reshape(-1, *one.grid) for one, y in zip(self.targets, outputs, strict=True)], 1)

    def _augmented(self, images: Tensor, wanted: Tensor) -> TensorDataset:
        """Return the samples with changed copies: a label holds for each, the teacher predicts each."""
        random, fits = np.random.default_rng(SEED), COPIED_BYTES // images.nbytes - 1
        count = min(max(LEAST_COPIES, COPIES // len(images)), MOST_COPIES, fits) if self.request.epochs else 0
        parts = [(images, wanted)]
        for done in range(count):
            self.progress("augment the images", done, count)
            changed = torch.from_numpy(np.stack([varied(image, "nchw", random) for image in images.numpy()]))
            parts.append((changed, wanted if self.request.labels else self._joined(self._predict(changed))))
        return TensorDataset(*map(torch.cat, zip(*parts, strict=True)))

    def run(self) -> str:
        """Train until it stops, from the checkpoint where there is one; return why it stopped."""
        request, path = self.request, self.request.folder / "checkpoint.pt"
        given = request.model_dump_json(exclude={"epochs", "budget_s"})
        key = given + digest_of(request.folder, ["tensors.npy", *["labels.npy"] * request.labels])
        parts = {"student": self.student, "best": self.best, "optimizer": self.optimizer, "plateau": self.plateau}
        if path.exists() and (state := torch.load(path, weights_only=True))["key"] == key:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            self.seconds, done = state["seconds"], self.plateau.last_epoch
            self.progress(f"goes on after epoch {done}", done, request.epochs)
        begun = monotonic() - self.seconds
        while not (why := self.why()):
            self._epoch()
            found = self._hold_out_loss()
            if found < self.plateau.best:
                self.best.load_state_dict(self.student.state_dict())
            self.plateau.step(found)
            self.seconds, done = monotonic() - begun, self.plateau.last_epoch
            state = {name: part.state_dict() for name, part in parts.items()}
            with replaced(path) as file:
                torch.save(state | {"key": key, "seconds": self.seconds}, file)
            self.progress(f"epoch {done}, loss {found:.4f}, best {self.plateau.best:.4f}", done, request.epochs)
        return why

    def why(self) -> str:
        """Return why training stops now, or nothing."""
        done = self.plateau.last_epoch
        if done >= self.request.epochs:
            return "epochs"
        if self.optimizer.param_groups[0]["lr"] < 0.01 * self.rate:
            return "patience"
        return "budget" if done and self.seconds >= self.request.budget_s else ""

    def _epoch(self) -> None:
        self.student.train(not self.student.pretrained)  # a trained one keeps its statistics: batches are small
        order = torch.Generator().manual_seed(self.plateau.last_epoch)
        size = max(4, min(32, 6_000_000 // prod(self.shape)))  # fewer of large images
        for inputs, wanted in DataLoader(self.known, size, shuffle=True, drop_last=True, generator=order):
            self.optimizer.zero_grad()
            self.student.loss(self.student.logits(inputs), wanted).backward()
            nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
            self.optimizer.step()

    def _hold_out_loss(self) -> float:
        student = self.student.eval()
        with torch.no_grad():
            return fmean(float(student.loss(student.logits(x), wanted)) for x, wanted in DataLoader(self.hold_out))

    def export(self) -> str:
        """Write the best student as ONNX, for the node's layout and any batch; return the file, in the run's folder."""
        path, student, image = self.request.folder / "student.onnx", self.best.eval(), torch.zeros(1, *self.shape)
        names = {f"output{index}": one.name for index, one in enumerate(self.targets)}  # it takes no number as a name
        torch.onnx.export(
            nn.Sequential(Permute([0, 3, 1, 2]), student) if self.nhwc else student,
            (image.permute(0, 2, 3, 1) if self.nhwc else image,),
            str(path),
            input_names=["input"],
            output_names=list(names),
            dynamic_axes={name: {0: "N"} for name in ("input", *names)},
            opset_version=17,
            dynamo=False,
        )
        model = onnx.load(path)
        number_names(model, names)
        path.write_bytes(model.SerializeToString(deterministic=True))
        return str(path)


def are_maps(outputs: Sequence[Tensor], images: Tensor) -> bool:
    """Return whether all outputs are maps N×C×H×W, smaller than the images by the same 4, 8 or 16."""
    grids = [torch.Size(side // stride for side in images.shape[2:]) for stride in (4, 8, 16)]
    return any(min(grid) >= 8 and all(values.shape[2:] == grid for values in outputs) for grid in grids)


def target_of(name: str, values: Tensor, is_map: bool) -> Target:
    """Return what kind of output this is, by its values. Raises BadInputError, ModelError: it cannot be learned."""
    flat, shape, size = values.flatten(1), tuple(values.shape[1:]), values[0].numel()
    if size > MOST and not is_map:
        raise BadInputError(
            f"output {name} has {size} numbers and is no map of the image; a list of boxes cannot be learned this way",
            "train nodes that classify, measure, embed, place points, or find objects by heat maps",
        )
    if not values.isfinite().all():
        raise ModelError(f"the teacher's output {name} is not finite")
    if is_map:
        return Target(name, shape, "heat" if is_heat(values.numpy()) else "numbers", shape)
    probabilities = size > 1 and flat.min() >= 0 and (flat.sum(1) - 1).abs().max() < 1e-2
    return Target(name, shape, "probabilities" if probabilities else "numbers", (size, 1, 1))
