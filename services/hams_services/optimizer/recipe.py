"""One group from frames to variants: what each node is shown, its network in each form, and how nearly each agrees.

Blocking, and resumable: variants lie in a store under their digests, and what is known of one is not made again.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hams_services.optimizer.accuracy import samples as sampling
from hams_services.optimizer.accuracy.evaluate import Candidate
from hams_services.optimizer.passes.crop_input import trials as rectangles
from hams_services.optimizer.variant_builder import DEVICES, REDUCED, Imported, Reduced, Shown, Told, Workshop
from hams_shared.errors import BadInputError, HamsError, ModelError
from hams_shared.group.spec import NodeSpec
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.scheduler import SchedulerView
from hams_shared.wire.variants import RuntimeFormat, VariantRecord, shortfall, task_key

SEARCH = 0.8
"""The part of a node's time in which something new is tried; the rest is for ending what was begun."""
CALIBRATE = 100
"""Most samples to calibrate with."""
SPENT = "not tried: the node's part of the budget was spent before"
SAME = 0.999
"""The agreement of a network that computes less, but nothing else, but for rounding."""
LEAST_S = 5.0
"""What the last of the steps gets at least, s."""


@dataclass
class NodeOutcome:
    """What came of one node."""

    samples: int = 0
    variants: list[VariantRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be made, and why."""


@dataclass(frozen=True)
class Formats:
    """What the devices of a site read: ``openvino``, ``onnx``."""

    read: frozenset[str] = frozenset(DEVICES)
    half: frozenset[str] = frozenset()
    """Those in which fp16 is worth a try: some device that reads them is no CPU."""
    bf16: bool = True
    """Whether some device that reads OpenVINO's computes in bf16."""

    @classmethod
    def of(cls, devices: Iterable[DeviceRecord]) -> Formats:
        """From the devices there are; all formats where none is known."""
        names = {"openvino": "openvino", "onnxruntime": "onnx"}
        known = [(names[device.backend], device) for device in devices if device.backend in names]
        if not known:
            return cls()
        return cls(
            frozenset(f for f, _ in known),
            frozenset(f for f, device in known if device.kind != "cpu"),
            any(f == "openvino" and "bf16" in device.precisions for f, device in known),
        )


def costs(record: GroupRecord, view: SchedulerView) -> dict[str, float]:
    """What an image costs each of the group's nodes on its fastest device, s, the costliest first.

    A network that runs nowhere, or was not measured, counts as much as the costliest that was.
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
    """The part of the time for the first of `costs`: by its cost among them, but at least half of an equal share."""
    return max(costs[0] / max(sum(costs), 1e-9), 0.5 / len(costs)) if len(costs) > 1 else 1.0


@dataclass
class Optimize:
    """The blocking part of a job; `workshop` does the work, within the bounds of its processes."""

    record: GroupRecord
    models: Mapping[str, Path]
    """Node → its network's main file."""
    workshop: Workshop
    told: Told
    formats: Formats
    costs: Mapping[str, float]
    """Nodes → what an image costs each, in any unit, the costliest first: the budget goes where it matters."""
    fresh: bool = False

    def run(self, frames: Path, folder: Path, budget_s: float) -> dict[str, NodeOutcome]:
        """Make and measure variants of all nodes from the images in `frames`; `folder` is for what nodes are shown.

        What is under way when the budget is spent is ended, and noted; what was made before stays.

        Raises:
            HamsError: nothing can be shown to any node.
        """
        end = time.monotonic() + budget_s
        self.workshop.job.bounds.until = end
        self.told("run the group on the frames")
        shown = self.show(frames, folder)
        outcomes = {node: NodeOutcome(shown.get(node, 0)) for node in self.costs}
        for index, node in enumerate(self.costs):
            if self.workshop.job.bounds.cancelled:
                raise BadInputError("cancelled")
            if index and time.monotonic() >= end:
                outcomes[node].notes.append(f"not tried: the budget of {budget_s:.0f} s was spent before")
                continue
            self.told(f"optimize {node}")
            part = max(LEAST_S, (end - time.monotonic()) * share(list(self.costs.values())[index:]))
            self.workshop.job.bounds.until = min(time.monotonic() + part, end)
            try:
                self._node(node, folder / node, part, outcomes[node])
            except HamsError as error:
                if self.workshop.job.bounds.cancelled:
                    raise
                outcomes[node].notes.append(str(error))
        return outcomes

    def show(self, frames: Path, folder: Path) -> dict[str, int]:
        """Run the group on frames and keep what each node is shown in `folder`; return how many each was."""
        shutil.rmtree(folder, ignore_errors=True)
        models = {node: Candidate(path, self.record.models[node].digest) for node, path in self.models.items()}
        errors: list[HamsError] = []
        for device in self.workshop.devices.values():  # one runtime may not read all of the group's networks
            try:
                return self.workshop.evaluator(device).collect(self.record.spec, models, frames, folder)
            except ModelError as error:
                errors.append(error)
        raise errors[0]

    def _node(self, name: str, folder: Path, budget_s: float, outcome: NodeOutcome) -> None:
        node = self.record.spec.nodes[name]
        if node.variants is False:
            outcome.notes.append("the group file allows no variants")
            return
        if not outcome.samples:
            raise BadInputError("nothing was found that could be shown to it", "frames with its objects: --samples")
        shown = Shown.of(folder, CALIBRATE)
        end = time.monotonic() + SEARCH * budget_s
        imported = self.workshop.import_file(self.models[name], name, node.input.shape())
        held = sampling.digest_of(shown.folder, shown.held_back)
        networks = self._trimmed(imported, name, node, shown, held, outcome)
        networks |= self._rectangular(networks or imported.variants, name, node, shown, held, budget_s / 4, outcome)
        measured = list(networks.values())
        networks = networks or imported.variants
        bases = {f: base for f, base in networks.items() if f in self.formats.read}
        outcome.notes += [f"{f}: {why}" for f, why in imported.skipped.items() if f in self.formats.read]
        source = next(iter(imported.variants.values()))
        plain: list[VariantRecord] = []
        for base in bases.values():
            if base.model.digest != self.record.models[name].digest:
                plain.append(base)  # the same network for a runtime that could not read it before
            plain += self._precisions(base, outcome)
        todo = [
            one for one in plain if one not in measured and (self.fresh or not self._known(one, task_key(node), held))
        ]
        done = self.workshop.measure(source, todo, name, node, shown)
        outcome.variants += done + [one for one in plain if one.model.digest not in {d.model.digest for d in done}]
        plans = [(f, base, compute) for f, base in bases.items() for compute in self._computes(f, outcome)]
        whole = networks.get("onnx")
        for index, (format, base, compute) in enumerate(plans):
            self._check()
            parts = len(plans) - index + (whole is not None)
            left = max(LEAST_S, (end - time.monotonic()) / parts)
            what = f"{format} int8{'+' + compute if compute else ''}"
            known = None if self.fresh else self._quantised(base, compute, shown, task_key(node), held)
            if known is None and index and time.monotonic() >= end:
                outcome.notes.append(f"{what}: {SPENT}")
                continue
            try:
                outcome.variants.append(
                    known
                    or self.workshop.quantize(
                        base,
                        name,
                        node,
                        shown,
                        floor=node.min_agreement,
                        compute=compute,
                        budget_s=left,
                        if_faster=True,
                    )
                )
            except HamsError as error:
                outcome.notes.append(f"{what}: {error}")
        if whole is None:
            outcome.notes.append("pruned: that needs the network as ONNX")
            return
        forms = [form for form, kind in REDUCED.items() if not kind.refusal(node)]
        for index, form in enumerate(forms):
            self._check()
            until = time.monotonic() + (end - time.monotonic()) / (len(forms) - index)
            try:
                outcome.variants += self._reduced(form, whole, name, node, shown, held, until, outcome)
            except HamsError as error:
                outcome.notes.append(f"{form}: {error}")

    def _trimmed(
        self, imported: Imported, name: str, node: NodeSpec, shown: Shown, held: str, outcome: NodeOutcome
    ) -> dict[RuntimeFormat, VariantRecord]:
        """The networks of which all else is made: without what the task never reads; none where there is nothing such.

        They must say what their source says.
        """
        whole = imported.variants.get("onnx")
        if whole is None:
            return {}
        try:
            trimmed = self.workshop.trim(whole, name, node)
        except HamsError as error:
            outcome.notes.append(f"trimmed: {error}")
            return {}
        if trimmed is None:  # the usual case: all is read
            return {}
        found = self._for_all(trimmed, whole, name, node, shown, held)
        for record in found.values():
            if why := shortfall(record, node, SAME):
                outcome.notes.append(f"trimmed: it should say the same as before, but {why}")
                return {}
        return found

    def _rectangular(
        self,
        networks: Mapping[RuntimeFormat, VariantRecord],
        name: str,
        node: NodeSpec,
        shown: Shown,
        held: str,
        budget_s: float,
        outcome: NodeOutcome,
    ) -> dict[RuntimeFormat, VariantRecord]:
        """The networks of which all else is made: without the padding of letterboxed images; none where it is not so.

        Half of what the floor allows is left for what is made of them.
        """
        whole, floor = networks.get("onnx"), (1 + node.min_agreement) / 2
        if whole is None or rectangles.refusal(node):
            return {}
        self._check()
        known = [
            record
            for record in self._earlier(whole, shown, task_key(node), held)
            if record.made.form == "rectangular"
            and (record.made.format, record.made.precision) == ("onnx", "f32")
            and record.made.settings.get("floor") == f"{floor:g}"
        ]
        try:
            if known and not self.fresh:
                record: VariantRecord | None = known[0]
            else:
                record = self.workshop.rectangle(whole, name, node, shown, floor=floor, budget_s=budget_s)
        except HamsError as error:
            outcome.notes.append(f"rectangular: {error}")
            return {}
        if record is None:
            outcome.notes.append(f"rectangular: no part of the image is as exact as {floor:g} and faster")
            return {}
        found = self._for_all(record, whole, name, node, shown, held)
        for one in found.values():
            if why := shortfall(one, node, node.min_agreement):
                outcome.notes.append(f"rectangular: {why}")
                return {}
        return found

    def _for_all(
        self, record: VariantRecord, source: VariantRecord, name: str, node: NodeSpec, shown: Shown, held: str
    ) -> dict[RuntimeFormat, VariantRecord]:
        """An ONNX network in each format that is read, compared with `source`."""
        found: dict[RuntimeFormat, VariantRecord] = {"onnx": record}
        if "openvino" in self.formats.read:
            found = {"openvino": self.workshop.as_ir(record), **found}
        todo = [one for one in found.values() if self.fresh or not self._known(one, task_key(node), held)]
        self.workshop.measure(source, todo, name, node, shown)
        return {format: self.workshop.store.get(one.model.digest) for format, one in found.items()}

    def _reduced(
        self,
        form: Reduced,
        base: VariantRecord,
        name: str,
        node: NodeSpec,
        shown: Shown,
        held: str,
        end: float,
        outcome: NodeOutcome,
    ) -> list[VariantRecord]:
        """Networks of which less is left, in the precisions that the devices have, or those made earlier alike."""
        key, floor = task_key(node), node.min_agreement
        known = [
            record
            for record in self._earlier(base, shown, key, held)
            if (record.made.form, record.made.input) == (form, base.made.input)
            and record.made.settings.get("floor") == f"{floor:g}"
        ]
        if known and not self.fresh:
            return known
        if time.monotonic() >= end:
            outcome.notes.append(f"{form}: {SPENT}")
            return []
        coarse = {
            one.made.format: one  # the last of them is the one that computes the rest in bf16
            for one in outcome.variants
            if (one.made.precision, one.made.form) == ("i8", base.made.form)
            and not shortfall(one, node, floor)
            and (one.made.format == base.made.format or not one.made.kept)  # layers have other names there
        }
        made = self.workshop.reduce(
            form,
            base,
            name,
            node,
            shown,
            floor=floor,
            coarse=list(coarse.values()),
            budget_s=max(LEAST_S, end - time.monotonic()),
        )
        plain = made[0]
        if shortfall(plain, node, floor):
            return made
        others = self._precisions(plain, outcome)
        if "openvino" in self.formats.read and (self.formats.bf16 or "openvino" in self.formats.half):
            ir = self.workshop.as_ir(plain)
            others += [ir, *self._precisions(ir, outcome)]
        return made + self.workshop.measure(base, others, name, node, shown)

    def _precisions(self, base: VariantRecord, outcome: NodeOutcome) -> list[VariantRecord]:
        """What needs no calibration, in the precisions that the devices which read its format have."""
        found: list[VariantRecord] = []
        if base.made.format == "openvino" and self.formats.bf16:
            found.append(self.workshop.variant(base, "bf16"))
        if base.made.format in self.formats.half:
            try:
                found.append(self.workshop.variant(base, "f16"))
            except ModelError as error:
                words = filter(None, (base.made.format, base.made.form, "fp16"))
                outcome.notes.append(f"{' '.join(words)}: {error}")
        return found

    def _computes(self, format: RuntimeFormat, outcome: NodeOutcome) -> tuple[str, ...]:
        if format == "onnx":
            return ("",)
        if importlib.util.find_spec("nncf") is None:
            outcome.notes.append('openvino int8: NNCF is not installed (pip install "hams[nco]")')
            return ()
        return ("", "bf16") if self.formats.bf16 else ("",)

    def _known(self, record: VariantRecord, key: str, held: str) -> bool:
        fresh = self.workshop.store.get(record.model.digest)
        found = fresh.agreements.get(key)
        return found is not None and found.samples_digest == held

    def _quantised(self, base: VariantRecord, compute: str, shown: Shown, key: str, held: str) -> VariantRecord | None:
        """An INT8 variant made earlier of the same source, by the same samples, and compared with the same."""
        found = [
            record
            for record in self._earlier(base, shown, key, held)
            if record.made.precision == "i8"
            and (record.made.format, record.made.compute) == (base.made.format, compute)
            and (record.made.form, record.made.input) == (base.made.form, base.made.input)
        ]
        floor_first = sorted(found, key=lambda r: (-min(r.agreements[key].value, 0.98), len(r.made.kept)))
        return floor_first[0] if floor_first else None

    def _earlier(self, base: VariantRecord, shown: Shown, key: str, held: str) -> list[VariantRecord]:
        """What was made earlier of the same source by the same samples, and compared with the same."""
        calibration = sampling.digest_of(shown.folder, shown.calibrate)
        return [
            record
            for record in self.workshop.store.of(base.made.source_digest)
            if record.made.calibration is not None
            and record.made.calibration.digest == calibration
            and key in record.agreements
            and record.agreements[key].samples_digest == held
        ]

    def _check(self) -> None:
        self.workshop.job.bounds.check("the next step")
