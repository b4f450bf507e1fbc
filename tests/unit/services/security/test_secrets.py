"""Secrets are in files and the environment only: in no option, argument of a process, record or error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hams_services.ctl.system.up import part
from hams_services.pipeline.sources.opening import open_source
from hams_services.pipeline.sources.secrets import with_secrets
from hams_shared.errors import SourceError
from hams_shared.group.stream_spec import StreamSpec

SECRET = "p@ss/w#rd"
SOUNDS_SECRET = re.compile(r"pass|secret|token|seed|pwd", re.I)


def test_no_option_takes_a_secret() -> None:
    """In docs/cli.md, which a test of its own compares with the code."""
    page = (Path(__file__).parents[4] / "docs" / "cli.md").read_text(encoding="utf-8")
    options = re.findall(r"^\| (?:`-\w`, )?`(--[\w-]+)`( `[^`]+`)?", page, re.MULTILINE)
    named = {(name, takes.strip(" `")) for name, takes in options if takes and SOUNDS_SECRET.search(name)}
    assert {"--password-file", "--tokens", "--secrets"} <= {name for name, _ in named}
    assert {(name, takes) for name, takes in named if takes not in ("PATH", "DIRECTORY", "FILE")} == set()


@pytest.mark.parametrize("url", ["nats://user:hunter22@box:4222", "nats://box1:4222,nats://u:hunter22@box2:4222"])
def test_a_brokers_password_is_in_no_argument(url: str, tmp_path: Path) -> None:
    spec = part("pipeline", "hams_services.pipeline", url, tmp_path, credentials=None)
    assert not [one for one in spec.argv if "hunter22" in one]
    assert spec.env["HAMS_NATS_URL"] == url
    plain = part("pipeline", "hams_services.pipeline", "nats://box:4222", tmp_path, credentials=tmp_path / "x")
    assert plain.argv[-2:] == ("--nats", "nats://box:4222")
    assert set(plain.env) == {"HAMS_CREDENTIALS"}


def test_an_address_names_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "GATE").write_text(f"{SECRET}\n")
    known = {"HAMS_SECRET_DOOR": SECRET, "HAMS_SECRET_FOLDER": str(tmp_path), "HOME": "/root"}
    for name in ("DOOR", "GATE"):
        assert with_secrets(f"rtsp://u:${{{name}}}@cam/main", known) == "rtsp://u:p%40ss%2Fw%23rd@cam/main"
    assert with_secrets("media/${DOOR}.mp4", known) == "media/${DOOR}.mp4"
    for other in ("HOME", "NONE"):
        with pytest.raises(SourceError, match=rf"needs the secret {other}.*HAMS_SECRET_{other}") as raised:
            with_secrets(f"rtsp://u:${{{other}}}@cam/main", known)
        assert "/root" not in str(raised.value)


def test_an_error_of_a_source_does_not_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_SECRET_DOOR", SECRET)
    for source in ("http://127.0.0.1:9/${DOOR}/video", "rtsp://u:${DOOR}@127.0.0.1:9/x"):
        spec = StreamSpec(source=source)
        assert "${DOOR}" in spec.model_dump_json()  # what is stored and shown
        with pytest.raises(SourceError) as raised:
            open_source(spec)
        assert SECRET not in str(raised.value)
        assert "p%40ss" not in str(raised.value)
