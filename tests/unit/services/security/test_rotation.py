"""New keys beside the old ones, and users that come and go: what the folder holds after each step."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hams_services.ctl.app import app
from hams_services.security.folder import keyring, public_key, set_up_site
from hams_services.security.rotation import Folder
from hams_shared.errors import BadInputError, NotFoundError, RefusedError
from hams_shared.runtime.credentials import load
from hams_shared.wire.subjects import token


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("HAMS_HOME", str(tmp_path / "home"))
    set_up_site(tmp_path / "site", [], ["box", "box2"], max_payload=1000)
    return Folder(tmp_path / "site", 1000)


def accepted(site: Folder) -> str:
    return (site.path / "broker" / "accounts.conf").read_text()


def key(path: Path) -> str:
    return public_key(load(path).seed)


def test_a_rotation_keeps_the_old_key_until_it_is_finished(site: Folder) -> None:
    creds, inode = site.creds("agent-box"), site.creds("agent-box").stat().st_ino
    others = {path.name: path.read_bytes() for path in site.path.glob("*.creds") if path != creds}
    old = key(creds)
    site.begin("agent-box")
    new = key(site.following("agent-box"))
    assert key(creds) == old != new
    assert old in accepted(site)
    assert new in accepted(site)
    site.begin("agent-box")  # again, as after an interruption
    assert key(site.following("agent-box")) == new
    site.switch("agent-box")
    assert key(creds) == new
    assert creds.stat().st_ino == inode  # a container that mounts the file sees the new content
    assert creds.stat().st_mode & 0o777 == 0o600
    assert old in accepted(site)
    assert site.in_rotation("agent-box")
    set_up_site(site.path, [], ["box3"], max_payload=1000)  # `init` meanwhile changes nothing of it
    assert old in accepted(site)
    site.finish("agent-box")
    assert old not in accepted(site)
    assert new in accepted(site)
    assert {path.name: path.read_bytes() for path in site.path.glob("*.creds") if path.name in others} == others


def test_a_switch_that_was_interrupted_is_continued(site: Folder) -> None:
    site.begin("app")
    following = site.following("app").read_bytes()
    site.creds("app").write_bytes(following)  # the process ended between the two
    site.switch("app")
    assert not site.following("app").exists()
    assert site.creds("app").read_bytes() == following


def test_who_is_revoked_stays_so_until_he_is_added(site: Folder) -> None:
    keys = {user: key(site.creds(user)) for user in ("agent-box2", "pipeline", "dashboard")}
    for user, old in keys.items():
        site.revoke(user, 5.0)
        assert old not in accepted(site)
        with pytest.raises(NotFoundError, match=f"{user} is revoked .*credentials add {user}"):
            site.begin(user)
    assert "agent-box2" not in set_up_site(site.path, [], [], max_payload=1000).users
    assert not site.creds("pipeline").exists()
    assert [(one.user, one.state, one.since) for one in site.users()][-1] == ("pipeline", "revoked", 5.0)
    for user, old in keys.items():
        site.add(user)
        assert old not in accepted(site)
        assert key(site.creds(user)) in accepted(site)
    assert keyring(site.path).revoked == {}


def test_an_application_of_its_own_has_the_rights_of_applications(site: Folder) -> None:
    site.add("app-door")
    site.add("dashboard-wall")
    lines = accepted(site)
    rights = lines.partition("# app-door:")[2].partition("} }")[0]
    assert '"hams.v1.infer.>"' in rights
    assert '"_INBOX_app-door.>"' in rights
    assert '"_INBOX_app-door.>"' in lines.partition("# pipeline:")[2].partition("} }")[0]  # it may answer at any time
    assert '"hams.v1.infer.>"' not in lines.partition("# dashboard-wall:")[2].partition("} }")[0]


@pytest.mark.parametrize("user", ["web", "app-", "agent", "../x", "leaf-x", "system"])
def test_what_is_no_user_is_refused(site: Folder, user: str) -> None:
    with pytest.raises((BadInputError, RefusedError)):
        site.add(user)


@pytest.mark.parametrize("user", ["admin", "system"])
def test_nobody_locks_himself_out(site: Folder, user: str) -> None:
    with pytest.raises(RefusedError, match="nobody could administer"):
        site.revoke(user, 1.0)
    assert key(site.creds(user)) in accepted(site)


def test_a_damaged_keyring_lets_nobody_back_in(site: Folder) -> None:
    site.revoke("agent-box2", 1.0)
    (site.path / "credentials.json").write_text("{")
    with pytest.raises(BadInputError, match=r"credentials\.json is damaged"):
        set_up_site(site.path, [], [], max_payload=1000)
    assert "agent-box2" not in accepted(site)


MEMBERS = ["box1", "box2", "box3"]


@pytest.mark.parametrize("host", ["shop.example", "10.0.0.7", "box4"])
def test_a_leaf_is_revoked_and_comes_back_by_init_alone(tmp_path: Path, host: str) -> None:
    def init(*leaves: str) -> list[str]:
        return set_up_site(tmp_path, [], [], cluster=MEMBERS, leaves=[*leaves], max_payload=1000).leaves

    user, folder = f"leaf-{token(host)}", tmp_path / "leaf" / host
    init(host, "other.example")
    site = Folder(tmp_path, 1000)
    old, certificate = key(site.creds(user)), (folder / "broker" / "broker.key").read_bytes()
    site.revoke(user, 1.0)
    assert not folder.exists()
    assert not site.creds(user).exists()
    assert site.boxes() == [*(f"cluster/{name}" for name in MEMBERS), "leaf/other.example"]
    site.add("app-door")  # all commands go on
    assert init() == ["other.example"]
    lists = [tmp_path / "broker", *(tmp_path / "cluster" / name / "broker" for name in MEMBERS)]
    for one in lists:
        text = (one / "accounts.conf").read_text()
        assert old not in text
        assert user not in text
    with pytest.raises(BadInputError, match=f"{user} is a leaf's broker.*init --leaf HOST"):
        site.add(user)
    with pytest.raises(NotFoundError, match=f"{user} is revoked .*init --leaf HOST"):
        site.revoke(user, 2.0)
    assert init(host) == sorted([host, "other.example"])
    assert (folder / "broker" / "broker.key").read_bytes() != certificate
    assert key(site.creds(user)) != old
    for one in lists:
        assert key(site.creds(user)) in (one / "accounts.conf").read_text()
    assert keyring(tmp_path).revoked == {}


def test_a_folder_that_an_earlier_version_left_when_it_revoked_a_leaf_is_deleted(tmp_path: Path) -> None:
    set_up_site(tmp_path, [], [], cluster=MEMBERS, leaves=["shop.example"], max_payload=1000)
    (tmp_path / "leaf-shop-example.creds").unlink()
    (tmp_path / "credentials.json").write_text('{"version": 1, "old": {}, "revoked": {"leaf-shop-example": 5.0}}')
    Folder(tmp_path, 1000).finish("")  # as `credentials reload` does
    assert not (tmp_path / "leaf" / "shop.example").exists()
    assert not (tmp_path / "leaf-shop-example.creds").exists()


def test_the_key_of_a_leaf_is_not_rotated(tmp_path: Path) -> None:
    set_up_site(tmp_path, [], [], cluster=MEMBERS, leaves=["shop.example"], max_payload=1000)
    site = Folder(tmp_path, 1000)
    options = ["--dir", str(tmp_path), "--nats", "nats://127.0.0.1:9"]
    result = CliRunner().invoke(app, ["credentials", "rotate", "leaf-shop-example", *options])
    assert result.exit_code == 7, result.output
    text = " ".join(result.output.split())
    assert "cannot be rotated without a pause (hams-ctl credentials revoke leaf-shop-example, then" in text
    assert not site.following("leaf-shop-example").exists()
    with pytest.raises(NotFoundError):
        site.begin("leaf-none")


def test_what_the_command_prints_without_a_broker(site: Folder) -> None:
    def ctl(*words: str, code: int = 0) -> str:
        options = ["--dir", str(site.path), "--nats", "nats://127.0.0.1:9"]
        result = CliRunner().invoke(app, ["credentials", *words, *options])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    assert "no broker runs" in ctl("add", "agent-box3")
    assert "there are no credentials of nobody (there are admin" in ctl("rotate", "nobody", code=5)
    assert "copy it to box4 and nowhere else" in ctl("add", "agent-box4")
    assert "the next one to start reads its users" in ctl("revoke", "agent-box3")
    assert "agent-box3 revoked" in ctl("list")
    assert "no broker at" in ctl("rotate", "app", code=5)
    result = CliRunner().invoke(app, ["credentials", "rotate", "app", "--dir", str(site.path), "--nats", "nats://x:y"])
    assert result.exit_code == 5, result.output  # a named error, as everywhere
    seeds = [load(path).seed for path in site.path.glob("*.creds")]
    assert not [seed for seed in seeds if seed in ctl("list", "--json")]
