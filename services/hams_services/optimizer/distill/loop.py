"""The training loop with its losses: seeded, checkpointed after each epoch, and resumed to the bit.

An epoch depends only on the seed, its number and the state before it, so a run that was killed and continued ends with
the same weights. The learning rate of a student that starts trained also falls with the time spent; such a run
continues to other weights of the same quality.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hams_services.optimizer.distill.request import Stopping, Target, TrainRequest
from hams_services.optimizer.distill.students import Student, mean_and_spread, place_weights
from hams_services.optimizer.progress import ProgressCallback
from hams_shared.runtime.files import replaced

HOT, HEAT = 50.0, 20.0
"""Extra weight of places with heat, which are few, and weight of heat among the outputs."""
LEAST_BATCH, MOST_NUMBERS = 4, 6_000_000
"""Images per step: at most so many numbers, but at least so many images."""
WARM_UP, LOWER, LEAST_RATE = 3, 0.4, 1e-5
"""Epochs until the full learning rate; its factor where the hold-out loss does not improve; its least."""
GENTLE, KEPT = 0.15, 0.98
"""Where a student starts trained: factor of the learning rate, and part of the averaged weights that a step keeps."""

Batch = tuple[Tensor, list[Tensor]]
Vary = Callable[[Tensor, np.random.Generator], Batch]
"""Returns changed images with the teacher's outputs for them."""


@dataclass
class Samples:
    """Images with their reference outputs; the first `border` are trained on, the others are the hold-out set."""

    inputs: Tensor
    reference: list[Tensor]
    border: int

    def part(self, some: slice | Tensor) -> Batch:
        """Return some of them."""
        return self.inputs[some], [values[some] for values in self.reference]


def spreads(targets: Sequence[Target], reference: Sequence[Tensor]) -> list[Tensor]:
    """Return the standard deviation of each number over the samples: the unit of its error."""
    found, weight = [], place_weights(targets, reference)
    for target, values in zip(targets, reference, strict=True):
        flat = values.flatten(1)
        if target.kind in ("heat", "map"):
            found.append(mean_and_spread(values, weight)[1])
        elif target.kind == "probabilities" or len(flat) < 2:
            found.append(torch.ones(flat.shape[1]))
        else:
            found.append(flat.std(0).clamp_min(0.1 * float(flat.std().clamp_min(1e-6))))
    return found


def loss(student: Student, logits: Sequence[Tensor], reference: Sequence[Tensor], units: Sequence[Tensor]) -> Tensor:
    """Return the mean loss over the outputs; 0 where the student equals the reference.

    Probabilities: KL divergence. Heat: binary cross-entropy above the reference's own. Numbers and maps: smooth L1 in
    `units`. Directions: 1 - cosine.
    """
    parts, weight = [], place_weights(student.targets, reference)
    for target, y, values, unit in zip(student.targets, logits, reference, units, strict=True):
        flat = values.flatten(1)
        if target.kind == "heat":
            chance, emphasis = values.clamp(1e-6, 1 - 1e-6), 1 + HOT * values
            total = functional.binary_cross_entropy_with_logits(y, chance, emphasis, reduction="sum")
            least = functional.binary_cross_entropy(chance, chance, emphasis, reduction="sum")
            parts.append((total - least) / emphasis.sum() * HEAT)
        elif target.kind == "map":
            error = functional.smooth_l1_loss(y / unit, values / unit, beta=student.beta, reduction="none")
            parts.append((error * weight).sum() / (weight.sum() * values.shape[1]).clamp_min(1e-6))
        elif target.kind == "probabilities":
            parts.append(functional.kl_div(y.log_softmax(1), flat.clamp_min(1e-8), reduction="batchmean"))
        elif target.kind == "direction":
            parts.append((1 - functional.cosine_similarity(y, flat)).mean())
        else:
            parts.append(functional.smooth_l1_loss(y / unit, flat / unit, beta=student.beta))
    return torch.stack(parts).mean()


