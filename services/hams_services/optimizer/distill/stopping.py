"""When training ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass

STEPS = 3


@dataclass
class Stopping:
    """Early stopping: the best loss so far, how long ago it was, and how often the rate was lowered for it."""

    epochs: int
    patience: int
    best: float = float("inf")
    best_epoch: int = -1
    epoch: int = 0
    """Epochs done."""
    lowered: int = 0
    """How often the learning rate was lowered: after each `1/STEPS` of the patience without a better loss."""

    def record(self, loss: float) -> bool:
        """Take the loss of one more epoch on held-back samples; return whether it is the best."""
        better = loss < self.best
        if better:
            self.best, self.best_epoch = loss, self.epoch
        elif (self.epoch - self.best_epoch) % max(1, self.patience // STEPS) == 0:
            self.lowered += 1
        self.epoch += 1
        return better

    def why(self, seconds: float, budget_s: float) -> str:
        """Why no further epoch is begun; empty: go on."""
        if self.epoch >= self.epochs:
            return "epochs"
        if self.epoch and self.epoch - 1 - self.best_epoch >= self.patience:
            return "patience"
        if self.epoch and seconds >= budget_s:
            return "budget"
        return ""
