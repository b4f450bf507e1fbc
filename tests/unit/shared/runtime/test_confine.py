"""A confined child reads, writes and connects where it is let, and nowhere else; the parent is not confined."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from hams_shared.runtime.child_limits import Limits
from hams_shared.runtime.child_process import ChildProcess, sandboxed

SOCKETS = {f"{family} {kind}" for family in ("AF_INET", "AF_INET6") for kind in ("SOCK_STREAM", "SOCK_DGRAM")}


def tried(tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What became of a child's tries, by what it tried without the paths' folders."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    folder, outside = tmp_path / "own", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "net").write_text("n")
    paths = {
        "read": [
            str(outside / "secret"),
            str(tmp_path / "model" / "net"),
            "/etc/passwd",
        ],
        "write": [str(outside / "new"), str(tmp_path / "model" / "net"), str(folder / "made")],
    }
    with ChildProcess(folder, limits) as child:
        found = child.run("support.confined:tries", paths)
        if not child.confined:
            pytest.skip("this kernel has no Landlock")
    return {name.replace(str(tmp_path), ""): what for name, what in found.items()}


def test_a_child_that_may_read_only_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readable = (sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache", *filter(None, sys.path))
    limits = Limits(memory_mib=0, nice=0, readable=(*readable, str(tmp_path / "model")))
    found = tried(tmp_path, limits, monkeypatch)
    assert {name for name, what in found.items() if what == "yes"} == {
        "read /model/net",
        "write /own/made",
        "socketpair",
        *(["list"] if Path.home().is_relative_to(sys.prefix) else []),
    }
    assert {found[name] for name in SOCKETS} == {"PermissionError"}
    assert found["signal"] == "PermissionError"


def test_a_child_that_may_read_everything_and_write_to_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tried(tmp_path, Limits(memory_mib=0, nice=0), monkeypatch)
    assert {name for name, what in found.items() if what != "yes"} == {
        "write /outside/new",
        "write /model/net",
        "signal",
        *SOCKETS,
    }
    assert not (tmp_path / "outside" / "new").exists()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM):  # this process is as it was
        pass


def test_the_environment_of_a_sandbox_has_no_secrets(tmp_path: Path) -> None:
    environment = {
        "PATH": "/bin",
        "HAMS_CREDENTIALS": "/x/admin.creds",
        "HAMS_NATS_URL": "nats://user:pass@host",
        "AWS_SECRET_ACCESS_KEY": "s",
        "HF_TOKEN": "t",
        "DB_PASSWORD": "p",
        "LD_LIBRARY_PATH": "/opt/x",
    }
    made = sandboxed(tmp_path, environment)
    assert {name for name in environment if name in made} == {"PATH", "LD_LIBRARY_PATH"}
    assert (made["HOME"], made["TMPDIR"]) == (str(tmp_path), str(tmp_path))