class Training:
    """Fits a student to samples, which `vary` changes in each epoch; the hold-out set decides when to stop."""

    def __init__(
        self,
        student: Student,
        samples: Samples,
        request: TrainRequest,
        progress: ProgressCallback,
        vary: Vary | None = None,
    ) -> None:
        self.student, self.samples, self.request, self.progress, self.vary = student, samples, request, progress, vary
        gentle, numbers = student.pretrained, samples.inputs[0].numel()
        self.units = spreads(student.targets, samples.part(slice(samples.border))[1])
        self.batch = LEAST_BATCH if gentle else min(request.batch, max(LEAST_BATCH, MOST_NUMBERS // numbers))
        self.optimizer = torch.optim.AdamW(student.parameters(), lr=request.rate, weight_decay=1e-4)
        # A student that starts trained gets worse first; its last weights, at the lowest rate, are its best.
        self.stopping = Stopping(request.epochs, max(1, request.epochs) if gentle else request.patience)
        student.calibrate(*samples.part(slice(samples.border)), self.units)
        self.averaged = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(KEPT)) if gentle else None
        self.watched: Student = self.averaged.module if self.averaged is not None else student
        self.best = _weights(student)
        self.spent = 0.0
        self._parts = {"student": student, "optimizer": self.optimizer}
        self._parts |= {"averaged": self.averaged} if self.averaged is not None else {}

    def run(self) -> str:
        """Train until it stops; leave the best weights in the student, and return why it stopped."""
        path, key, stopping = self.request.folder / "checkpoint.pt", self._key(), self.stopping
        if path.exists() and (state := torch.load(path, weights_only=True))["key"] == key:
            for name, part in self._parts.items():
                part.load_state_dict(state[name])
            known = state["stopping"] | {"epochs": stopping.epochs, "patience": stopping.patience}
            self.stopping = stopping = Stopping(**known)
            self.best, self.spent = state["best"], state["spent"]
            self.progress(f"goes on after epoch {stopping.epoch}", stopping.epoch, stopping.epochs)
        begun = monotonic() - self.spent
        while not (why := stopping.why(self.spent, self.request.budget_s)):
            self._epoch()
            found = self._hold_out_loss()
            if stopping.record(found) or self.student.pretrained:
                self.best = _weights(self.watched)
            self.spent = monotonic() - begun
            state = {name: part.state_dict() for name, part in self._parts.items()}
            state |= {"key": key, "stopping": asdict(stopping), "best": self.best, "spent": self.spent}
            with replaced(path) as file:
                torch.save(state, file)
            text = f"epoch {stopping.epoch}, loss {found:.4f}, best {stopping.best:.4f}"
            self.progress(text, stopping.epoch, stopping.epochs)
        self.student.load_state_dict(self.best)
        self.student.eval()
        return why

    def _rate(self) -> float:
        """Return the learning rate of the next epoch."""
        request, stopping = self.request, self.stopping
        rate = request.rate * min(1.0, (stopping.epoch + 1) / WARM_UP) * LOWER**stopping.lowered
        if self.student.pretrained:
            done = min(1.0, max(stopping.epoch / max(1, request.epochs), self.spent / request.budget_s))
            rate *= GENTLE * (1 + math.cos(math.pi * done)) / 2
        return max(rate, LEAST_RATE)

    def _epoch(self) -> None:
        self.student.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        for inputs, reference in _prefetched(self._batches()):
            self.optimizer.zero_grad(set_to_none=True)
            loss(self.student, self.student.logits(inputs), reference, self.units).backward()
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
            self.optimizer.step()
            if self.averaged is not None:
                self.averaged.update_parameters(self.student)

    def _batches(self) -> Iterator[Batch]:
        random = np.random.default_rng([self.request.seed, self.stopping.epoch])
        for some in torch.from_numpy(random.permutation(self.samples.border)).split(self.batch):
            if len(some) >= 2:  # batch normalisation needs two
                inputs, reference = self.samples.part(some)
                yield (inputs, reference) if self.vary is None else self.vary(inputs, random)

    def _hold_out_loss(self) -> float:
        student, total, count = self.watched.eval(), 0.0, len(self.samples.inputs)
        with torch.no_grad():
            for start in range(self.samples.border, count, self.batch):
                inputs, reference = self.samples.part(slice(start, start + self.batch))
                total += float(loss(student, student.logits(inputs), reference, self.units)) * len(inputs)
        return total / (count - self.samples.border)

    def _key(self) -> str:
        """Return what a checkpoint belongs to: the request without paths and limits, the student, and the samples."""
        excluded = {"folder", "tensors", "teacher", "origin", "labels", "epochs", "budget_s"}
        known: dict[str, Any] = self.request.model_dump(mode="json", exclude=excluded)
        known |= {"student": self.student.kind, "targets": [t.model_dump() for t in self.student.targets]}
        known["inputs"] = hashlib.sha256(np.load(self.request.tensors, mmap_mode="r").tobytes()).hexdigest()
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _weights(student: Student) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in student.state_dict().items()}


def _prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Prepare the next batch, for which the teacher runs, while the present one is learned."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch
