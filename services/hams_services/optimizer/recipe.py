"""One group from frames to variants: samples for each node, then all passes on its network, within a budget.

Blocking, and resumable: variants lie in a store under their digests, and what was made before is not made again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hams_services.optimizer.accuracy.evaluate import Candidate
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.passes.base import Pass
from hams_services.optimizer.passes.precision.precision_pass import Precision
from hams_services.optimizer.passes.registry import PASSES
from hams_services.optimizer.passes.trial import Start
from hams_services.optimizer.progress import ProgressCallback
from hams_services.optimizer.site import SiteFormats
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_shared.errors import BadInputError, HamsError, ModelError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.scheduler import SchedulerView
from hams_shared.wire.variants import RuntimeFormat, VariantRecord, shortfall

SEARCH = 0.8
"""The part of a node's time in which something new is tried; the rest is for ending what was begun."""
REPLACING = 0.25
"""The part of a node's time for each pass whose result replaces the network."""
CALIBRATE = 100
"""Most samples to calibrate with."""
SPENT = "not tried: the node's part of the budget was spent before"
LEAST_S = 5.0
"""What the last of the passes gets at least, s."""


@dataclass
class NodeOutcome:
    """What came of one node."""

    samples: int = 0
    variants: list[VariantRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be made, and why."""


def costs(record: GroupRecord, view: SchedulerView) -> dict[str, float]:
    """Return what an image costs each of the group's nodes on its fastest device, s, the most expensive first.

    A network that runs nowhere, or was not measured, counts as much as the most expensive that was.
    """
    best = {
        model: max((fps or 0.0 for fps in row), default=0.0)
        for model, row in zip(view.matrix.models, view.matrix.fps, strict=True)
    }
    known = {node: best.get(record.models[node].name, 0.0) for node in record.spec.depth_first()}
    most = max((1 / fps for fps in known.values() if fps > 0), default=1.0)
    found = {node: 1 / fps if fps > 0 else most for node, fps in known.items()}
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def share(costs: Sequence[float]) -> float:
    """Return the part of the time for the first of `costs`: by its cost, but at least half of an equal share."""
    return max(costs[0] / max(sum(costs), 1e-9), 0.5 / len(costs)) if len(costs) > 1 else 1.0


@dataclass
class Optimize:
    """The blocking part of a job; `builder` does the work, within the bounds of its processes."""

    record: GroupRecord
    models: Mapping[str, Path]
    """Node → its network's main file."""
    builder: VariantBuilder
    progress: ProgressCallback
    site: SiteFormats
    costs: Mapping[str, float]
    """Nodes → what an image costs each, in any unit, the most expensive first: they share the budget by it."""
    fresh: bool = False
    """Make and measure again what was made before."""

    def run(self, frames: Path, folder: Path, budget_s: float) -> dict[str, NodeOutcome]:
        """Make and measure variants of all nodes from the images in `frames`; `folder` is for the nodes' samples.

        What is under way when the budget is spent is ended, and noted; what was made before stays.

        Raises:
            HamsError: no node gets any sample.
        """
        end, bounds = time.monotonic() + budget_s, self.builder.job.bounds
        bounds.until = end
        self.progress("run the group on the frames")
        samples = self.collect_samples(frames, folder)
        outcomes = {node: NodeOutcome(samples.get(node, 0)) for node in self.costs}
        for index, node in enumerate(self.costs):
            if bounds.cancelled:
                raise BadInputError("cancelled")
            if index and time.monotonic() >= end:
                outcomes[node].notes.append(f"not tried: the budget of {budget_s:.0f} s was spent before")
                continue
            self.progress(f"optimize {node}")
            part = max(LEAST_S, (end - time.monotonic()) * share(list(self.costs.values())[index:]))
            bounds.until = min(time.monotonic() + part, end)
            try:
                self._node(node, folder / node, part, outcomes[node])
            except HamsError as error:
                if bounds.cancelled:
                    raise
                outcomes[node].notes.append(str(error))
        return outcomes

    def collect_samples(self, frames: Path, folder: Path) -> dict[str, int]:
        """Run the group on frames and keep the inputs of each node in `folder`; return how many each has."""
        shutil.rmtree(folder, ignore_errors=True)
        known = self.record.models
        models = {n: Candidate(path, known[n].digest, None, known[n].further) for n, path in self.models.items()}
        errors: list[HamsError] = []
        for device in self.builder.devices.values():  # one runtime may not read all of the group's networks
            try:
                return self.builder.evaluator(device).collect(self.record.spec, models, frames, folder)
            except ModelError as error:
                errors.append(error)
        raise errors[0]

    def _node(self, name: str, folder: Path, budget_s: float, outcome: NodeOutcome) -> None:
        node = self.record.spec.nodes[name]
        if node.variants is False:
            outcome.notes.append("the group file allows no variants")
            return
        if not self.site.read:
            outcome.notes.append("no device reads variants: they run networks as the group file names them")
            return
        if not outcome.samples:
            raise BadInputError("no sample was found for it", "frames with its objects: --samples")
        samples = NodeSamples.of(name, node, folder, CALIBRATE)
        imported = self.builder.import_file(self.models[name], name, node.input.shape())
        outcome.notes += [f"{f}: {why}" for f, why in imported.skipped.items() if f in self.site.read]
        passes = NodePasses(self.builder, samples, self.site, imported.variants, outcome, self.fresh)
        passes.run(self.record.models[name].digest, budget_s)


@dataclass
class NodePasses:
    """All passes on one node's network."""

    builder: VariantBuilder
    samples: NodeSamples
    site: SiteFormats
    networks: dict[RuntimeFormat, VariantRecord]
    """What passes start from; a pass may replace them."""
    outcome: NodeOutcome
    fresh: bool
    end: float = 0.0
    """When nothing new is tried any more, monotonic s."""

    def __post_init__(self) -> None:
        self._source = next(iter(self.networks.values()))

    def run(self, deployed: str, budget_s: float) -> None:
        """Run them on a network that is deployed as the model `deployed`, within `budget_s`."""
        self.end = time.monotonic() + SEARCH * budget_s
        applicable = [one for one in PASSES if one.applies(self.samples.node)]
        for step in (one for one in applicable if one.replaces and "onnx" in self.networks):
            self._replace(step, REPLACING * budget_s)
        plain = [base for f, base in self.networks.items() if f in self.site.read and base.model.digest != deployed]
        self.outcome.variants += self._measured(plain)  # it may be the same network for another runtime
        todo: list[tuple[Pass, Start]] = []
        for step in (one for one in applicable if not one.replaces):
            try:
                todo += [(step, start) for start in step.starts(self.networks, self.site)]
            except HamsError as error:
                self.outcome.notes.append(f"{step.name}: {error}")
        for index, (step, start) in enumerate(todo):
            self._check()
            parts = sum(one.part for one, _ in todo[index:])
            budget = (self.end - time.monotonic()) * step.part / parts
            self._variants(step, start, budget, first=all(isinstance(one, Precision) for one, _ in todo[:index]))

    def _replace(self, step: Pass, budget_s: float) -> None:
        """Let later passes start from a pass's result, in all formats that are read, if it agrees in each."""
        [start] = step.starts(self.networks, self.site)
        floor = step.floor(self.samples.node)
        self._check()
        try:
            made = self._made(step, start, floor, budget_s)
            if not made:
                self.outcome.notes += [f"{step.name}: {step.nothing}"] if step.nothing else []
                return
            found: dict[RuntimeFormat, VariantRecord] = {"onnx": made[0]}
            if "openvino" in self.site.read:
                found = {"openvino": self.builder.as_ir(made[0]), **found}
            found = dict(zip(found, self._measured(list(found.values())), strict=True))
            least = step.least(self.samples.node)
            if short := [why for one in found.values() if (why := shortfall(one, self.samples.node, least))]:
                self.outcome.notes.append(f"{step.name}: {short[0]}")
                return
        except HamsError as error:
            self.outcome.notes.append(f"{step.name}: {error}")
            return
        self.networks = found

    def _variants(self, step: Pass, start: Start, budget_s: float, first: bool) -> None:
        """Add the variants of one pass, made now or earlier."""
        floor, title = step.floor(self.samples.node), step.title(start)
        spent = budget_s <= 0 and not first and not isinstance(step, Precision)
        if spent and self._earlier(self._key(step, start, floor), LEAST_S) is None:
            self.outcome.notes.append(f"{title}: {SPENT}")
            return
        try:
            made = self._made(step, start, floor, budget_s)
            self.outcome.variants += made
            if step.form and not shortfall(made[0], self.samples.node, floor):
                self._precisions(made[0])
        except HamsError as error:
            self.outcome.notes.append(f"{title}: {error}")

    def _precisions(self, plain: VariantRecord) -> None:
        """Add a reduced ONNX network in the other formats and precisions that the site's devices have."""
        networks: dict[RuntimeFormat, VariantRecord] = {"onnx": plain}
        if "openvino" in self.site.read and (self.site.bf16 or "openvino" in self.site.half):
            networks["openvino"] = self.builder.as_ir(plain)
            self.outcome.variants += self._measured([networks["openvino"]])
        for start in Precision().starts(networks, self.site):
            self._variants(Precision(), start, LEAST_S, first=True)

    def _made(self, step: Pass, start: Start, floor: float, budget_s: float) -> list[VariantRecord]:
        """Return what a pass keeps, or has kept earlier."""
        budget_s, int8, key = max(LEAST_S, budget_s), self._int8(start.base), self._key(step, start, floor)
        earlier = self._earlier(key, budget_s)
        if earlier is not None:
            return earlier
        return step.apply(
            self.builder, start, self.samples, floor=floor, budget_s=budget_s, source=self._source, int8=int8, note=key
        )

    def _key(self, step: Pass, start: Start, floor: float) -> str:
        """Return all that a search's result depends on, in a line."""
        digests = [one.model.digest for one in (self._source, start.base, *self._int8(start.base))]
        samples = (self.samples.key, self.samples.calibration_digest, self.samples.hold_out_digest)
        return " ".join((step.name, step.title(start), f"{floor:g}", *samples, *digests))

    def _earlier(self, key: str, budget_s: float) -> list[VariantRecord] | None:
        """Return what a search has kept that ended, or had as much time; None: it is to be made, or made again."""
        found = None if self.fresh else self.builder.store.search(key)
        if found is None or (found.cut_after_s is not None and found.cut_after_s < budget_s):
            return None
        known = {one.model.digest: one for one in self.builder.store.of(self._source.made.source_digest)}
        kept = [known[digest] for digest in found.kept if digest in known]
        return kept if len(kept) == len(found.kept) and all(map(self._is_measured, kept)) else None

    def _int8(self, base: VariantRecord) -> list[VariantRecord]:
        """Return the INT8 variants of `base` that reach the floor, one for each runtime."""
        found = {
            one.made.format: one  # the last of them is the one that computes the rest in bf16
            for one in self.outcome.variants
            if (one.made.precision, one.made.form) == ("int8", base.made.form)
            and not shortfall(one, self.samples.node, self.samples.node.min_agreement)
            and (one.made.format == base.made.format or not one.made.kept)  # layers have other names there
        }
        return list(found.values())

    def _measured(self, records: Sequence[VariantRecord]) -> list[VariantRecord]:
        """Compare what was not compared yet on the same hold-out set."""
        todo = [one for one in records if self.fresh or not self._is_measured(self.builder.store.get(one.model.digest))]
        self.builder.measure(self._source, todo, self.samples)
        return [self.builder.store.get(one.model.digest) for one in records]

    def _is_measured(self, record: VariantRecord) -> bool:
        found = record.agreements.get(self.samples.key)
        return found is not None and found.samples_digest == self.samples.hold_out_digest

    def _check(self) -> None:
        self.builder.job.bounds.check("the next pass")
