"""A student for one node, from samples to a measured variant; the training itself runs in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.evaluate import Candidate
from hams_services.optimizer.distill.request import TrainRequest, TrainResult
from hams_services.optimizer.sandbox.process import JOBS, JobProcess
from hams_services.optimizer.variant_builder import Shown, Workshop
from hams_shared.errors import BadInputError
from hams_shared.group.spec import NodeSpec
from hams_shared.wire.variants import Made, RuntimeFormat, VariantRecord, task_key

Told = Callable[[str, int, int], None]
START_S = 600
"""CPU time beside the epochs: to ask the teacher, and to write the network, s."""
LARGEST, SMALLEST = 10.0, 1e-4
"""GFLOPs between which a budget is searched for a wanted FPS."""
TRIES = 7


@dataclass
class Distill:
    """Trains a student of `node`'s network; blocking. The bounds of the workshop's process end it at any time."""

    name: str
    node: NodeSpec
    teacher: VariantRecord
    workshop: Workshop
    folder: Path
    """Of this run: request, checkpoint, what comes out. A run with the same folder goes on where it was stopped."""
    told: Told
    origin: VariantRecord | None = None
    """The same network as ONNX: a student may begin as it."""
    bf16: bool = True
    """Whether some device computes in it."""

    def run(
        self,
        samples: Path,
        *,
        gflops: float,
        fps: float,
        device: str,
        epochs: int,
        budget_s: float,
        labelled: bool = False,
    ) -> tuple[list[VariantRecord], TrainResult]:
        """Train on the images of `samples`, the last third held back; return the student's variants, measured.

        With `labelled` its labels.json says what is right, instead of the teacher.

        Raises:
            BadInputError: too few samples, outputs that cannot be learned, a budget that no student fits.
        """
        shown = Shown.of(samples, 1_000_000)
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = self.folder / "tensors.npy"
        names = shown.calibrate
        targets: Path | None = None
        if labelled:
            labels = sampling.read_labels(samples)
            names = [name for name in names if name in labels]
            targets = self.folder / "labels.npy"
            np.save(targets, np.stack([self._target(labels[name], name) for name in names]))
        self.told("prepare samples", 0, 0)
        self.workshop.evaluator(self.workshop.devices[self.teacher.made.format]).tensors(
            self.node, samples, names, tensors
        )
        request = TrainRequest(
            tensors=tensors,
            teacher=self.workshop.store.path(self.teacher),
            origin=self.workshop.store.path(self.origin) if self.origin is not None else None,
            labels=targets,
            folder=self.folder,
            layout=self.node.input.layout,
            gflops=gflops or LARGEST,
            epochs=epochs,
            budget_s=budget_s,
        )
        if not gflops:
            request = request.model_copy(update={"gflops": self._budget(request, shown, fps, device)})
        result = self._train(request)
        records = self._measured(result, request, shown)
        if result.begun:
            as_it_began = result.model_copy(update={"files": result.begun, "epochs": 0})
            before = self._measured(as_it_began, request, shown)
            if self._agreement(before) > self._agreement(records):
                note = f"{result.epochs} epochs made it no better and count for nothing"
                records, before, result = before, records, as_it_began.model_copy(update={"note": note})
            kept = {one.model.digest for one in records}
            for other in (one for one in before if one.model.digest not in kept):
                self.workshop.store.remove(other)
        if labelled:
            self.workshop.measure_labels(records, self.name, self.node, samples)
            records = [self.workshop.store.get(one.model.digest) for one in records]
        return records, result

    def _measured(self, result: TrainResult, request: TrainRequest, shown: Shown) -> list[VariantRecord]:
        """The student's variants, compared with the teacher."""
        records = [self._add(format, result, request) for format in ("openvino", "onnx")]
        if self.bf16:
            records.append(self.workshop.variant(records[0], "bf16"))
        return self.workshop.measure(self.teacher, records, self.name, self.node, shown)

    def _agreement(self, records: list[VariantRecord]) -> float:
        """Of the first, as the node says it; 0: it could not be measured."""
        found = records[0].agreements.get(task_key(self.node))
        return found.value if found else 0.0

    def _target(self, said: Any, name: str) -> np.ndarray:
        """What the network ought to give for one label. Raises BadInputError."""
        task = self.node.task.model_dump()
        if task["type"] == "classification" and isinstance(said, dict) and said.get("label") in task["labels"]:
            row = np.zeros(len(task["labels"]), np.float32)
            row[list(task["labels"]).index(said["label"])] = 1.0
            return row
        if task["type"] == "regression" and isinstance(said, dict) and isinstance(said.get("value"), int | float):
            return np.array([(said["value"] - task.get("offset", 0.0)) / task.get("scale", 1.0)], np.float32)
        raise BadInputError(
            f"the label of {name} is none of node {self.name}", 'labels train {"label": …} and {"value": …}'
        )

    def _budget(self, request: TrainRequest, shown: Shown, fps: float, device: str) -> float:
        """The GFLOPs of the largest student that reaches `fps` on `device`, by trying untrained ones."""
        if fps <= 0:
            raise BadInputError("neither a budget nor a speed is given", "--gflops, or --fps with --device")
        low, high, best = SMALLEST, LARGEST, 0.0
        format: RuntimeFormat = "onnx" if device.startswith("onnxruntime") else "openvino"
        evaluator = self.workshop.evaluator(device or self.workshop.devices[format])
        fastest = 0.0
        for index in range(TRIES):
            self.told(f"how large for {fps:g} images/s", index, TRIES)
            middle = float(np.sqrt(low * high))
            folder = self.folder / "speed"
            try:
                made = self._train(request.model_copy(update={"folder": folder, "epochs": 0, "gflops": middle}))
            except BadInputError:
                low = middle  # smaller than any student
                continue
            path = made.files[0] if format == "onnx" else made.files[1]
            digest = sampling.digest_of(folder, [path.name])
            (said,) = evaluator.decode(
                self.name, self.node, [Candidate(path, digest)], shown.folder, shown.held_back[:8], True
            )
            if said.error is not None:
                raise said.error
            fastest = max(fastest, said.fps)
            if said.fps >= fps:
                low, best = middle, max(best, made.gflops)
            else:
                high = middle
        if not best:
            raise BadInputError(
                f"no student reaches {fps:g} images/s on {evaluator.device}; the fastest tried has {fastest:.0f}",
                "a lower --fps",
            )
        return best

    def _train(self, request: TrainRequest) -> TrainResult:
        """Run one request in a child process. Raises its errors."""
        seconds = int(2 * request.threads * request.budget_s) + START_S
        limits = replace(self.workshop.job.limits, cpu_s=seconds, wall_s=2.0 * seconds)

        def progress(text: str, done: int, total: int) -> None:
            if request.epochs:
                self.told(f"train {self.name}: {text}", done, total)

        with JobProcess(request.folder, limits, self.workshop.job.bounds) as process:
            answer = process.run(
                JOBS["train"], {"request": request.model_dump(mode="json")}, what="training", progress=progress
            )
        return TrainResult.model_validate(answer)

    def _add(self, format: RuntimeFormat, result: TrainResult, request: TrainRequest) -> VariantRecord:
        files = [result.files[0]] if format == "onnx" else list(result.files[1:])
        made = Made(
            source_digest=self.teacher.made.source_digest,
            source_format=self.teacher.made.source_format,
            format=format,
            precision="f32",
            settings={
                "student": result.kind,
                **({"width": f"{result.width:g}"} if result.width else {}),
                "gflops": f"{result.gflops:.4f}",
                "epochs": str(result.epochs),
                "seed": str(request.seed),
                "learned from": "labels" if request.labels else "teacher",
            },
            tools=result.tools,
        )
        return self.workshop.store.add(f"{self.name}-student", files, made)
