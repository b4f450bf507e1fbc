from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hams_services.optimizer.service import clean


def test_what_killed_optimizers_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait(30)
    for name in (str(os.getpid()), str(gone.pid), "no-number"):
        (tmp_path / name / "job").mkdir(parents=True)
    clean(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == [str(os.getpid())]
    clean(tmp_path / "none")
