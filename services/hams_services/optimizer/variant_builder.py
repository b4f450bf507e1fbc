"""Import, variants, accuracy: the steps of a job, each in its own process, with what comes of them in the store."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.compare import compare
from hams_services.optimizer.accuracy.evaluate import Candidate, Evaluator, Predictions
from hams_services.optimizer.passes.crop_input import trials as rectangles
from hams_services.optimizer.passes.downscale_input.trials import ShrinkTrials
from hams_services.optimizer.passes.filter_pruning.trials import PruneTrials
from hams_services.optimizer.passes.quantization.trials import SCOPES, Scope, Trials
from hams_services.optimizer.passes.share_trials import ShareTrials
from hams_services.optimizer.passes.trial import Attempts
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.errors import BadInputError, UnsupportedModelError
from hams_shared.group.spec import InputSpec, NodeSpec
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.variants import (
    Agreement,
    Made,
    Precision,
    RuntimeFormat,
    VariantRecord,
    embedded_input,
    task_key,
)

Told = Callable[[str], None]

MARGIN = 0.05
"""An object whose score crosses the node's threshold by no more than this is neither lost nor new."""

DEVICES = {"openvino": "openvino:CPU", "onnx": "onnxruntime:CPU"}
"""Where a format is run to measure it, when nothing else is said."""

FASTER = 1.1
"""A rectangle must be so much faster: what is made of it is as exact as it at most."""

