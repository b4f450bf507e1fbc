"""Edges of a hams-ctl process: standard streams that are closed or full, and Ctrl-C before it has begun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.wait import PATIENCE


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HAMS_HOME": str(home), "HAMS_CACHE": str(home / "cache"), "COLUMNS": "80"}


@pytest.mark.parametrize("line", ["models list", "schema", "--help", "status --nats nats://127.0.0.1:1"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_closed_and_full_streams(tmp_path: Path, line: str, closed: str) -> None:
    command = f"exec {sys.executable} -m hams_services.ctl {line} {closed}"
    done = subprocess.run(["sh", "-c", command], env=environment(tmp_path), capture_output=True, timeout=60 * PATIENCE)
    assert b"Traceback" not in done.stderr
    if "status" in line:
        assert done.returncode == 5
    elif "full" in closed:
        assert done.returncode == 3
        assert done.stderr.startswith(b"error: the disk is full")
    else:
        assert done.returncode == 0


WRITING = """
import asyncio, sys
from hams_services.ctl.console import out, print_json, without_bus

async def main(stop):
    while True:
        {line}
        await asyncio.sleep(0)

without_bus(main, False)
"""


@pytest.mark.parametrize("line", ["print_json({'a': 1})", "out.print('a')"])
def test_a_reader_that_ends_is_no_error(tmp_path: Path, line: str) -> None:
    argv = [sys.executable, "-c", WRITING.format(line=line)]
    with subprocess.Popen(argv, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(60 * PATIENCE), said) == (0, b"")


INTERRUPTED = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
from hams_services.ctl.__main__ import main
sys.argv = ["hams-ctl", "models", "list"]
main()
"""


@pytest.mark.parametrize("module", ["hams_services.ctl.process", "hams_services.ctl.app", "rich", "yaml"])
def test_interrupted_while_it_imports(tmp_path: Path, module: str) -> None:
    argv = [sys.executable, "-c", INTERRUPTED.format(module=module)]
    done = subprocess.run(argv, env=environment(tmp_path), capture_output=True, timeout=60 * PATIENCE)
    assert (done.returncode, done.stderr, done.stdout) == (130, b"", b"")
