"""Trials of a pass: a network is made with one setting, stored, and compared with its source; the best stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hams_services.optimizer.accuracy.evaluate import Predictions
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.passes.search import S, Scale, Search
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_shared.errors import BadInputError
from hams_shared.group.node_spec import InputSpec, Precision
from hams_shared.wire.variants import CalibrationInfo, VariantRecord

Compute = Literal["", "fp32", "bf16"]


@dataclass(frozen=True)
class Start:
    """A network that a pass starts from, and how."""

    base: VariantRecord
    compute: Compute = ""
    """For INT8: what layers that are not quantised compute in; empty: as the device likes."""
    precision: Precision = "fp32"
    """For the pass `precision`: what to convert to."""


@dataclass(frozen=True)
class Trial:
    """A network that was made with one setting."""

    record: VariantRecord
    """Its `made.settings` are the settings, `failed` says why it could not be compared."""
    agreement: float
    """0: it does not run."""
    new: bool = False
    """Whether it was not in the store before."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """What the job returned."""


@dataclass
class TrialContext:
    """What a pass needs to make variants for one node; `trials` in the order of making."""

    builder: VariantBuilder
    start: Start
    samples: NodeSamples
    source: VariantRecord
    """What trials are compared with."""
    floor: float
    """Least agreement."""
    deadline: float
    """Nothing new is tried from then on, monotonic s."""
    work: Path
    """A folder of the job's process."""
    int8: Sequence[VariantRecord] = ()
    """INT8 variants of the base at or above the floor."""
    trials: list[Trial] = field(default_factory=list)
    _calibration: list[tuple[Path, tuple[int, int]]] = field(default_factory=list)
    """Shared with copies of this context, whose networks take the same input."""
    _cut: list[float] = field(default_factory=list)
    """Deadlines that ended a search; shared with copies, too."""

    @property
    def cut(self) -> bool:
        """Whether something was not tried because the time was over."""
        return bool(self._cut)

    def late(self) -> bool:
        """Return whether what comes next may not be tried any more; for what would be tried otherwise."""
        if time.monotonic() < self.deadline:
            return False
        self._cut.append(self.deadline)
        return True

    @property
    def base(self) -> VariantRecord:
        """What variants are made of."""
        return self.start.base

    @property
    def input(self) -> InputSpec:
        """What the base takes."""
        return self.base.made.input or self.samples.node.input

    @property
    def calibration(self) -> tuple[Path, tuple[int, int]]:
        """The calibration set as the base takes it (.npy), and the width and height that its images fill.

        Raises BadInputError: there is none.
        """
        samples, path = self.samples, self.work / "tensors.npy"
        if not samples.calibration:
            raise BadInputError("there are no samples to calibrate with")
        if not self._calibration:
            evaluator = self.builder.evaluator(self.builder.devices[self.base.made.format])
            node = samples.node.model_copy(update={"input": self.input})
            self._calibration.append((path, evaluator.tensors(node, samples.folder, samples.calibration, path)))
        return self._calibration[0]

    def call(self, function: str, **arguments: Any) -> dict[str, Any]:
        """Run ``module:function`` in the job's process, with the base's file as `source` and a new folder as `out`."""
        given = {"source": str(self.builder.store.path(self.base)), "out": str(self.work / str(len(self.trials)))}
        return self.builder.run(function, {**given, **arguments})

    def add(self, answer: dict[str, Any], words: str, settings: dict[str, str], **made: Any) -> Trial:
        """Store the files of a job's `answer`, and compare them with the source.

        `settings` and `made` are how they were made, beside the base's; `words` describe it in the log. Where another
        setting led to the same network, that is not compared again.
        """
        samples, store = self.samples, self.builder.store
        known = {record.model.digest for record in store.of(self.base.made.source_digest)}
        info = CalibrationInfo(digest=samples.calibration_digest, samples=len(samples.calibration))
        record = self.builder.derive(self.base, answer, settings, **{"calibration": info, **made})
        same = next((one for one in self.trials if one.record.model.digest == record.model.digest), None)
        if same is not None:
            self.trials.append(replace(same, new=False, answer=answer))
            return self.trials[-1]
        return self.compare(record, words, answer, new=record.model.digest not in known)

    def compare(self, record: VariantRecord, words: str, answer: Mapping[str, Any], *, new: bool) -> Trial:
        """Compare a variant with the source, and note the trial."""
        [record] = self.builder.measure(self.source, [record], self.samples)
        found = record.agreements.get(self.samples.key)
        verdict = f"agreement {found.value:.4f}" if found else "does not run here"
        self.builder.progress(f"{self.samples.name}: {record.label}, {words}, {verdict}")
        self.trials.append(Trial(record, found.value if found else 0.0, new, answer))
        return self.trials[-1]

    def search(self, scale: Scale[S], make: Callable[[S], Trial], first: Trial | None = None) -> Trial:
        """Return the trial of the least setting that reaches the floor, or else the one that agrees best.

        `first` is the trial of the scale's first setting, if it was made before. At least one is made, whatever time
        is left.
        """
        search, found = Search(scale, self.floor), {}
        if first is not None:
            found[scale.first], search.tried[scale.first] = first, first.agreement
        begun = False
        while (setting := search.next()) is not None and not (begun and self.late()):
            found[setting], begun = make(setting), True
            search.tried[setting] = found[setting].agreement
        return found[search.best]

    def predict(self, trials: Sequence[Trial]) -> list[Predictions]:
        """Run networks of one format in turns on the hold-out set; predictions with images/s."""
        return self.builder.predict([one.record for one in trials], self.samples, time_it=True)

    def forget_all_but(self, kept: Sequence[VariantRecord]) -> None:
        """Remove the other trials from the store, where they were not in it before."""
        digests = {record.model.digest for record in kept}
        for one in self.trials:
            if one.new and one.record.model.digest not in digests:
                self.builder.store.remove(one.record)
