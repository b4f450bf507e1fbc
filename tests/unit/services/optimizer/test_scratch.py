from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hams_services.optimizer.service import clean


def test_what_killed_optimizers_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait(30)
    running, own = str(os.getppid()), str(os.getpid())  # own: of an earlier process in a container
    for name in (running, own, str(gone.pid), "no-number"):
        (tmp_path / name / "job").mkdir(parents=True)
    clean(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == [running]
    clean(tmp_path / "none")
