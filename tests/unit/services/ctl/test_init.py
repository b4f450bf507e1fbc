"""The next steps that `hams-ctl init` prints can be done."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hams_services.ctl.app import app


def init(folder: Path, *options: str) -> list[str]:
    done = CliRunner().invoke(app, ["init", "--dir", str(folder), *options])
    assert done.exit_code == 0
    return " ".join(done.output.split()).split("next: ")[1:]


def test_next_steps_of_a_site_that_this_box_is_not_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_HOST", "here")
    folder = tmp_path / "our secrets"
    first = init(folder, "--box", "other")
    assert first[0].startswith(f"hams-ctl init --dir '{folder}' --box here ")
    assert first[1].startswith(f"hams-ctl up --secrets '{folder}' ")
    again = init(folder, "--box", "here")
    assert again[0].startswith(f"hams-ctl up --secrets '{folder}' ")
    assert (folder / "agent-here.creds").exists()


def test_next_steps_of_a_site_of_this_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_HOST", "here")
    assert init(tmp_path / "s")[0].startswith(f"hams-ctl up --secrets {tmp_path / 's'} ")
    assert "hams-ctl join" in init(tmp_path / "s", "--box", "other")[0]
