"""One network made narrower in several ways until it just reaches the floor, in fp32 and in INT8."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.evaluate import Said
from hams_services.optimizer.prune.search import LARGEST, ShareSearch
from hams_services.optimizer.quantize.trials import Scope, Trials
from hams_shared.group_spec import NodeSpec
from hams_shared.variants import CalibrationInfo, VariantRecord, task_key

if TYPE_CHECKING:
    from hams_services.optimizer.make import Shown, Workshop


@dataclass(frozen=True)
class Pruned:
    """A network as it was made narrower once."""

    record: VariantRecord
    agreement: float
    new: bool
    """Whether it was not in the store before."""


@dataclass
class PruneTrials:
    """Makes the ONNX network `base` narrower again and again; `made` holds all that came of it."""

    shop: Workshop
    base: VariantRecord
    name: str
    node: NodeSpec
    shown: Shown
    tensors: Path
    work: Path
    truth: Said
    floor: float
    made: list[Pruned] = field(default_factory=list)
    _look: Path | None = None

    def run(self, deadline: float) -> Pruned:
        """The narrowest that reaches the floor, or the one that comes nearest."""
        search = ShareSearch(self.floor, deadline)
        tried: dict[float, Pruned] = {}
        while (share := search.next(time.monotonic())) is not None:
            tried[share] = self.make(share)
            search.add(share, tried[share].agreement)
        return tried[search.best] if search.best is not None else max(tried.values(), key=lambda one: one.agreement)

    def quantised(self, coarse: VariantRecord, deadline: float) -> Pruned | None:
        """The narrowest that reaches the floor in INT8, quantised as `coarse` is; None: none does.

        Errors add up about as their squares do, which says where to begin.
        """
        key = task_key(self.node)
        alone = 1 - coarse.agreements[key].value
        left = max((1 - self.floor) ** 2 - alone**2, 0.0) ** 0.5
        search = ShareSearch(self.floor, deadline, first=self._share_at(left), near=0.06)
        found: dict[float, Pruned] = {}
        while (share := search.next(time.monotonic())) is not None:
            plain = self.make(share)
            found[share] = self._quantise(plain.record, coarse)
            search.add(share, found[share].agreement)
        return found[search.best] if search.best is not None else None

    def make(self, share: float) -> Pruned:
        """Do it once and see how nearly it agrees."""
        shop = self.shop
        source = str(shop.store.path(self.base))
        if self._look is None:
            shop.told(f"{self.name}: which channels are missed least")
            self._look = self.work / "look.npz"
            layout = self.node.input.layout
            shop.job.call("prune-look", source=source, out=str(self._look), tensors=str(self.tensors), layout=layout)
        out = self.work / f"pruned-{len(self.made)}"
        done = shop.job.call("prune-make", source=source, look=str(self._look), out=str(out), share=share)
        return self._add(share, done)

    def _add(self, share: float, done: dict[str, Any]) -> Pruned:
        shop, made = self.shop, self.base.made
        known = {record.model.digest for record in shop.store.of(made.source_digest)}
        calibration = CalibrationInfo(
            digest=sampling.digest_of(self.shown.folder, self.shown.calibrate), samples=len(self.shown.calibrate)
        )
        how = made.model_copy(
            update={
                "settings": {**made.settings, "pruned": f"{share:g}", "floor": f"{self.floor:g}"},
                "tools": {**made.tools, **done["tools"]},
                "calibration": calibration,
            }
        )
        record = shop.store.add(self.base.model.name, [Path(part) for part in done["files"]], how)
        (said,) = shop.say([record], self.name, self.node, self.shown, False)
        held = sampling.digest_of(self.shown.folder, self.shown.held_back)
        record = shop.note(record, said, self.truth.items, held, self.node)
        found = record.agreements.get(task_key(self.node))
        one = Pruned(record, found.value if found else 0.0, record.model.digest not in known)
        verdict = f"agreement {found.value:.4f}" if found else "does not run here"
        shop.told(f"{self.name}: {record.label}, {done['share']:.0%} of the multiplications left, {verdict}")
        self.made.append(one)
        return one

    def _quantise(self, plain: VariantRecord, coarse: VariantRecord) -> Pruned:
        work = self.work / plain.model.digest[:16]
        trials = Trials(self.shop, plain, self.name, self.node, self.shown, "", self.tensors, work, self.truth)
        scope: Scope = "layers" if coarse.made.settings.get("scope") == "layers" else "all"
        one = trials.make(scope, coarse.made.kept)
        pruned = Pruned(one.record, one.agreement, one.new)
        self.made.append(pruned)
        return pruned

    def _share_at(self, error: float) -> float:
        """The share at which making it narrower costs about `error`, from what was tried; linear between."""
        plain = [one for one in self.made if one.record.made.precision == "f32"]
        known = sorted({(float(one.record.made.settings["pruned"]), 1 - one.agreement) for one in plain} | {(1.0, 0.0)})
        for (low, high_error), (high, low_error) in itertools.pairwise(known):
            if low_error <= error <= high_error:
                part = (error - low_error) / max(high_error - low_error, 1e-9)
                return min(round(high - part * (high - low), 3), LARGEST)
        return LARGEST if error < known[-1][1] else known[0][0]
