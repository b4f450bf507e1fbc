"""A student for one node, from samples to measured variants; the training itself runs in a child process."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.evaluate import Candidate
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.distill.request import TrainRequest, TrainResult
from hams_services.optimizer.passes.precision.precision_pass import convert
from hams_services.optimizer.progress import ProgressCallback
from hams_services.optimizer.sandbox.process import JOBS, JobProcess
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_shared.errors import BadInputError
from hams_shared.group.spec import NodeSpec
from hams_shared.wire.messages.optimizer import JobRecord
from hams_shared.wire.variants import VariantRecord

START_S = 600
"""CPU time besides the epochs, to run the teacher and to write the network, s."""
SIZES = [10 / 2 ** (quarter / 4) for quarter in range(64)]
"""GFLOPs of students that are timed, the largest first."""


@dataclass
class Distill:
    """Trains a student of `node`'s network; blocking. The bounds of the builder's process end it at any time."""

    name: str
    node: NodeSpec
    teacher: VariantRecord
    builder: VariantBuilder
    folder: Path
    """Of this run: checkpoint and results. A run with the same folder continues where it was stopped."""
    progress: ProgressCallback
    origin: VariantRecord | None = None
    """The same network as ONNX, with which a student of maps may start."""
    bf16: bool = True
    """Whether a device computes in bf16."""

    def run(self, samples: Path, job: JobRecord) -> tuple[list[VariantRecord], TrainResult]:
        """Train on the images of `samples`, without the hold-out set; return the student's variants, measured.

        Size, epochs and time are as in `job`. If it has labels, the student learns the folder's labels.json instead of
        the teacher's outputs.

        Raises:
            BadInputError: PyTorch is not installed, too few samples, outputs that cannot be learned, or a budget below
                the smallest student.
        """
        if missing := [name for name in ("torch", "torchvision", "onnx2torch") if find_spec(name) is None]:
            raise BadInputError(f"training needs {missing[0]}", 'pip install "hams[train]"')
        found = NodeSamples.of(self.name, self.node, samples, 1_000_000)
        request = self._request(found, job)
        if not job.gflops:
            request = request.model_copy(update={"gflops": self._gflops_for(job, request, found)})
        result = self._train(request)
        records = self.builder.measure(self.teacher, self._stored(result, request), found)
        if job.labels:
            records = self.builder.measure_labels(records, self.name, self.node, samples)
        return records, result

    def _request(self, samples: NodeSamples, job: JobRecord) -> TrainRequest:
        """Write the inputs, and the labels, of a run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names, targets = samples.calibration, None
        if job.labels:
            labels = sampling.read_labels(samples.folder)
            names, targets = [name for name in names if name in labels], self.folder / "labels.npy"
            np.save(targets, np.stack([self._target(labels[name], name) for name in names]))
        self.progress("prepare samples", 0, 0)
        evaluator = self.builder.evaluator(self.builder.devices[self.teacher.made.format])
        evaluator.tensors(self.node, samples.folder, names, self.folder / "tensors.npy")
        return TrainRequest(
            tensors=self.folder / "tensors.npy",
            teacher=self.builder.store.path(self.teacher),
            origin=self.builder.store.path(self.origin) if self.origin is not None else None,
            labels=targets,
            folder=self.folder,
            layout=self.node.input.layout,
            gflops=job.gflops or SIZES[0],
            epochs=job.epochs,
            budget_s=job.budget_s,
        )

    def _target(self, label: Any, name: str) -> np.ndarray:
        """Return the network's output for one label. Raises BadInputError."""
        task, given = self.node.task.model_dump(), label if isinstance(label, dict) else {}
        if task["type"] == "classification" and given.get("label") in task["labels"]:
            return np.array([one == given["label"] for one in task["labels"]], np.float32)
        if task["type"] == "regression" and isinstance(given.get("value"), int | float):
            return np.array([(given["value"] - task.get("offset", 0.0)) / task.get("scale", 1.0)], np.float32)
        hint = 'training uses labels {"label": …} and {"value": …}'
        raise BadInputError(f"the label of {name} does not fit node {self.name}", hint)

    def _gflops_for(self, job: JobRecord, request: TrainRequest, samples: NodeSamples) -> float:
        """Return the GFLOPs of the largest student that reaches the FPS on the device, by measuring untrained ones."""
        if job.fps <= 0:
            raise BadInputError("neither a budget nor a speed is given", "--gflops, or --fps with --device")
        evaluator = self.builder.evaluator(job.device or self.builder.devices["openvino"])

        def speed(gflops: float) -> float:
            self.progress(f"size for {job.fps:g} images/s", 0, 0)
            update = {"folder": self.folder / "speed", "epochs": 0, "gflops": gflops}
            path = self._train(request.model_copy(update=update)).file
            candidate = Candidate(path, sampling.digest_of(path.parent, [path.name]))
            names = samples.hold_out[:8]
            (found,) = evaluator.decode(self.name, self.node, [candidate], samples.folder, names, time_it=True)
            if found.error is not None:
                raise found.error
            return found.fps or 0.0

        return largest_at(job.fps, speed, evaluator.device)

    def _train(self, request: TrainRequest) -> TrainResult:
        """Run one request in a child process. Raises its errors."""
        seconds = int(2 * request.budget_s) + START_S
        limits = replace(self.builder.job.limits, cpu_s=seconds, wall_s=2.0 * seconds)

        def progress(text: str, done: int, total: int) -> None:
            if request.epochs:
                self.progress(f"train {self.name}: {text}", done, total)

        with JobProcess(request.folder, limits, self.builder.job.bounds) as process:
            arguments = {"request": request.model_dump(mode="json")}
            answer = process.run(JOBS["train"], arguments, what="training", progress=progress)
        return TrainResult.model_validate(answer)

    def _stored(self, result: TrainResult, request: TrainRequest) -> list[VariantRecord]:
        """Store the student in each format."""
        settings = {
            "student": result.kind,
            "gflops": f"{result.gflops:.4f}",
            "epochs": str(result.epochs),
            "seed": str(request.seed),
            "learned from": "labels" if request.labels else "teacher",
        }
        onnx = self.builder.derive(self.teacher, {"tools": result.tools}, settings, [str(result.file)], format="onnx")
        records = [self.builder.as_ir(onnx), onnx]
        return [*records, convert(self.builder, records[0], "bf16")] if self.bf16 else records


def largest_at(fps: float, speed: Callable[[float], float], device: str) -> float:
    """Return the largest of `SIZES` whose `speed`, images/s by GFLOPs, reaches `fps`.

    Raises:
        BadInputError: none does, down to the smallest student; or `speed` raises it for the largest.
    """
    tried = {SIZES[0]: speed(SIZES[0])}

    def known(gflops: float) -> float:
        try:
            return tried.get(gflops) or tried.setdefault(gflops, speed(gflops))
        except BadInputError:
            return inf  # below the smallest student

    found = SIZES[bisect_left(SIZES, fps, hi=len(SIZES) - 1, key=known)]
    if tried.get(found, 0.0) < fps:
        text = f"no student reaches {fps:g} images/s on {device}; the fastest reaches {max(tried.values()):.0f}"
        raise BadInputError(text, "a lower --fps")
    return found
