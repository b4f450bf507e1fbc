"""Import, variants, accuracy: the steps of a job, each in its own process, with what comes of them in the store."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.compare import compare
from hams_services.optimizer.accuracy.evaluate import Candidate, Evaluator, Said
from hams_services.optimizer.process import JobProcess
from hams_services.optimizer.quantize.keep import KeepSearch
from hams_services.optimizer.variants import VariantStore
from hams_shared.errors import BadInputError
from hams_shared.group_spec import InputSpec, NodeSpec
from hams_shared.messages import WireError
from hams_shared.variants import (
    Agreement,
    CalibrationInfo,
    Made,
    Precision,
    RuntimeFormat,
    VariantRecord,
    embedded_input,
    task_key,
)

Told = Callable[[str], None]

DEVICES = {"openvino": "openvino:CPU", "onnx": "onnxruntime:CPU"}
"""Where a format is run to measure it, when nothing else is said."""


@dataclass(frozen=True)
class Imported:
    """What came of a source: a variant per format that could be made, and why the others could not."""

    variants: dict[RuntimeFormat, VariantRecord]
    source_format: str
    skipped: dict[str, str]


@dataclass(frozen=True)
class Shown:
    """What a node is shown: a folder of samples, some to calibrate with, the others held back."""

    folder: Path
    calibrate: list[str]
    held_back: list[str]

    @classmethod
    def of(cls, folder: Path, calibrate: int = 100) -> Shown:
        """Split the samples of `folder`. Raises BadInputError when there are too few."""
        return cls(folder, *sampling.split(sampling.names_of(folder), calibrate))


@dataclass
class Workshop:
    """Makes variants and measures them; blocking, one at a time."""

    store: VariantStore
    job: JobProcess
    told: Told = lambda text: None
    devices: dict[str, str] = field(default_factory=lambda: dict(DEVICES))

    def import_file(self, path: Path, name: str, shape: tuple[int, ...] | None = None) -> Imported:
        """Import a file of any format. Raises ModelError and its kind."""
        with self._folder() as out:
            done = self.job.call("import", source=str(path.resolve()), out=str(out), shape=shape)
            variants: dict[RuntimeFormat, VariantRecord] = {}
            for format, parts in done["files"].items():
                made = Made(
                    source_digest=done["digest"],
                    source_format=done["format"],
                    format=format,
                    precision="f32",
                    settings={"shape": "×".join(map(str, shape))} if shape else {},
                    tools=done["tools"],
                )
                variants[format] = self.store.add(name, [Path(part) for part in parts], made)
        return Imported(variants, done["format"], done["skipped"])

    def variant(
        self,
        base: VariantRecord,
        precision: Precision,
        batch: str = "",
        embed: InputSpec | None = None,
    ) -> VariantRecord:
        """Make a variant of `base` that needs no calibration; see :mod:`hams_services.optimizer.transform`.

        bf16 of an INT8 variant is what its layers that are not quantised are computed in.
        """
        if base.made.precision != "f32" and (base.made.precision, precision) not in (("i8", "bf16"), ("i8", "f32")):
            raise BadInputError(f"{base.label} is no source of {precision} variants", "make them of the f32 variant")
        with self._folder() as out:
            done = self.job.call(
                "variant",
                source=str(self.store.path(base)),
                out=str(out),
                format=base.made.format,
                precision=precision,
                batch=batch,
                compute=base.made.compute,
                embed=embed.model_dump(mode="json") if embed else None,
            )
            update: dict[str, Any] = {
                "precision": base.made.precision if base.made.precision == "i8" else precision,
                "compute": "bf16" if (base.made.precision, precision) == ("i8", "bf16") else base.made.compute,
                "batch": done["batch"],
                "input": embedded_input(embed) if embed else base.made.input,
                "tools": {**base.made.tools, **done["tools"]},
            }
            made = base.made.model_copy(update=update)
            return self.store.add(base.model.name, [Path(part) for part in done["files"]], made)

    def measure(
        self,
        base: VariantRecord,
        variants: list[VariantRecord],
        name: str,
        node: NodeSpec,
        shown: Shown,
        time_it: bool = False,
    ) -> list[VariantRecord]:
        """Compare `variants` with `base` through the node on the held-back samples, and note what was found."""
        truth = self._truth(base, name, node, shown)
        digest = sampling.digest_of(shown.folder, shown.held_back)
        found: dict[str, VariantRecord] = {}
        for format in DEVICES:  # those of one runtime together, so that they are timed in turns
            some = [one for one in variants if one.made.format == format]
            for one, said in zip(some, self._say(some, name, node, shown, time_it), strict=True):
                found[one.model.digest] = self._note(one, said, truth, digest, node)
        return [found[one.model.digest] for one in variants]

    def _truth(self, base: VariantRecord, name: str, node: NodeSpec, shown: Shown) -> list[Any]:
        (said,) = self._say([base], name, node, shown, False)
        if said.error is not None:
            raise said.error
        return said.items

    def measure_labels(
        self, variants: list[VariantRecord], name: str, node: NodeSpec, folder: Path
    ) -> list[VariantRecord]:
        """Compare variants with the labels of a folder; see docs/nco.md. Raises BadInputError."""
        labels = sampling.read_labels(folder)
        names = sorted(labels)
        shown = Shown(folder, [], names)
        digest = sampling.digest_of(folder, [*names, sampling.LABELS])
        truth = [labels[each] for each in names]
        return [
            self._note(one, self._say([one], name, node, shown, False)[0], truth, digest, node, "labels")
            for one in variants
        ]

    def _note(
        self, record: VariantRecord, said: Said, truth: list[Any], digest: str, node: NodeSpec, against: str = "source"
    ) -> VariantRecord:
        """Compare what was said with `truth` and write it down."""
        key = task_key(node) + (":labels" if against == "labels" else "")
        if said.error is not None:
            fresh = self.store.get(record.model.digest)
            why = WireError(**said.error.to_wire())
            fresh = fresh.model_copy(update={"failed": {**fresh.failed, key: why}})
            self.store.put(fresh)
            return fresh
        found = compare(truth, said.items)
        agreement = Agreement.model_validate(
            {
                "value": found.agreement,
                "metrics": found.metrics,
                "samples": len(truth),
                "samples_digest": digest,
                "against": against,
                "device": self.devices[record.made.format],
                "fps": said.fps,
            }
        )
        return self.store.measured(record, key, agreement)

    def _say(self, records: list[VariantRecord], name: str, node: NodeSpec, shown: Shown, time_it: bool) -> list[Said]:
        """Run variants of one format on the held-back samples."""
        if not records:
            return []
        evaluator = Evaluator(self.devices[records[0].made.format])
        candidates = [Candidate(self.store.path(one), one.model.digest, one.made.input) for one in records]
        return evaluator.decode(name, node, candidates, shown.folder, shown.held_back, time_it)

    def quantize(
        self,
        base: VariantRecord,
        name: str,
        node: NodeSpec,
        shown: Shown,
        *,
        floor: float = 0.98,
        compute: str = "",
        preset: str = "mixed",
        budget_s: float = 300.0,
    ) -> VariantRecord:
        """Quantise `base` to INT8; where that misses `floor`, keep its worst layers in higher precision.

        Nothing new is tried after `budget_s`. Returns the variant with the fewest layers kept that reaches the floor,
        or else the one that agrees best; its record says which.

        Raises:
            ModelError: nothing in the network can be quantised, or quantising fails.
            BadInputError: the samples show nothing to compare.
        """
        if not shown.calibrate:
            raise BadInputError("there are no samples to calibrate with")
        calibration = CalibrationInfo(
            digest=sampling.digest_of(shown.folder, shown.calibrate), samples=len(shown.calibrate)
        )
        truth = self._truth(base, name, node, shown)
        held = sampling.digest_of(shown.folder, shown.held_back)
        deadline = time.monotonic() + budget_s
        with self._folder() as work:
            tensors = work / "tensors.npy"
            Evaluator(self.devices[base.made.format]).tensors(node, shown.folder, shown.calibrate, tensors)
            order: list[str] = []
            search = KeepSearch(0, floor, deadline)
            found: dict[int, VariantRecord] = {}
            while (count := search.next(time.monotonic())) is not None:
                out = work / f"{count}"
                done = self.job.call(
                    f"quantize-{base.made.format}",
                    source=str(self.store.path(base)),
                    out=str(out),
                    tensors=str(tensors),
                    kept=order[:count],
                    preset=preset,
                    compute=compute,
                )
                made = base.made.model_copy(
                    update={
                        "precision": "i8",
                        "compute": compute,
                        "batch": done["batch"],
                        "kept": tuple(order[:count]),
                        "settings": {**base.made.settings, "preset": preset},
                        "tools": {**base.made.tools, **done["tools"]},
                        "calibration": calibration,
                    }
                )
                record = self.store.add(base.model.name, [Path(part) for part in done["files"]], made)
                (said,) = self._say([record], name, node, shown, False)
                record = self._note(record, said, truth, held, node)
                key = task_key(node)
                value = record.agreements[key].value if key in record.agreements else 0.0
                self.told(f"{name} {record.label}: {count} layers kept, agreement {value:.4f}")
                found[count] = record
                search.add(count, value)
                if count == 0 and value < floor:
                    source = done.get("prepared", str(self.store.path(base)))
                    order = self._ranked(base.made.format, source, done["named"], tensors)
                    search.layers = len(order)
                shutil.rmtree(out, ignore_errors=True)
        best = found[search.best]
        for count, record in found.items():
            if count and record.model.digest not in (best.model.digest, found[0].model.digest):
                self.store.remove(record)
        return best

    def _ranked(self, format: str, source: str, quantised: str, tensors: Path) -> list[str]:
        done = self.job.call(f"rank-{format}", source=source, quantised=quantised, tensors=str(tensors))
        layers: list[str] = done["layers"]
        return layers

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder of the job's process, gone afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self.job.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
