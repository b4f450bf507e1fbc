"""Each network of services F and V in each precision, on one core: images/s, and agreement with its source."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.nco.shown import EXAMPLES, shown
from benchmarks.serving.cases import ROOT
from hams_services.optimizer.make import Shown, Workshop
from hams_services.optimizer.process import JobProcess
from hams_services.optimizer.variants import VariantStore
from hams_shared.errors import HamsError
from hams_shared.group_spec import NodeSpec
from hams_shared.variants import VariantRecord, task_key

DOCS = ROOT / "docs" / "benchmarks"
FLOOR = 0.98


def main(options: list[str]) -> None:
    """Measure, and write docs/benchmarks/variants.json and .md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks variants")
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--node", action="append", help="only these")
    parser.add_argument("--budget", type=float, default=60.0, help="for each accuracy-aware search, s")
    parser.add_argument("--out", type=Path, default=DOCS / "variants.json")
    given = parser.parse_args(options)
    devices = {"openvino": f"openvino:CPU@{given.core}", "onnx": f"onnxruntime:CPU@{given.core}"}
    folder = Path(tempfile.mkdtemp(prefix="hams-variants-"))
    rows: list[dict[str, Any]] = []
    try:
        with JobProcess(folder / "job") as job:
            workshop = Workshop(VariantStore(folder / "store"), job, print, devices)
            for service in EXAMPLES:
                spec, models, out = shown(service, folder / service, given.frames, devices["openvino"])
                for node, at in models.items():
                    if given.node and node not in given.node:
                        continue
                    rows += _node(workshop, service, node, spec.nodes[node], at.path, out / node, given.budget)
                    given.out.write_text(json.dumps(rows, indent=1) + "\n")
    finally:
        shutil.rmtree(folder)
    given.out.with_suffix(".md").write_text(table(rows))
    print(table(rows))


def _node(
    workshop: Workshop, service: str, name: str, node: NodeSpec, path: Path, folder: Path, budget: float
) -> list[dict[str, Any]]:
    samples = Shown.of(folder, 60)
    imported = workshop.import_file(path, name, node.input.shape())
    made: list[VariantRecord] = []
    errors: list[tuple[str, HamsError]] = []
    for format, base in imported.variants.items():
        made.append(base)
        steps: list[tuple[str, Any]] = [("f16", lambda base=base: workshop.variant(base, "f16"))]
        if format == "openvino":
            steps.append(("bf16", lambda base=base: workshop.variant(base, "bf16")))
        for compute in ("", "bf16") if format == "openvino" else ("",):
            steps.append(
                (
                    f"i8 {compute}",
                    lambda base=base, compute=compute: workshop.quantize(
                        base, name, node, samples, floor=FLOOR, compute=compute, budget_s=budget
                    ),
                )
            )
        for what, step in steps:
            try:
                made.append(step())
            except HamsError as error:
                errors.append((f"{format} {what}", error))
                print(f"{name} {format} {what}: {error}")
        plain = [record for record in workshop.store.of(base.made.source_digest) if record.made.precision == "i8"]
        made += [record for record in plain if record.model.digest not in {m.model.digest for m in made}]
    first = next(iter(imported.variants.values()))
    measured = workshop.measure(first, made, name, node, samples, time_it=True)
    key = task_key(node)
    rows = []
    for record in measured:
        row: dict[str, Any] = {"service": service, "node": name, "variant": record.label, "kept": len(record.made.kept)}
        if key in record.agreements:
            found = record.agreements[key]
            row |= {"fps": found.fps, "agreement": found.value, "metrics": found.metrics, "samples": found.samples}
        else:
            row["error"] = str(record.failed[key].text)
        rows.append(row)
        print(service, name, record.label, row.get("kept"), row.get("fps"), row.get("agreement"), row.get("error", ""))
    rows += [{"service": service, "node": name, "variant": what, "error": str(e)} for what, e in errors]
    rows += [
        {"service": service, "node": name, "variant": format, "error": why} for format, why in imported.skipped.items()
    ]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as Markdown; × is against OpenVINO in f32."""
    lines = [
        "| service | node | variant | images/s | × | agreement | compared | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base: dict[str, float] = {}
    for row in rows:
        if row["variant"] == "openvino f32" and "fps" in row:
            base[row["node"]] = row["fps"]
    for row in rows:
        start = f"| {row['service']} | {row['node']} | {row['variant']}"
        if "error" in row:
            lines.append(f"{start} | | | | | {row['error'][:120]} |")
            continue
        kept = f"{row['kept']} layers kept" if row["kept"] else ""
        note = kept if row["agreement"] >= FLOOR else f"{kept}{', ' if kept else ''}below {FLOOR}"
        gain = row["fps"] / base.get(row["node"], row["fps"])
        lines.append(f"{start} | {row['fps']:.1f} | {gain:.2f} | {row['agreement']:.4f} | {row['samples']} | {note} |")
    return "\n".join(lines) + "\n"
