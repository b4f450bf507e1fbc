"""What `hams-ctl nco import`, `quantize`, `prune`, `downscale-input`, `crop-input`, `convert` and `variants` do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from hams_services.ctl.console import err, out, print_json, run_sync
from hams_services.ctl.tables import plain_table
from hams_services.models.files import mib
from hams_services.models.groups import load_group
from hams_services.models.prepare import prepare_model
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.importing.formats import recognise
from hams_services.optimizer.passes.precision.precision_pass import convert as convert_variant
from hams_services.optimizer.passes.quantization.int8_pass import SCOPES, Int8, Scope
from hams_services.optimizer.passes.registry import PASSES
from hams_services.optimizer.passes.trial import Compute, Start
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.variant_builder import DEVICES, Imported, VariantBuilder
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.errors import BadInputError, UnsupportedModelError
from hams_shared.group.node_spec import NodeSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.child_limits import Limits
from hams_shared.runtime.process import cache_folder
from hams_shared.wire.variants import READ, VariantRecord, shortfall, task_key


def variants_folder() -> Path:
    """Where variants are kept."""
    return cache_folder() / "variants"


@contextmanager
def variant_builder(memory_mib: int, device: str | None = None) -> Iterator[VariantBuilder]:
    """Open a variant builder, whose process ends with it."""
    devices = dict(DEVICES)
    if device is not None:
        devices[_format(device)] = device
    with (
        tempfile.TemporaryDirectory(prefix="hams-job-") as folder,
        JobProcess(Path(folder), Limits(memory_mib=memory_mib)) as job,
    ):
        yield VariantBuilder(VariantStore(variants_folder()), job, _progress, devices)


def _format(device: str) -> str:
    """Return the format of variants that are measured on a device. Raises BadInputError where it reads none."""
    backend = device.partition(":")[0].lower()
    if not (read := READ.get(backend, ("onnx",))):
        raise BadInputError(f"device {device}: variants are not made for {backend}", "measure on openvino:CPU@1, say")
    return read[0]


def _progress(text: str, done: int = 0, total: int = 0, /) -> None:
    err.print(text, style="dim")


def _shape(text: str | None) -> tuple[int, ...] | None:
    """Parse ``1,3,224,224``. Raises BadInputError."""
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise BadInputError(f"{text!r} is no shape", "--shape 1,3,224,224")
    return shape


def import_file(file: Path, shape: str | None, memory: int, json: bool, debug: bool) -> None:
    """Read a network, and make of it what each runtime reads."""

    def main() -> None:
        with variant_builder(memory) as builder:
            imported = builder.import_file(file, file.stem, _shape(shape))
            if json:
                print_json(_plain(imported))
                return
            out.print(f"{file.name} is {imported.source_format}")
            for record in imported.variants.values():
                out.print(f"  {record.label}: {builder.store.path(record)}", soft_wrap=True)
            for format, why in imported.skipped.items():
                out.print(f"  {format}: none, {why}", style="yellow", soft_wrap=True)

    run_sync(main, debug)


def _plain(imported: Imported) -> dict[str, Any]:
    return {
        "format": imported.source_format,
        "variants": [record.model_dump(mode="json") for record in imported.variants.values()],
        "skipped": imported.skipped,
    }


def quantize(
    file: Path,
    node: str,
    samples: Path,
    floor: float | None,
    frames: int,
    compute: Compute,
    scope: Scope | None,
    device: str | None,
    budget: float,
    memory: int,
    json: bool,
    debug: bool,
) -> None:
    """Make INT8 variants of a node's network."""

    def main() -> None:
        spec, of, found = _with_samples(file, node, floor, samples, frames)
        scopes: tuple[Scope, ...] = (scope,) if scope else SCOPES
        with variant_builder(memory, device) as builder, _written(spec, node) as path:
            bases = list(builder.import_file(path, node, of.input.shape()).variants.values())
            made = [*bases]
            for base in bases:
                if compute != "bf16" or base.made.format != "onnx":
                    start = Start(base, compute)
                    made += Int8(scopes).apply(builder, start, found, floor=of.min_agreement, budget_s=budget)
            made = builder.measure(bases[0], made, found, time_it=True)
        _show(node, of, made, json)

    run_sync(main, debug)


def reduce(
    name: str,
    file: Path,
    node: str,
    samples: Path,
    floor: float | None,
    frames: int,
    device: str | None,
    budget: float,
    memory: int,
    json: bool,
    debug: bool,
) -> None:
    """Run the pass `name` on a node's network as ONNX, and show its variant next to the whole network."""

    def main() -> None:
        spec, of, found = _with_samples(file, node, floor, samples, frames)
        step = next(one for one in PASSES if one.name == name)
        with variant_builder(memory, device) as builder, _written(spec, node) as path:
            imported = builder.import_file(path, node, of.input.shape())
            base = imported.variants.get("onnx")
            if base is None:
                raise UnsupportedModelError(f"that needs the network as ONNX: {imported.skipped['onnx']}")
            made = step.apply(builder, Start(base), found, floor=of.min_agreement, budget_s=budget)
            if not made:
                raise UnsupportedModelError(f"{step.nothing} (floor {of.min_agreement:g})")
            made = builder.measure(base, [base, *made], found, time_it=True)
        _show(node, of, made, json)

    run_sync(main, debug)


