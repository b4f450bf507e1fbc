"""The task in docs/extend.md, installed as a person would: what the page says works."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from support.wait import PATIENCE

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "extend.md").read_text()

CHECK = """
import numpy as np
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.group.node_spec import InputSpec, TaskSpec
task = build_task(TaskSpec.model_validate({"type": "blobs", "threshold": 0.6}), InputSpec(size=(40, 20)))
assert is_detection(task)
maps = np.zeros((1, 2, 4), np.float32)
maps[0, 1, 3] = 0.75
[[one]] = task.detect({"map": maps}, [np.array([[2.0, 0, 5], [0, 2.0, 0]])])
assert tuple(map(float, one.box)) == (65.0, 20.0, 85.0, 40.0), one
assert (one.score, one.label) == (0.75, "blob")
try:
    build_task(TaskSpec.model_validate({"type": "blobs", "treshold": 0.6}), InputSpec(size=(40, 20)))
except Exception as error:
    print(error)
"""


def test_the_task_on_the_page_works_once_installed(tmp_path: Path) -> None:
    code, settings = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE[PAGE.index("## Your own task") :], re.S)[:2]
    assert len(code.splitlines()) <= 30
    (tmp_path / "blobs.py").write_text(code)
    info = tmp_path / "blobs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blobs\nVersion: 1.0\n")
    project = tomllib.loads(settings)
    assert project["build-system"]["build-backend"] == "hatchling.build"
    assert {"name", "version"} <= project["project"].keys()
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"] == ["blobs.py"]
    [(name, target)] = project["project"]["entry-points"]["hams.tasks"].items()
    (info / "entry_points.txt").write_text(f"[hams.tasks]\n{name} = {target}\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{CHECK}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "did you mean threshold" in done.stdout
