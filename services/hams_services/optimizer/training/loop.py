"""The training loop: seeded, checkpointed after each epoch, and resumed to the bit.

What an epoch does depends on the seed, the epoch's number and the state before it only; so a run that was killed and
begun again ends with the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hams_services.optimizer.training.loss import loss, spread
from hams_services.optimizer.training.request import Target, TrainRequest
from hams_services.optimizer.training.stopping import Stopping
from hams_services.optimizer.training.student import Learner
from hams_shared.errors import BadInputError

CHECKPOINT = "checkpoint.pt"
LEAST = 20
"""Fewer samples teach nothing."""
LEAST_BATCH, MOST_NUMBERS = 4, 6_000_000
"""Images at once: so many numbers, but not less than so many images."""
WARM_UP = 3
"""Epochs until the full learning rate."""
LOWER, LEAST_RATE = 0.4, 1e-5
"""What the learning rate is multiplied by where the loss does not get better, and its least."""

Told = Callable[[dict[str, Any]], None]


def split(count: int, held_back: float) -> int:
    """Return how many of `count` samples are trained on. Raises BadInputError when there are too few."""
    if count < LEAST:
        raise BadInputError(f"{count} samples are too few to train with", f"{LEAST} are the least; hundreds are good")
    return count - max(1, round(count * held_back))


def train(
    student: Learner, inputs: Tensor, truth: list[Tensor], border: int, request: TrainRequest, told: Told
) -> tuple[Stopping, str]:
    """Fit `student` to the first `border` of `inputs`; the others say when to stop.

    Leaves the best weights in it, and returns what was reached and why it ended.
    """
    targets: tuple[Target, ...] = student.targets
    batch = _batch(request.batch, inputs)
    scale = spread(targets, [t[:border] for t in truth])
    student.answer_like([t[:border] for t in truth], scale)
    optimizer = torch.optim.AdamW(student.parameters(), lr=request.rate, weight_decay=1e-4)
    stopping = Stopping(request.epochs, request.patience)
    best: dict[str, Tensor] = {k: v.clone() for k, v in student.state_dict().items()}
    spent = 0.0
    path = request.folder / CHECKPOINT
    key = _key(request, targets, len(inputs))
    if path.exists():
        state = torch.load(path, weights_only=True)
        if state["key"] == key:
            student.load_state_dict(state["student"])
            optimizer.load_state_dict(state["optimizer"])
            stopping = Stopping(**{**state["stopping"], "epochs": request.epochs, "patience": request.patience})
            best, spent = state["best"], float(state["spent"])
            told({"text": f"goes on after epoch {stopping.epoch}", "done": stopping.epoch, "total": request.epochs})
    begun = monotonic() - spent
    while not (why := stopping.why(monotonic() - begun, request.budget_s)):
        _epoch(
            student,
            optimizer,
            inputs[:border],
            [t[:border] for t in truth],
            scale,
            request,
            batch,
            stopping.epoch,
            stopping.lowered,
        )
        held = _held_back(student, inputs[border:], [t[border:] for t in truth], scale, batch)
        if stopping.record(held):
            best = {k: v.clone() for k, v in student.state_dict().items()}
        told(
            {
                "text": f"epoch {stopping.epoch}, loss {held:.4f}, best {stopping.best:.4f}",
                "done": stopping.epoch,
                "total": request.epochs,
                "loss": held,
            }
        )
        _save(
            path,
            {
                "key": key,
                "student": student.state_dict(),
                "optimizer": optimizer.state_dict(),
                "stopping": asdict(stopping),
                "best": best,
                "spent": monotonic() - begun,
            },
        )
    student.load_state_dict(best)
    student.eval()
    return stopping, why


def _batch(wanted: int, inputs: Tensor) -> int:
    """Fewer images at once where they are large, but enough to normalise by."""
    return min(wanted, max(LEAST_BATCH, MOST_NUMBERS // int(inputs[0].numel())))


def _epoch(
    student: Learner,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    truth: list[Tensor],
    scale: list[Tensor],
    request: TrainRequest,
    batch: int,
    epoch: int,
    lowered: int,
) -> None:
    student.train()
    shuffle = torch.Generator().manual_seed(request.seed * 1_000_003 + epoch)
    order = torch.randperm(len(inputs), generator=shuffle)
    rate = request.rate * min(1.0, (epoch + 1) / WARM_UP) * LOWER**lowered
    for group in optimizer.param_groups:
        group["lr"] = max(rate, LEAST_RATE)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        if len(chosen) < 2:
            continue  # batch normalisation needs two
        optimizer.zero_grad(set_to_none=True)
        value = loss(student.targets, student.logits(inputs[chosen]), [t[chosen] for t in truth], scale)
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()


def _held_back(student: Learner, inputs: Tensor, truth: list[Tensor], scale: list[Tensor], batch: int) -> float:
    student.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(inputs), batch):
            part = slice(start, start + batch)
            value = loss(student.targets, student.logits(inputs[part]), [t[part] for t in truth], scale)
            total += float(value) * len(inputs[part])
    return total / len(inputs)


def _key(request: TrainRequest, targets: tuple[Target, ...], count: int) -> str:
    """What a checkpoint belongs to: everything but where it lies and how long it may take."""
    said = request.model_dump(mode="json", exclude={"folder", "tensors", "teacher", "labels", "epochs", "budget_s"})
    said |= {"targets": [t.model_dump() for t in targets], "count": count}
    said["inputs"] = hashlib.sha256(np.load(request.tensors, mmap_mode="r").tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _save(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint whole."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)
