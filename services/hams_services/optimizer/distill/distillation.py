"""A student for one node, from samples to measured variants; the training itself runs in a child process."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.evaluate import Candidate
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.passes.precision.precision_pass import convert
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_shared.errors import BadInputError
from hams_shared.group.node_spec import NodeSpec
from hams_shared.wire.messages.optimizer import JobRecord
from hams_shared.wire.variants import VariantRecord, shortfall, task_key

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
    """Of this run: samples, checkpoint, student. A run with the same folder continues where it was stopped."""
    origin: VariantRecord | None = None
    """The same network as ONNX, with which a student of maps may start."""
    bf16: bool = True
    """Whether a device computes in bf16."""

    def run(self, samples: Path, job: JobRecord) -> tuple[list[VariantRecord], dict[str, Any]]:
        """Train on the images of `samples`, without the hold-out set; return measured variants, and how they were made.

        Size, epochs and time are as in `job`. If it has labels, the student learns the folder's labels.json instead of
        the teacher's outputs. For the second part of the answer see :func:`.training.train_student`.

        Raises:
            BadInputError: PyTorch is not installed, too few samples, outputs that cannot be learned, or a budget below
                the smallest student.
        """
        if missing := [name for name in ("torch", "torchvision", "onnx2torch") if find_spec(name) is None]:
            raise BadInputError(f"training needs {missing[0]}", 'pip install "hams[train]"')
        found = NodeSamples.of(self.name, self.node, samples, 1_000_000)
        try:
            request = self._request(found, job)
            if not job.gflops:
                request["gflops"] = self._gflops_for(job, request, found)
            answer = self._train(request, f"train {self.name}")
        finally:  # pictures of people, perhaps; a run that continues writes them anew
            for name in ("tensors.npy", "labels.npy"):
                (self.folder / name).unlink(missing_ok=True)
        records = self.builder.measure(self.teacher, self._stored(answer, job), found)
        if job.labels:
            records = self.builder.measure_labels(records, found)
        return records, answer

    def _request(self, samples: NodeSamples, job: JobRecord) -> dict[str, Any]:
        """Write the inputs, and the labels, of a run."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = samples.calibration
        if job.labels:
            labels = sampling.read_labels(samples.folder)
            names = [name for name in names if name in labels]
            if not names:
                text = f"{samples.folder / sampling.LABELS} has no label for the first two thirds of the images"
                raise BadInputError(text, "training uses these; the others are for comparing")
            np.save(self.folder / "labels.npy", np.stack([self._target(labels[name], name) for name in names]))
        self.builder.progress("prepare samples")
        evaluator = self.builder.evaluator(self.builder.devices[self.teacher.made.format])
        evaluator.tensors(self.node, samples.folder, names, self.folder / "tensors.npy")
        return {
            "folder": str(self.folder),
            "teacher": str(self.builder.store.path(self.teacher)),
            "origin": str(self.builder.store.path(self.origin)) if self.origin else None,
            "labels": bool(job.labels),
            "layout": self.node.input.layout,
            "gflops": job.gflops,
            "epochs": job.epochs,
            "budget_s": job.budget_s,
        }

    def _target(self, label: Any, name: str) -> np.ndarray:
        """Return the network's output for one label. Raises BadInputError."""
        task, given = self.node.task.model_dump(), label if isinstance(label, dict) else {}
        if task["type"] == "classification" and given.get("label") in task["labels"]:
            return np.array([one == given["label"] for one in task["labels"]], np.float32)
        if task["type"] == "regression" and isinstance(given.get("value"), int | float):
            return np.array([(given["value"] - task.get("offset", 0.0)) / task.get("scale", 1.0)], np.float32)
        hint = 'training uses labels {"label": …} and {"value": …}'
        raise BadInputError(f"the label of {name} does not fit node {self.name}", hint)

    def _gflops_for(self, job: JobRecord, request: dict[str, Any], samples: NodeSamples) -> float:
        """Return the GFLOPs of the largest student that reaches the FPS on the device, by timing untrained ones."""
        if job.fps <= 0:
            raise BadInputError("neither a budget nor a speed is given", "--gflops, or --fps with --device")
        evaluator = self.builder.evaluator(job.device or self.builder.devices["openvino"])
        timed: dict[float, tuple[float, float]] = {}

        def speed(most: float) -> float:
            answer = self._train(request | {"epochs": 0, "gflops": most}, f"size for {job.fps:g} images/s")
            file, names = Path(answer["files"][0]), samples.hold_out[:8]
            candidate = Candidate(file, sampling.digest_of(file.parent, [file.name]))
            [found] = evaluator.decode(self.name, self.node, [candidate], samples.folder, names, time_it=True)
            if found.error is not None:
                raise found.error
            timed[most] = found.fps, answer["gflops"]
            return found.fps

        index = bisect_left(SIZES, job.fps, key=speed)
        if index == len(SIZES):
            text = f"no student reaches {job.fps:g} images/s on {evaluator.device}"
            raise BadInputError(f"{text}; the fastest reaches {max(timed.values())[0]:.0f}", "a lower --fps")
        return timed[SIZES[index]][1]

    def _train(self, request: dict[str, Any], doing: str) -> dict[str, Any]:
        """Run one request in a child process. Raises its errors."""
        seconds = int(2 * request["budget_s"]) + START_S
        limits = replace(self.builder.job.limits, cpu_s=seconds, wall_s=2.0 * seconds)

        def progress(text: str, done: int = 0, total: int = 0, /) -> None:
            self.builder.progress(f"{doing}: {text}", done, total)

        with JobProcess(self.folder, limits, self.builder.job.bounds) as process:
            return process.call("train", progress=progress, request=request)

    def _stored(self, answer: dict[str, Any], job: JobRecord) -> list[VariantRecord]:
        """Store the student in each format."""
        settings = {
            "student": answer["kind"],
            "gflops": f"{answer['gflops']:.4f}",
            "epochs": str(answer["epochs"]),
            "learned from": "labels" if job.labels else "teacher",
        }
        onnx = self.builder.derive(self.teacher, answer, settings, format="onnx")
        records = [self.builder.as_ir(onnx), onnx]
        return [*records, convert(self.builder, records[0], "bf16")] if self.bf16 else records


def student_text(name: str, node: NodeSpec, records: list[VariantRecord], done: dict[str, Any]) -> str:
    """Return what came of a training, in a line."""
    agreed = records[0].agreements.get(task_key(node))
    right = records[0].agreements.get(task_key(node) + ":labels")
    labelled = f", right on {right.value:.4f} of the labels" if right else ""
    verdict = shortfall(records[0], node, node.min_agreement) or "it may serve"
    return (
        f"student of {name} ({done['kind']}): {done['gflops']:.4f} GFLOPs, {done['epochs']} epochs "
        f"({done['stopped']}), agreement {agreed.value if agreed else 0:.4f}{labelled}; {verdict}"
        f"{'; ' if done['note'] else ''}{done['note']}"
    )
