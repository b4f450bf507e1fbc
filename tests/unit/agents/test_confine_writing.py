"""An agent's process writes to its cache and to temporary files, and nowhere else; it connects as before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRY = """
import socket, sys, tempfile
from pathlib import Path
from hams_agents.__main__ import confine_writing
backend, cache, outside = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
print(confine_writing(backend, cache))
for path in (cache / "models" / "x", outside / "x", Path(tempfile.gettempdir()) / f"hams-{cache.parent.name}"):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        path.unlink()
        print("yes")
    except PermissionError:
        print("no")
print(Path(outside / "there").read_text())
socket.socket(socket.AF_INET).close()
"""


def ran(tmp_path: Path, backend: str, **environment: str) -> list[str]:
    outside, temporary = tmp_path / "outside", tmp_path / "tmp"
    outside.mkdir()
    temporary.mkdir()
    (outside / "there").write_text("readable")
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(temporary)}
    arguments = [sys.executable, "-c", TRY, backend, str(tmp_path / "cache"), str(outside)]
    done = subprocess.run(arguments, env={**os.environ, **path, **environment}, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


def test_a_built_in_backend_is_confined(tmp_path: Path) -> None:
    found = ran(tmp_path, "openvino")
    if found[0] == "False":
        pytest.skip("this kernel has no Landlock")
    assert found == ["True", "yes", "no", "yes", "readable"]


@pytest.mark.parametrize(("backend", "confine"), [("hailo", ""), ("openvino", "off")])
def test_others_and_where_it_is_off_are_not(tmp_path: Path, backend: str, confine: str) -> None:
    assert ran(tmp_path, backend, HAMS_CONFINE=confine) == ["False", "yes", "yes", "yes", "readable"]
