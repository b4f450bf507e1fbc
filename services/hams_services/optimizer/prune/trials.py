"""One network made narrower in several ways until it just reaches the floor, in fp32 and in INT8."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path

from hams_services.optimizer.attempts import Attempt, Attempts
from hams_services.optimizer.prune.search import LARGEST, ShareSearch
from hams_services.optimizer.quantize.trials import Scope, Trials
from hams_shared.variants import VariantRecord, task_key


@dataclass
class PruneTrials:
    """Makes an ONNX network narrower again and again."""

    tries: Attempts
    floor: float
    _look: Path | None = None

    def run(self, deadline: float) -> Attempt:
        """The narrowest that reaches the floor, or the one that comes nearest."""
        search = ShareSearch(self.floor, deadline)
        tried: dict[float, Attempt] = {}
        while (share := search.next(time.monotonic())) is not None:
            tried[share] = self.make(share)
            search.add(share, tried[share].agreement)
        return tried[search.best] if search.best is not None else max(tried.values(), key=lambda one: one.agreement)

    def quantised(self, coarse: VariantRecord, deadline: float) -> Attempt | None:
        """The narrowest that reaches the floor in INT8, quantised as `coarse` is; None: none does.

        Errors add up about as their squares do, which says where to begin.
        """
        key = task_key(self.tries.node)
        alone = 1 - coarse.agreements[key].value
        left = max((1 - self.floor) ** 2 - alone**2, 0.0) ** 0.5
        search = ShareSearch(self.floor, deadline, first=self._share_at(left), near=0.06)
        found: dict[float, Attempt] = {}
        while (share := search.next(time.monotonic())) is not None:
            plain = self.make(share)
            found[share] = self._quantise(plain.record, coarse)
            search.add(share, found[share].agreement)
        return found[search.best] if search.best is not None else None

    def make(self, share: float) -> Attempt:
        """Do it once and see how nearly it agrees."""
        tries = self.tries
        job = tries.shop.job
        if self._look is None:
            tries.shop.told(f"{tries.name}: which channels are missed least")
            self._look = tries.work / "look.npz"
            layout, tensors = tries.node.input.layout, str(tries.tensors)
            job.call("prune-look", source=tries.source, out=str(self._look), tensors=tensors, layout=layout)
        done = job.call("prune-make", source=tries.source, look=str(self._look), out=tries.out, share=share)
        words = f"{done['share']:.0%} of the multiplications left"
        return tries.add(done, words, {"pruned": f"{share:g}", "floor": f"{self.floor:g}"})

    def _quantise(self, plain: VariantRecord, coarse: VariantRecord) -> Attempt:
        scope: Scope = "layers" if coarse.made.settings.get("scope") == "layers" else "all"
        return Trials(replace(self.tries, base=plain)).make(scope, coarse.made.kept)

    def _share_at(self, error: float) -> float:
        """The share at which making it narrower costs about `error`, from what was tried; linear between."""
        plain = [one for one in self.tries.made if one.record.made.precision == "f32"]
        known = sorted({(float(one.record.made.settings["pruned"]), 1 - one.agreement) for one in plain} | {(1.0, 0.0)})
        for (low, high_error), (high, low_error) in itertools.pairwise(known):
            if low_error <= error <= high_error:
                part = (error - low_error) / max(high_error - low_error, 1e-9)
                return min(round(high - part * (high - low), 3), LARGEST)
        return LARGEST if error < known[-1][1] else known[0][0]