def convert(
    file: Path,
    node: str,
    precision: Literal["fp32", "fp16", "bf16"],
    batch: Literal["", "dynamic", "static"],
    embed: bool,
    samples: Path | None,
    device: str | None,
    memory: int,
    json: bool,
    debug: bool,
) -> None:
    """Make variants of a node's network that need no calibration."""

    def main() -> None:
        spec = _with_node(file, node)
        of = spec.nodes[node]
        with variant_builder(memory, device) as builder, _written(spec, node) as path:
            imported = builder.import_file(path, node, of.input.shape())
            made, refused = [], []
            for base in imported.variants.values():
                try:
                    made.append(convert_variant(builder, base, precision, batch, of.input if embed else None))
                except UnsupportedModelError as error:
                    refused.append(error)
            if not made:
                raise refused[0]
            if samples is not None:
                first = next(iter(imported.variants.values()))
                made = builder.measure(first, made, NodeSamples.of(node, of, samples), time_it=True)
        _show(node, of, made, json)
        for why in () if json else refused:
            err.print(str(why), style="dim")

    run_sync(main, debug)


def variants(file: Path, floor: float | None, json: bool, debug: bool) -> None:
    """Print the variants of a group's networks, or of one network."""

    def main() -> None:
        store = VariantStore(variants_folder())
        if file.suffix not in (".yaml", ".yml"):
            from hams_services.optimizer.importing.convert import source_digest  # brings the tools with it

            found = store.of(source_digest(file, recognise(file)))
            if json:
                print_json([record.model_dump(mode="json") for record in found])
            else:
                _print(file.name, None, found)
            return
        spec = load_group(file)
        answers: dict[str, Any] = {}
        for name, of in spec.nodes.items():
            ref = prepare_model(name, spec, cache_folder(), lambda what, done, total: None).ref
            found = store.of(ref.digest)
            answers[name] = [record.model_dump(mode="json") for record in found]
            if not json:
                _print(name, _with_floor(of, floor), found)
        if json:
            print_json(answers)

    run_sync(main, debug)


def _with_node(file: Path, node: str) -> GroupSpec:
    """Read a group file that has that node. Raises BadInputError."""
    spec = load_group(file)
    if node not in spec.nodes:
        raise BadInputError(f"{file} has no node {node!r}", f"its nodes: {', '.join(spec.nodes)}")
    return spec


def _with_floor(node: NodeSpec, floor: float | None) -> NodeSpec:
    return node if floor is None else node.model_copy(update={"min_agreement": floor})


def _with_samples(
    file: Path, node: str, floor: float | None, samples: Path, most: int
) -> tuple[GroupSpec, NodeSpec, NodeSamples]:
    """Return the group of `file`, its node with its floor, and at most `most` samples of it."""
    spec = _with_node(file, node)
    of = _with_floor(spec.nodes[node], floor)
    return spec, of, NodeSamples.of(node, of, samples, most)


def _show(title: str, node: NodeSpec, records: list[VariantRecord], json: bool) -> None:
    if json:
        print_json([record.model_dump(mode="json") for record in records])
    else:
        _print(title, node, records)


def _print(title: str, node: NodeSpec | None, records: list[VariantRecord]) -> None:
    if not records:
        out.print(f"{title}: no variants; hams-ctl nco import, quantize, prune, downscale-input")
        return
    table = plain_table(title)
    for column in ("variant", "size", "batch", "kept", "agreement", "images/s", "digest", "remark"):
        table.add_column(column, justify="right" if column in ("size", "agreement", "images/s") else "left")
    for record in records:
        found = record.agreements.get(task_key(node)) if node is not None else None
        table.add_row(
            record.label,
            mib(sum(part.size for part in record.model.parts)),
            record.made.batch,
            str(len(record.made.kept) or ""),
            f"{found.value:.4f}" if found else "–",
            f"{found.fps:.1f}" if found and found.fps else "–",
            record.model.digest[:12],
            shortfall(record, node, node.min_agreement) if node is not None else "",
        )
    out.print(table)


@contextmanager
def _written(spec: GroupSpec, node: str) -> Iterator[Path]:
    """A node's network as agents get it, as files."""
    prepared = prepare_model(node, spec, cache_folder(), lambda what, done, total: None)
    with tempfile.TemporaryDirectory(prefix="hams-nco-") as name:
        for part in prepared.ref.parts:
            (Path(name) / f"model{part.suffix}").write_bytes(prepared.parts[part.digest])
        yield Path(name) / f"model{prepared.ref.parts[0].suffix}"
