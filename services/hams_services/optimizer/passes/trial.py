"""One network made in several ways: each is taken into the store and compared with its source, the best stay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.evaluate import Predictions
from hams_shared.group.spec import InputSpec, NodeSpec
from hams_shared.wire.variants import CalibrationInfo, VariantRecord, task_key

if TYPE_CHECKING:
    from hams_services.optimizer.variant_builder import Shown, Workshop


@dataclass(frozen=True)
class Attempt:
    """A network as it was made once."""

    record: VariantRecord
    agreement: float
    """0: it does not run."""
    new: bool
    """Whether it was not in the store before."""


@dataclass
class Attempts:
    """What is made of `base` for one node; `made` in the order of making."""

    shop: Workshop
    base: VariantRecord
    name: str
    node: NodeSpec
    shown: Shown
    tensors: Path
    """The calibration samples as the network takes them, .npy."""
    filled: tuple[int, int]
    """Width and height of the part, from the top left, that those images fill of what the network takes."""
    work: Path
    """A folder of the job's process."""
    truth: Predictions
    """What the source says of the samples held back."""
    made: list[Attempt] = field(default_factory=list)

    @property
    def source(self) -> str:
        """The base's main file, for a job."""
        return str(self.shop.store.path(self.base))

    @property
    def takes(self) -> InputSpec:
        """What the base takes."""
        return self.base.made.input or self.node.input

    @property
    def out(self) -> str:
        """A folder for the next one."""
        return str(self.work / str(len(self.made)))

    def add(self, done: dict[str, Any], words: str, settings: dict[str, str], **made: Any) -> Attempt:
        """Take what a job has `done` into the store, and see how nearly it agrees.

        `settings` and `made` say how it was made, beside the base's and the samples; `words` say it to people. Where
        another way led to the same network it is not compared again.
        """
        shop, shown, before = self.shop, self.shown, self.base.made
        known = {record.model.digest for record in shop.store.of(before.source_digest)}
        update = {
            **made,
            "settings": {**before.settings, **settings},
            "tools": {**before.tools, **done["tools"]},
            "calibration": CalibrationInfo(
                digest=sampling.digest_of(shown.folder, shown.calibrate), samples=len(shown.calibrate)
            ),
        }
        files = [Path(part) for part in done["files"]]
        record = shop.store.add(self.base.model.name, files, before.model_copy(update=update))
        same = next((one for one in self.made if one.record.model.digest == record.model.digest), None)
        if same is not None:
            self.made.append(replace(same, new=False))
            return self.made[-1]
        (said,) = shop.say([record], self.name, self.node, shown, False)
        held = sampling.digest_of(shown.folder, shown.held_back)
        record = shop.note(record, said, self.truth.items, held, self.node)
        found = record.agreements.get(task_key(self.node))
        one = Attempt(record, found.value if found else 0.0, record.model.digest not in known)
        verdict = f"agreement {found.value:.4f}" if found else "does not run here"
        shop.told(f"{self.name}: {record.label}, {words}, {verdict}")
        self.made.append(one)
        return one

    def forget_all_but(self, *best: VariantRecord) -> None:
        """Take what was tried beside `best` out of the store, where it was not in it before."""
        kept = {record.model.digest for record in best}
        for one in self.made:
            if one.new and one.record.model.digest not in kept:
                self.shop.store.remove(one.record)
