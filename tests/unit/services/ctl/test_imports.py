"""Quick commands import little: what they cost is what they import. Modules are counted, since times vary."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.wait import PATIENCE

HEAVY = {
    "aiohttp",
    "cv2",
    "hams_agents",
    "hams_client",
    "numpy",
    "nncf",
    "onnx",
    "onnxruntime",
    "openvino",
    "scipy",
    "torch",
}
NOWHERE = ("--nats", "nats://127.0.0.1:1")

RUN = """
import contextlib, io, json, sys
from hams_services.ctl.app import app
lines = json.loads(sys.argv[1])
codes = []
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            app(line, standalone_mode=True)
        except SystemExit as end:
            codes.append(end.code)
print(json.dumps([codes, sorted(sys.modules)]))
"""

COMMANDS = """
import json
from typer.main import get_command
from hams_services.ctl.app import app

def walk(command, path):
    yield path
    for name, one in getattr(command, "commands", {}).items():
        yield from walk(one, [*path, name])

print(json.dumps(list(walk(get_command(app), []))))
"""


def python(home: Path, code: str, *args: str) -> str:
    argv = [sys.executable, "-c", code, *args]
    env = {"PATH": "", "HOME": str(home), "HAMS_HOME": str(home / "state"), "HAMS_CACHE": str(home / "cache")}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(home: Path, *lines: list[str]) -> tuple[list[int], set[str]]:
    """Run hams-ctl with each of the lines in one process; return exit codes, and the modules it has in the end."""
    codes, modules = json.loads(python(home, RUN, json.dumps(lines)))
    return codes, set(modules)


@pytest.mark.parametrize(
    ("line", "code", "most"),
    [
        (["--help"], 0, 450),
        (["--version"], 0, 280),
        (["schema"], 0, 380),
        (["models", "list"], 0, 530),
        (["cameras", "list", "--json"], 0, 480),
        (["status", *NOWHERE], 5, 580),
        (["devices", *NOWHERE], 5, 580),
        (["matrix", *NOWHERE], 5, 580),
        (["top", "--once", *NOWHERE], 5, 580),
        (["undeploy", "g", *NOWHERE], 5, 580),
        (["nco", "jobs", *NOWHERE], 5, 580),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_quick_commands_import_little(tmp_path: Path, line: list[str], code: int, most: int) -> None:
    codes, modules = run(tmp_path, line)
    assert codes == [code]
    assert not modules & HEAVY
    assert len(modules) < most


def test_help_of_every_command_imports_only_its_options(tmp_path: Path) -> None:
    found = json.loads(python(tmp_path, COMMANDS))
    assert len(found) > 40
    codes, modules = run(tmp_path, *([*path, "--help"] for path in found))
    assert codes == [0] * len(found)
    assert not modules & (HEAVY | {"nats", "cryptography", "yaml"})
    assert "hams_services.ctl.commands.deploy" in modules
    work = {name for name in modules if name.startswith(("hams_services.ctl.actions", "hams_services.ctl.system"))}
    assert not work


def test_results_import_no_runtime(tmp_path: Path) -> None:
    _, modules = run(tmp_path, ["results", "g", *NOWHERE])
    assert not modules & (HEAVY - {"hams_client", "numpy"})
