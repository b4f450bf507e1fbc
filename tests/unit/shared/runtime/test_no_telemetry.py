from __future__ import annotations

import subprocess
import sys

import pytest

from support.wait import PATIENCE


@pytest.mark.parametrize("module", ["hams_agents.backends.openvino", "hams_services.models.cut"])
def test_importing_openvino_reports_to_nobody(module: str) -> None:
    program = (
        f"import sys, multiprocessing, {module}, openvino\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert not multiprocessing.active_children()\n"
        "openvino.convert_model  # the part that reports is loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stderr
