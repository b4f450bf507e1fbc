"""What `hams-ctl nco import`, `quantize`, `prune`, `shrink`, `rectangle`, `convert` and `variants` do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from hams_services.ctl.console import err, out, print_json, run_sync
from hams_services.ctl.control import prepare_model
from hams_services.ctl.tables import plain_table
from hams_services.models.files import mib
from hams_services.models.groups import load_group
from hams_services.optimizer.importing.formats import recognise
from hams_services.optimizer.passes.quantization.trials import SCOPES, Scope
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.variant_builder import DEVICES, Imported, Reduced, Shown, Workshop
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.errors import BadInputError, UnsupportedModelError
from hams_shared.group.spec import GroupSpec, NodeSpec
from hams_shared.runtime.limits import Limits
from hams_shared.runtime.process import cache_folder
from hams_shared.wire.variants import Precision, VariantRecord, shortfall, task_key

_SHORT: dict[str, Precision] = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


def variants_folder() -> Path:
    """Where variants are kept."""
    return cache_folder() / "variants"


@contextmanager
def workshop(memory_mib: int, device: str | None = None) -> Iterator[Workshop]:
    """A place to make variants in, whose process ends with it."""
    devices = dict(DEVICES)
    if device is not None:
        devices["onnx" if device.startswith("onnxruntime") else "openvino"] = device
    with (
        tempfile.TemporaryDirectory(prefix="hams-job-") as folder,
        JobProcess(Path(folder), Limits(memory_mib=memory_mib)) as job,
    ):
        told = lambda text: err.print(text, style="dim")  # noqa: E731
        yield Workshop(VariantStore(variants_folder()), job, told, devices)


def _shape(text: str | None) -> tuple[int, ...] | None:
    """Understand ``1,3,224,224``. Raises BadInputError."""
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
        with workshop(memory) as place:
            imported = place.import_file(file, file.stem, _shape(shape))
            if json:
                print_json(_plain(imported))
                return
            out.print(f"{file.name} is {imported.source_format}")
            for record in imported.variants.values():
                out.print(f"  {record.label}: {place.store.path(record)}", soft_wrap=True)
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
    compute: str,
    scope: Scope | None,
    device: str | None,
    budget: float,
    memory: int,
    json: bool,
    debug: bool,
) -> None:
    """Make INT8 variants of a node's network."""

    def main() -> None:
        spec = _with_node(file, node)
        if compute not in ("", "f32", "bf16"):
            raise BadInputError(f"--compute {compute!r} is neither f32 nor bf16")
        of = _with_floor(spec.nodes[node], floor)
        shown = Shown.of(samples, frames)
        scopes: tuple[Scope, ...] = (scope,) if scope else SCOPES
        with workshop(memory, device) as place, _written(spec, node) as path:
            imported = place.import_file(path, node, of.input.shape())
            made = [
                place.quantize(
                    base, node, of, shown, floor=of.min_agreement, compute=compute, scopes=scopes, budget_s=budget
                )
                for base in imported.variants.values()
                if not (compute == "bf16" and base.made.format == "onnx")
            ]
            bases = list(imported.variants.values())
            made = place.measure(bases[0], [*bases, *made], node, of, shown, time_it=True)
        _show(node, of, made, json)

    run_sync(main, debug)


def less(
    form: Reduced | Literal["rectangular"],
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
    """Leave a part of the network out, and show what came of it beside the whole one."""
    run_sync(lambda: _less(form, file, node, samples, floor, frames, device, budget, memory, json), debug)


def _less(
    form: Reduced | Literal["rectangular"],
    file: Path,
    node: str,
    samples: Path,
    floor: float | None,
    frames: int,
    device: str | None,
    budget: float,
    memory: int,
    json: bool,
) -> None:
    spec = _with_node(file, node)
    of = _with_floor(spec.nodes[node], floor)
    shown = Shown.of(samples, frames)
    with workshop(memory, device) as place, _written(spec, node) as path:
        imported = place.import_file(path, node, of.input.shape())
        base = imported.variants.get("onnx")
        if base is None:
            raise UnsupportedModelError(f"that needs the network as ONNX: {imported.skipped['onnx']}")
        if form == "rectangular":
            found = place.rectangle(base, node, of, shown, floor=of.min_agreement, budget_s=budget)
            if found is None:
                raise UnsupportedModelError(f"no part of its image agrees to {of.min_agreement:g} and is faster")
            made = [found]
        else:
            made = place.reduce(form, base, node, of, shown, floor=of.min_agreement, budget_s=budget)
        made = place.measure(base, [base, *made], node, of, shown, time_it=True)
    _show(node, of, made, json)


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
        with workshop(memory, device) as place, _written(spec, node) as path:
            imported = place.import_file(path, node, of.input.shape())
            made, refused = [], []
            for base in imported.variants.values():
                try:
                    made.append(place.variant(base, _SHORT[precision], batch, of.input if embed else None))
                except UnsupportedModelError as error:
                    refused.append(error)
            if not made:
                raise refused[0]
            if samples is not None:
                first = next(iter(imported.variants.values()))
                made = place.measure(first, made, node, of, Shown.of(samples), time_it=True)
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


def _show(title: str, node: NodeSpec, records: list[VariantRecord], json: bool) -> None:
    if json:
        print_json([record.model_dump(mode="json") for record in records])
    else:
        _print(title, node, records)


def _print(title: str, node: NodeSpec | None, records: list[VariantRecord]) -> None:
    if not records:
        out.print(f"{title}: no variants; hams-ctl nco import, quantize, prune, shrink")
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
