"""Variants are imported, derived and compared with their source: the steps that all passes share; blocking."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hams_services.agreement.compare import compare
from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.evaluate import Candidate, Evaluator, Predictions
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.progress import ProgressCallback
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.variants import Agreement, Made, RuntimeFormat, VariantRecord

SCORE_TOLERANCE = 0.05
"""An object whose score crosses the node's threshold by no more than this is neither lost nor new."""

DEVICES = {"openvino": "openvino:CPU", "onnx": "onnxruntime:CPU"}
"""Where a format is run to measure it, unless stated otherwise."""


@dataclass(frozen=True)
class Imported:
    """What came of a source: a variant per format that could be made, and why the others could not."""

    variants: dict[RuntimeFormat, VariantRecord]
    source_format: str
    skipped: dict[str, str]


def _silent(text: str, done: int = 0, total: int = 0, /) -> None:
    """Report nothing."""


@dataclass
class VariantBuilder:
    """Makes variants and measures them; blocking, one at a time."""

    store: VariantStore
    job: JobProcess
    progress: ProgressCallback = _silent
    devices: dict[str, str] = field(default_factory=lambda: dict(DEVICES))
    _reference: tuple[tuple[str, ...], Predictions] | None = None
    """The predictions of the source that was used last, and for what."""

    def evaluator(self, device: str) -> Evaluator:
        """Return what runs nodes on `device`, in a process that may have as much memory as a job's."""
        return Evaluator(device, memory_mib=self.job.limits.memory_mib, bounds=self.job.bounds)

    def run(self, function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Run ``module:function`` in the job's process. Raises its errors, and those of :class:`JobProcess`."""
        what = function.partition(":")[2].replace("_", " ")
        answer: dict[str, Any] = self.job.run(function, arguments, what=what)
        return answer

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Open a folder of the job's process, gone afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self.job.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # ── make ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def import_file(self, path: Path, name: str, shape: tuple[int, ...] | None = None) -> Imported:
        """Import a file of any format. Raises ModelError and its kind."""
        with self.folder() as out:
            done = self.job.call("import", source=str(path.resolve()), out=str(out), shape=shape)
            variants: dict[RuntimeFormat, VariantRecord] = {}
            for format, parts in done["files"].items():
                made = Made(
                    source_digest=done["digest"],
                    source_format=done["format"],
                    format=format,
                    precision="fp32",
                    settings={"shape": "×".join(map(str, shape))} if shape else {},
                    tools=done["tools"],
                )
                variants[format] = self.store.add(name, [Path(part) for part in parts], made)
        return Imported(variants, done["format"], done["skipped"])

    def derive(
        self,
        base: VariantRecord,
        answer: Mapping[str, Any],
        settings: Mapping[str, str] | None = None,
        files: Sequence[str] = (),
        **made: Any,
    ) -> VariantRecord:
        """Store a job's files as a variant of `base`; `settings` and `made` tell how it was made, beside the base's."""
        update = {
            **made,
            "settings": {**base.made.settings, **(settings or {})},
            "tools": {**base.made.tools, **answer["tools"]},
        }
        paths = [Path(part) for part in files or answer["files"]]
        return self.store.add(base.model.name, paths, base.made.model_copy(update=update))

    def as_ir(self, base: VariantRecord) -> VariantRecord:
        """Return the ONNX network `base` as OpenVINO IR, the same in all else."""
        with self.folder() as out:
            done = self.job.call("import", source=str(self.store.path(base)), out=str(out))
            return self.derive(base, done, files=done["files"]["openvino"], format="openvino")

    @contextmanager
    def temporary_ir(self, base: VariantRecord) -> Iterator[VariantRecord]:
        """Open the ONNX network `base` as OpenVINO IR, in the store only as long as it is needed."""
        known = {record.model.digest for record in self.store.of(base.made.source_digest)}
        record = self.as_ir(base)
        try:
            yield record
        finally:
            if record.model.digest not in known:
                self.store.remove(record)

    # ── measure ───────────────────────────────────────────────────────────────────────────────────────────────────

    def predict(
        self,
        records: Sequence[VariantRecord],
        samples: NodeSamples,
        *,
        time_it: bool = False,
        tolerance: float = SCORE_TOLERANCE,
    ) -> list[Predictions]:
        """Run variants of one format on the hold-out set, with `time_it` also in turns for images/s.

        Objects whose score is below a detector's threshold by no more than `tolerance` are predicted as well.
        """
        if not records:
            return []
        evaluator = self.evaluator(self.devices[records[0].made.format])
        candidates = [Candidate(self.store.path(one), one.model.digest, one.made.input) for one in records]
        name, node, folder = samples.name, samples.node, samples.folder
        return evaluator.decode(name, node, candidates, folder, samples.hold_out, time_it, tolerance)

    def reference(self, source: VariantRecord, samples: NodeSamples) -> Predictions:
        """Return the predictions of the source for the hold-out set. Raises what prevents them."""
        key = (source.model.digest, samples.key, samples.hold_out_digest)
        if self._reference is None or self._reference[0] != key:
            [found] = self.predict([source], samples)
            if found.error is not None:
                raise found.error
            self._reference = key, found
        return self._reference[1]

    def measure(
        self, source: VariantRecord, variants: Sequence[VariantRecord], samples: NodeSamples, time_it: bool = False
    ) -> list[VariantRecord]:
        """Compare `variants` with `source` on the hold-out set, and note the agreements.

        Raises:
            BadInputError: the samples show nothing to compare.
        """
        reference = self.reference(source, samples).items
        found: dict[str, VariantRecord] = {}
        for format in DEVICES:  # those of one runtime together, so that they are timed in turns
            some = [one for one in variants if one.made.format == format]
            for one, predictions in zip(some, self.predict(some, samples, time_it=time_it), strict=True):
                found[one.model.digest] = self._note(one, predictions, reference, samples)
        return [found[one.model.digest] for one in variants]

    def measure_labels(self, variants: list[VariantRecord], samples: NodeSamples) -> list[VariantRecord]:
        """Compare variants with the labels of the hold-out set, where it has any; see docs/nco.md.

        Raises BadInputError: the labels cannot be read.
        """
        labels = sampling.read_labels(samples.folder)
        names = [name for name in samples.hold_out if name in labels]
        if not names:
            self.progress("no label is for the last third of the images: nothing to compare with")
            return variants
        samples = replace(samples, hold_out=names)
        reference = [labels[each] for each in names]
        found = [self.predict([one], samples, tolerance=0.0)[0] for one in variants]
        return [
            self._note(one, predictions, reference, samples, "labels")
            for one, predictions in zip(variants, found, strict=True)
        ]

    def _note(
        self,
        record: VariantRecord,
        predictions: Predictions,
        reference: list[Any],
        samples: NodeSamples,
        against: Literal["source", "labels"] = "source",
    ) -> VariantRecord:
        """Compare predictions with the `reference`, and write the agreement down."""
        labelled = against == "labels"
        key = samples.key + (":labels" if labelled else "")
        if predictions.error is not None:
            return self.store.failed(record, key, WireError(**predictions.error.to_wire()))
        found = compare(reference, predictions.items, None if labelled else predictions.threshold)
        names = [*samples.hold_out, sampling.LABELS]
        agreement = Agreement(
            value=found.agreement,
            metrics=found.metrics,
            samples=len(reference),
            samples_digest=sampling.digest_of(samples.folder, names) if labelled else samples.hold_out_digest,
            against=against,
            device=self.devices[record.made.format],
            fps=predictions.fps,
        )
        return self.store.measured(record, key, agreement)
