"""The name of a box that joins: HAMS_HOST, else the one in its credentials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hams_agents.__main__ import command as agent
from hams_services.ctl.app import app
from hams_services.ctl.system.join import name_box
from hams_services.security.folder import set_up_site
from hams_shared.bus.nats import connection
from hams_shared.errors import CredentialsError
from hams_shared.runtime.credentials import VARIABLE, load


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAMS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(VARIABLE, "")  # put back afterwards, whatever the command sets
    monkeypatch.setenv("HAMS_HOST", "")
    set_up_site(tmp_path / "site", [], ["box2"], max_payload=1000)
    return tmp_path / "site"


def test_a_box_is_called_what_its_credentials_say(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = load(site / "agent-box2.creds")
    assert name_box(identity) == "box2" == os.environ["HAMS_HOST"]
    monkeypatch.setenv("HAMS_HOST", "Box2")
    assert name_box(identity) == "box2"
    monkeypatch.setenv("HAMS_HOST", "box3")
    with pytest.raises(CredentialsError, match="for the devices of box2, and this box is called box3"):
        name_box(identity)
    assert name_box(load(site / "admin.creds")) == "box3"
    assert name_box(None) == "box3"


def test_joining_with_wrong_options_is_refused_by_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.2)
    join = ["join", "--nats", "tls://127.0.0.1:9", "--device", "openvino:CPU"]
    mine = ["--credentials", str(site / "agent-box2.creds")]
    for host, more, printed in (
        ("box3", mine, "for the devices of box2, and this box is called box3"),
        ("box2", ["--credentials", str(site / "none")], "cannot read the credentials"),
        ("box2", ["--credentials", str(site / "authority.key")], "is no credentials file"),
        ("box2", mine, "no broker at tls://127.0.0.1:9"),
    ):
        monkeypatch.setenv("HAMS_HOST", host)
        result = CliRunner().invoke(app, [*join, *more])
        assert result.exit_code == 5, result.output
        assert printed in result.output


def test_an_agent_of_another_box_does_not_start(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.environ[VARIABLE] = str(site / "agent-box2.creds")
    with pytest.raises(BaseException) as ended:
        agent(device="openvino:CPU", host="box3")
    assert getattr(ended.value, "exit_code", None) == 5
    assert "HAMS_HOST=box2" in capsys.readouterr().err


def test_init_prints_which_files_each_box_gets(tmp_path: Path) -> None:
    def init(*options: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["init", "--dir", str(tmp_path / "s"), *options])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    brokers = ["--cluster", "box1", "--cluster", "box2", "--cluster", "box3"]
    assert "does not survive the loss of a broker" in init(*brokers[:4], code=2)
    printed = init(*brokers)
    assert f"copy {tmp_path}/s/cluster/box2 to box2 as the folder secrets, and nothing else" in printed
    assert "restart" not in printed
    printed = init("--leaf", "box4", "--box", "box9")
    assert f"copy {tmp_path}/s/leaf/box4 to box4" in printed
    assert f"copy {tmp_path}/s/agent-box9.creds to box9" in printed
    assert "agent-box4.creds to" not in printed
    assert "copy each box's folder again, then restart one broker after the other, leaves last" in printed
