"""The systemd units are sound, and what they start takes the options they give."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hams_services.ctl.system.broker import find_nats_server
from support.wait import PATIENCE

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
HERE = Path(sys.executable).parent


def installed(path: str) -> str:
    """What stands for a program of /opt/hams/bin in this environment."""
    name = Path(path).name
    return str(find_nats_server()) if name == "nats-server" else str(HERE / name)


def commands() -> list[list[str]]:
    found = []
    for unit in sorted(UNITS.glob("*.service")):
        for line in unit.read_text().splitlines():
            if line.startswith("ExecStart="):
                program, *options = shlex.split(line.removeprefix("ExecStart="))
                assert program.startswith("/opt/hams/bin/"), unit
                found.append([installed(program), *options])
    return found


@pytest.mark.parametrize("name", ["hams-pipeline", "hams-agent@", "hams-join"])
def test_parts_that_open_devices_may(name: str) -> None:
    assert "\nSupplementaryGroups=video render\n" in (UNITS / f"{name}.service").read_text()


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NOT TESTED: the units need systemd-analyze (apt install systemd)")
    paths = []
    for unit in UNITS.glob("*.service"):
        text = unit.read_text()
        for program in {word for word in text.split() if "/opt/hams/bin/" in word}:
            text = text.replace(program, f"{program.split('/')[0]}{installed(program)}")
        path = tmp_path / unit.name.replace("@.", "@cpu.")
        path.write_text(text)
        paths.append(str(path))
    assert paths
    argv = ["systemd-analyze", "verify", "--man=no", *paths]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "hams-" in line]
    assert (done.returncode, said) == (0, []), done.stderr


@pytest.mark.parametrize("command", commands(), ids=lambda argv: Path(argv[0]).name)
def test_programs_take_what_the_units_give_them(command: list[str]) -> None:
    if command[0] == str(find_nats_server()):
        command = [command[0], "--config", str(UNITS / "hams-broker.conf"), "-t"]  # reads it and ends
    else:
        command = [*command, "--help"]  # an option that is not there is refused before
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
