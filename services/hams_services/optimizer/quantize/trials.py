"""One network quantised in several ways until the agreement reaches the floor: what is tried, and what is chosen."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.evaluate import Said
from hams_services.optimizer.quantize.keep import KeepSearch
from hams_shared.group_spec import NodeSpec
from hams_shared.variants import CalibrationInfo, VariantRecord, task_key

if TYPE_CHECKING:
    from hams_services.optimizer.make import Shown, Workshop

Scope = Literal["all", "layers"]
SCOPES: tuple[Scope, ...] = ("all", "layers")
"""What of a network is quantised: all that can be, or what has weights; see :mod:`hams_services.optimizer.quantize.ir`.
"""


@dataclass(frozen=True)
class Trial:
    """A network as it was quantised once."""

    record: VariantRecord
    agreement: float
    scope: Scope
    new: bool
    """Whether it was not in the store before."""
    done: dict[str, Any]
    """What the job said of it."""


@dataclass
class Trials:
    """Quantises one network again and again; `made` in the order of making."""

    shop: Workshop
    base: VariantRecord
    name: str
    node: NodeSpec
    shown: Shown
    compute: str
    tensors: Path
    work: Path
    truth: Said
    made: list[Trial] = field(default_factory=list)

    def run(self, scopes: tuple[Scope, ...], floor: float, deadline: float) -> Trial:
        """The fastest way that reaches `floor`, or the one that comes nearest."""
        whole = [self.make(scope, ()) for scope in scopes if not self.made or time.monotonic() < deadline]
        good = [one for one in whole if one.agreement >= floor]
        if not good:
            nearest = max(whole, key=lambda one: one.agreement)
            runs = task_key(self.node) in nearest.record.agreements
            return self.search(nearest, floor, deadline) if runs else nearest
        if len(good) == 1:
            return good[0]
        said = self.shop.say([one.record for one in good], self.name, self.node, self.shown, True)
        return max(zip(good, said, strict=True), key=lambda pair: pair[1].fps)[0]

    def make(self, scope: Scope, kept: tuple[str, ...]) -> Trial:
        """Do it once and see how nearly it agrees."""
        shop, base = self.shop, self.base
        known = {record.model.digest for record in shop.store.of(base.made.source_digest)}
        done = shop.job.call(
            f"quantize-{base.made.format}",
            source=str(shop.store.path(base)),
            out=str(self.work / f"{len(self.made)}"),
            tensors=str(self.tensors),
            kept=kept,
            scope=scope,
            compute=self.compute,
        )
        how = base.made.model_copy(
            update={
                "precision": "i8",
                "compute": self.compute,
                "batch": done["batch"],
                "kept": kept,
                "settings": {**base.made.settings, "scope": scope, "ranges": "minmax"},
                "tools": {**base.made.tools, **done["tools"]},
                "calibration": CalibrationInfo(
                    digest=sampling.digest_of(self.shown.folder, self.shown.calibrate),
                    samples=len(self.shown.calibrate),
                ),
            }
        )
        record = shop.store.add(base.model.name, [Path(part) for part in done["files"]], how)
        (said,) = shop.say([record], self.name, self.node, self.shown, False)
        held = sampling.digest_of(self.shown.folder, self.shown.held_back)
        record = shop.note(record, said, self.truth.items, held, self.node)
        found = record.agreements.get(task_key(self.node))
        one = Trial(record, found.value if found else 0.0, scope, record.model.digest not in known, done)
        verdict = f"agreement {found.value:.4f}" if found else "does not run here"
        shop.told(f"{self.name}: {record.label}, {scope}, {len(kept)} layers kept, {verdict}")
        self.made.append(one)
        return one

    def search(self, coarse: Trial, floor: float, deadline: float) -> Trial:
        """Keep the worst layers of `coarse` in higher precision, as few as reach `floor`."""
        if time.monotonic() >= deadline:
            return coarse
        self.shop.told(f"{self.name}: {coarse.record.label}, which layers spoil most")
        order: list[str] = self.shop.job.call(
            f"rank-{self.base.made.format}",
            source=coarse.done.get("prepared", str(self.shop.store.path(self.base))),
            quantised=coarse.done["named"],
            tensors=str(self.tensors),
        )["layers"]
        search = KeepSearch(max(0, len(order) - 1), floor, deadline)  # with all of them kept nothing is quantised
        search.add(0, coarse.agreement)
        tried = {0: coarse}
        while (count := search.next(time.monotonic())) is not None:
            tried[count] = self.make(coarse.scope, tuple(order[:count]))
            search.add(count, tried[count].agreement)
        return tried[search.best]
