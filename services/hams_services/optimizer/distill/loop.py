"""The training loop: seeded, checkpointed after each epoch, and resumed to the bit.

What an epoch does depends on the seed, the epoch's number and the state before it only; so a run that was killed and
begun again ends with the same weights as one that was not. (Where a student begins as a trained network its learning
rate falls with the time that is spent as well; such a run goes on, to weights that are as good.)
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hams_services.optimizer.distill.loss import loss
from hams_services.optimizer.distill.request import TrainRequest
from hams_services.optimizer.distill.stopping import Stopping
from hams_services.optimizer.distill.student import Learner
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

GENTLE = 0.15
"""What the learning rate is multiplied by where a student begins as a trained network."""
KEPT = 0.98
"""Part of the averaged weights that a step keeps, where a student begins as a trained network."""

Told = Callable[[str, int, int], None]
Batch = tuple[Tensor, list[Tensor]]
"""Images, and what is to be learned of them."""
Varied = Callable[[Tensor, torch.Generator], Batch]
"""Gives images changed, each time otherwise, and what is to be learned of those."""


def split(count: int, held_back: float) -> int:
    """Return how many of `count` samples are trained on. Raises BadInputError when there are too few."""
    if count < LEAST:
        raise BadInputError(f"{count} samples are too few to train with", f"{LEAST} are the least; hundreds are good")
    return count - max(1, round(count * held_back))


def train(
    student: Learner,
    inputs: Tensor,
    truth: list[Tensor],
    border: int,
    scale: list[Tensor],
    request: TrainRequest,
    told: Told,
    varied: Varied | None = None,
) -> tuple[Stopping, str]:
    """Fit `student` to the first `border` of `inputs`, each time `varied`; the others say when to stop.

    `scale` is what errors are compared with (:func:`hams_services.optimizer.distill.loss.spread`). Leaves the best
    weights in it, and returns what was reached and why it ended.
    """
    batch = LEAST_BATCH if student.begins_trained else _batch(request.batch, inputs)
    optimizer = torch.optim.AdamW(student.parameters(), lr=request.rate, weight_decay=1e-4)
    # What begins trained gets worse first, and better as the rate falls to nothing: its last weights are its best.
    patience = max(1, request.epochs) if student.begins_trained else request.patience
    stopping = Stopping(request.epochs, patience)
    averaged = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(KEPT)) if student.begins_trained else None
    watched: Learner = student if averaged is None else averaged.module
    best: dict[str, Tensor] = {k: v.clone() for k, v in student.state_dict().items()}
    spent = 0.0
    path = request.folder / CHECKPOINT
    key = _key(request, student, len(inputs))
    if path.exists():
        state = torch.load(path, weights_only=True)
        if state["key"] == key:
            student.load_state_dict(state["student"])
            optimizer.load_state_dict(state["optimizer"])
            if averaged is not None:
                averaged.load_state_dict(state["averaged"])
            stopping = Stopping(**{**state["stopping"], "epochs": request.epochs, "patience": patience})
            best, spent = state["best"], float(state["spent"])
            told(f"goes on after epoch {stopping.epoch}", stopping.epoch, request.epochs)
    begun = monotonic() - spent
    while not (why := stopping.why(monotonic() - begun, request.budget_s)):
        shuffle = torch.Generator().manual_seed(request.seed * 1_000_003 + stopping.epoch)
        rate = _rate(student, request, stopping, (monotonic() - begun) / request.budget_s)
        batches = _batches(inputs[:border], [t[:border] for t in truth], batch, shuffle, varied)
        _epoch(student, optimizer, batches, scale, rate, averaged)
        held = _held_back(watched, inputs[border:], [t[border:] for t in truth], scale, batch)
        if stopping.record(held) or student.begins_trained:
            best = {k: v.clone() for k, v in watched.state_dict().items()}
        told(f"epoch {stopping.epoch}, loss {held:.4f}, best {stopping.best:.4f}", stopping.epoch, request.epochs)
        _save(
            path,
            {
                "key": key,
                "student": student.state_dict(),
                "optimizer": optimizer.state_dict(),
                "averaged": averaged.state_dict() if averaged is not None else {},
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


def _rate(student: Learner, request: TrainRequest, stopping: Stopping, spent: float) -> float:
    """The learning rate of the next epoch; `spent` is the part of the time that is gone."""
    rate = request.rate * min(1.0, (stopping.epoch + 1) / WARM_UP) * LOWER**stopping.lowered
    if student.begins_trained:
        done = min(1.0, max(stopping.epoch / max(1, request.epochs), spent))
        rate *= GENTLE * (1 + math.cos(math.pi * done)) / 2
    return max(rate, LEAST_RATE)


def _batches(
    inputs: Tensor, truth: list[Tensor], size: int, shuffle: torch.Generator, varied: Varied | None
) -> Iterator[Batch]:
    """All samples once, in the order of `shuffle`; varied ones are made while those before them are learned from."""
    order = torch.randperm(len(inputs), generator=shuffle)
    # Batch normalisation needs two.
    chosen = [some for start in range(0, len(order), size) if len(some := order[start : start + size]) >= 2]
    if varied is None:
        yield from ((inputs[some], [t[some] for t in truth]) for some in chosen)
        return
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(varied, inputs[chosen[0]], shuffle)
        for some in (*chosen[1:], None):
            batch = following.result()
            if some is not None:
                following = pool.submit(varied, inputs[some], shuffle)
            yield batch


def _epoch(
    student: Learner,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    scale: list[Tensor],
    rate: float,
    averaged: AveragedModel | None,
) -> None:
    student.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    for inputs, truth in batches:
        optimizer.zero_grad(set_to_none=True)
        value = loss(student.targets, student.logits(inputs), truth, scale, student.beta)
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(student)


def _held_back(student: Learner, inputs: Tensor, truth: list[Tensor], scale: list[Tensor], batch: int) -> float:
    student.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(inputs), batch):
            part = slice(start, start + batch)
            said = student.logits(inputs[part])
            value = loss(student.targets, said, [t[part] for t in truth], scale, student.beta)
            total += float(value) * len(inputs[part])
    return total / len(inputs)


def _key(request: TrainRequest, student: Learner, count: int) -> str:
    """What a checkpoint belongs to: everything but where it lies and how long it may take."""
    places = {"folder", "tensors", "teacher", "origin", "labels", "epochs", "budget_s"}
    said = request.model_dump(mode="json", exclude=places) | {"student": student.kind, "count": count}
    said |= {"targets": [t.model_dump() for t in student.targets]}
    said["inputs"] = hashlib.sha256(np.load(request.tensors, mmap_mode="r").tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _save(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint whole."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)