Reduced = Literal["shrunk", "pruned"]
REDUCED: dict[Reduced, type[ShareTrials]] = {"shrunk": ShrinkTrials, "pruned": PruneTrials}
"""What may be made of a network by leaving a part of it out, the quickest first: it looks at a smaller image
(`passes.downscale_input`), it has fewer channels (`passes.filter_pruning`)."""


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

    def evaluator(self, device: str) -> Evaluator:
        """Runs nodes on `device`, in a process that may have as much memory as a job's."""
        return Evaluator(device, memory_mib=self.job.limits.memory_mib, bounds=self.job.bounds)

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
        """Make a variant of `base` that needs no calibration; see :mod:`hams_services.optimizer.passes.precision`.

        bf16 of an INT8 variant is what its layers that are not quantised are computed in.
        """
        if base.made.precision != "f32" and (base.made.precision, precision) not in (("i8", "bf16"), ("i8", "f32")):
            raise BadInputError(f"{base.label} is no source of {precision} variants", "make them of the f32 variant")
        with self.folder() as out:
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

    def trim(self, base: VariantRecord, name: str, node: NodeSpec) -> VariantRecord | None:
        """The ONNX network `base` without what the node's task never reads of it; None: it reads all of it.

        Raises:
            ModelError: ONNX Runtime cannot run it.
            TaskError: the task cannot read it.
        """
        reads = self.evaluator(self.devices["onnx"]).used_outputs(name, node, Candidate(self.store.path(base)))
        with self.folder() as out:
            done = self.job.call("trim", source=str(self.store.path(base)), out=str(out), reads=reads)
            if not done["files"]:
                return None
            update = {
                "settings": {**base.made.settings, "trimmed": done["words"]},
                "tools": {**base.made.tools, **done["tools"]},
            }
            made = base.made.model_copy(update=update)
            return self.store.add(base.model.name, [Path(part) for part in done["files"]], made)

    def rectangle(
        self, base: VariantRecord, name: str, node: NodeSpec, shown: Shown, *, floor: float, budget_s: float = 300.0
    ) -> VariantRecord | None:
        """The ONNX network `base` on the part of its letterboxed image that the samples fill.

        See `passes.crop_input`. Nothing new is tried after `budget_s`. None: no part that is small
        enough to be worth it reaches `floor`, or it is not faster.

        Raises:
            UnsupportedModelError: the samples fill all of the image, or the network does not run on a part of it.
            BadInputError: the samples show nothing to compare.
        """
        if why := rectangles.refusal(node):
            raise UnsupportedModelError(why)
        deadline = time.monotonic() + budget_s
        with self._attempts(base, name, node, shown) as tries:
            best = rectangles.RectangleTrials(tries, floor).run(deadline)
        found = best.record if best is not None else None
        if found is not None:
            before, after = self.say([base, found], name, node, shown, True)
            if after.fps < FASTER * before.fps:
                found = None
        tries.forget_all_but(*([found] if found is not None else []))
        return found

    def as_ir(self, base: VariantRecord) -> VariantRecord:
        """The ONNX network `base` as OpenVINO IR, the same in all else."""
        with self.folder() as out:
            done = self.job.call("import", source=str(self.store.path(base)), out=str(out))
            made = base.made.model_copy(update={"format": "openvino", "tools": {**base.made.tools, **done["tools"]}})
            return self.store.add(base.model.name, [Path(part) for part in done["files"]["openvino"]], made)

    @contextmanager
    def temporary_ir(self, base: VariantRecord) -> Iterator[VariantRecord]:
        """The ONNX network `base` as OpenVINO IR, in the store only as long as it is needed."""
        known = {record.model.digest for record in self.store.of(base.made.source_digest)}
        record = self.as_ir(base)
        try:
            yield record
        finally:
            if record.model.digest not in known:
                self.store.remove(record)

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
        truth = self.truth(base, name, node, shown)
        digest = sampling.digest_of(shown.folder, shown.held_back)
        found: dict[str, VariantRecord] = {}
        for format in DEVICES:  # those of one runtime together, so that they are timed in turns
            some = [one for one in variants if one.made.format == format]
            for one, said in zip(some, self.say(some, name, node, shown, time_it), strict=True):
                found[one.model.digest] = self.note(one, said, truth.items, digest, node)
        return [found[one.model.digest] for one in variants]

    def truth(self, base: VariantRecord, name: str, node: NodeSpec, shown: Shown) -> Predictions:
        """What the source says of the held-back samples. Raises what keeps it from saying anything."""
        (said,) = self.say([base], name, node, shown, False)
        if said.error is not None:
            raise said.error
        return said

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
            self.note(one, self.say([one], name, node, shown, False, 0.0)[0], truth, digest, node, "labels")
            for one in variants
        ]

    def note(
        self,
        record: VariantRecord,
        said: Predictions,
        truth: list[Any],
        digest: str,
        node: NodeSpec,
        against: str = "source",
    ) -> VariantRecord:
        """Compare what was said with `truth` and write it down."""
        key = task_key(node) + (":labels" if against == "labels" else "")
        if said.error is not None:
            fresh = self.store.get(record.model.digest)
            why = WireError(**said.error.to_wire())
            fresh = fresh.model_copy(update={"failed": {**fresh.failed, key: why}})
            self.store.put(fresh)
            return fresh
        found = compare(truth, said.items, said.threshold if against == "source" else None)
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

    def say(
        self,
        records: list[VariantRecord],
        name: str,
        node: NodeSpec,
        shown: Shown,
        time_it: bool,
        margin: float = MARGIN,
    ) -> list[Predictions]:
        """Run variants of one format on the held-back samples."""
        if not records:
            return []
        evaluator = self.evaluator(self.devices[records[0].made.format])
        candidates = [Candidate(self.store.path(one), one.model.digest, one.made.input) for one in records]
        return evaluator.decode(name, node, candidates, shown.folder, shown.held_back, time_it, margin)

    def quantize(
        self,
        base: VariantRecord,
        name: str,
        node: NodeSpec,
        shown: Shown,
        *,
        floor: float = 0.98,
        compute: str = "",
        scopes: tuple[Scope, ...] = SCOPES,
        budget_s: float = 300.0,
        if_faster: bool = False,
    ) -> VariantRecord:
        """Quantise `base` to INT8, all of it or only its layers with weights, whichever is faster above `floor`.

        Where both miss it, the worst layers stay in higher precision; with `if_faster` only where INT8 gains speed.
        Nothing new is tried after `budget_s`. Returns the variant with the fewest layers kept that reaches the floor,
        or else the one that agrees best; its record says which. What was tried beside it is forgotten.

        Raises:
            ModelError: nothing in the network can be quantised, or quantising fails.
            BadInputError: the samples show nothing to compare.
        """
        deadline = time.monotonic() + budget_s
        with self._attempts(base, name, node, shown) as tries:
            best = Trials(tries, compute, if_faster).run(scopes, floor, deadline).record
        tries.forget_all_but(best)
        return best

    def reduce(
        self,
        form: Reduced,
        base: VariantRecord,
        name: str,
        node: NodeSpec,
        shown: Shown,
        *,
        floor: float = 0.98,
        coarse: Sequence[VariantRecord] = (),
        budget_s: float = 300.0,
    ) -> list[VariantRecord]:
        """Leave as much out of the ONNX network `base` as the floor allows: see `REDUCED`.

        With `coarse`, INT8 variants of it above the floor, also as much as the floor allows in INT8, for the runtime of
        each. Nothing new is tried after `budget_s`. Returns one variant or more, the first of them what comes nearest
        where the floor is not reached. What was tried beside them is forgotten.

        Raises:
            UnsupportedModelError: nothing can be left out of this network, or not for this node.
            BadInputError: the samples show nothing to compare.
        """
        kind = REDUCED[form]
        if why := kind.refusal(node):
            raise UnsupportedModelError(why)
        start = time.monotonic()
        with self._attempts(base, name, node, shown) as tries:
            trials = kind(tries, floor)
            best = [trials.run(start + budget_s * (0.5 if coarse else 1.0))]
            for index, one in enumerate(coarse if best[0].agreement >= floor else ()):
                left = start + budget_s - time.monotonic()
                if left > 0:
                    both = trials.quantised(one, time.monotonic() + left / (len(coarse) - index))
                    best += [both] if both is not None else []
        records = [one.record for one in best]
        tries.forget_all_but(*records)
        return records

    @contextmanager
    def _attempts(self, base: VariantRecord, name: str, node: NodeSpec, shown: Shown) -> Iterator[Attempts]:
        """What it takes to make `base` in several ways. Raises BadInputError: the samples show nothing to compare."""
        if not shown.calibrate:
            raise BadInputError("there are no samples to calibrate with")
        with self.folder() as work:
            tensors = work / "tensors.npy"
            prepared = node.model_copy(update={"input": base.made.input or node.input})
            evaluator = self.evaluator(self.devices[base.made.format])
            filled = evaluator.tensors(prepared, shown.folder, shown.calibrate, tensors)
            yield Attempts(self, base, name, node, shown, tensors, filled, work, self.truth(base, name, node, shown))

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder of the job's process, gone afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self.job.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
