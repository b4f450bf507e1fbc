"""A network made narrower by any share of its multiplications."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hams_services.optimizer.passes.share_trials import ShareTrials
from hams_services.optimizer.passes.trial import Attempt


@dataclass
class PruneTrials(ShareTrials):
    """Makes it narrower again and again; which channels are missed least is looked at once."""

    form = "pruned"
    _look: Path | None = None

    def make(self, share: float) -> Attempt:
        """Do it once and see how nearly it agrees."""
        tries = self.tries
        job = tries.shop.job
        if self._look is None:
            tries.shop.told(f"{tries.name}: which channels are missed least")
            self._look = tries.work / "look.npz"
            layout, tensors = tries.takes.layout, str(tries.tensors)
            job.call("prune-look", source=tries.source, out=str(self._look), tensors=tensors, layout=layout)
        done = job.call("prune-make", source=tries.source, look=str(self._look), out=tries.out, share=share)
        words = f"{done['share']:.0%} of the multiplications left"
        return tries.add(done, words, {"pruned": f"{share:g}", "floor": f"{self.floor:g}"})
