"""The folder of keys and credentials."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from hams_services.security import certificates
from hams_services.security.folder import SiteReport, public_key, set_up_site
from hams_shared.errors import BadInputError, CredentialsError
from hams_shared.runtime.credentials import load

ROLES = ["admin", "scheduler", "pipeline", "optimizer", "app", "dashboard"]


def init(folder: Path, *boxes: str, hosts: tuple[str, ...] = (), renew: bool = False) -> SiteReport:
    return set_up_site(folder, list(hosts), list(boxes), renew=renew, max_payload=1000)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_site(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = init(folder, "box1", hosts=("edge.example", "10.0.0.7"))
    assert made.new_site
    assert made.users == [*ROLES, "agent-box1"] == made.added
    assert {"localhost", "127.0.0.1", "nats", "edge.example", "10.0.0.7"} <= set(made.hosts)
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".crt", ".conf") and path.name != ".gitignore":
            assert path.stat().st_mode & 0o007 == 0, path  # nobody else reads a key
    accounts = (folder / "broker" / "accounts.conf").read_text()
    for user in made.users:
        credentials = load(folder / f"{user}.creds")
        assert credentials.user == user
        assert public_key(credentials.seed) in accounts
        assert credentials.seed not in accounts
        assert credentials.seed not in repr(credentials)
        assert credentials.tls().verify_mode == ssl.CERT_REQUIRED


def test_the_umask_narrows_the_modes_of_files(tmp_path: Path) -> None:
    """The group may read a broker's key, for a broker that is another user, unless the user's umask forbids it."""
    before = os.umask(0o022)
    try:
        init(tmp_path / "usual")
        os.umask(0o077)
        init(tmp_path / "narrow")
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert (tmp_path / "usual" / "broker" / "broker.key").stat().st_mode & 0o777 == 0o640
    for path in (tmp_path / "narrow").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_again_keeps_what_is_there_and_adds_a_box(tmp_path: Path) -> None:
    init(tmp_path, "box1")
    before = contents(tmp_path)
    assert init(tmp_path).added == []
    assert contents(tmp_path) == before
    made = init(tmp_path, "box2")
    assert made.added == ["agent-box2"]
    assert not made.renewed
    after = contents(tmp_path)
    assert {name for name in after if after[name] != before.get(name)} == {"agent-box2.creds", "broker/accounts.conf"}
    assert before["broker/accounts.conf"].decode().strip(" }]\n") in after["broker/accounts.conf"].decode()


def test_other_hosts_need_a_new_certificate(tmp_path: Path) -> None:
    init(tmp_path, "box1", hosts=("one",))
    init(tmp_path, hosts=("one",))
    with pytest.raises(BadInputError, match="--renew-broker"):
        init(tmp_path, hosts=("two",))
    before = contents(tmp_path)
    made = init(tmp_path, hosts=("two",), renew=True)
    assert {"one", "two"} <= set(made.hosts)
    after = contents(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"broker/broker.crt", "broker/broker.key"}


def test_a_renewal_that_was_killed_is_made_up_for(tmp_path: Path) -> None:
    init(tmp_path, hosts=("one",))
    broker = tmp_path / "broker"
    (broker / "broker.key").write_bytes(certificates.new_key())  # the certificate was not written any more
    made = init(tmp_path)
    assert made.renewed
    assert "one" in made.hosts
    ssl.create_default_context().load_cert_chain(broker / "broker.crt", broker / "broker.key")
    assert not init(tmp_path).renewed


def test_certificates_hold_for_their_time() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    key = certificates.new_key()
    authority = certificates.authority(key, now)
    signed = certificates.broker(certificates.new_key(), authority, key, ["a", "10.0.0.1", "a"], now)
    assert certificates.hosts_of(signed) == ["a", "10.0.0.1"]
    assert certificates.expires(signed) == now + timedelta(days=825)
    assert certificates.expires(authority) > certificates.expires(signed)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"'Box\.1' cannot be a box's name"):
        init(tmp_path / "a", "Box.1")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="cannot write"):
        init(tmp_path / "file")
    init(tmp_path / "b", "box1")
    (tmp_path / "b" / "authority.key").write_text("nonsense")
    with pytest.raises(BadInputError, match="is damaged"):
        init(tmp_path / "b", renew=True)


def test_files_that_are_no_credentials(tmp_path: Path) -> None:
    init(tmp_path, "box1")
    good = (tmp_path / "app.creds").read_text()
    path = tmp_path / "x.creds"
    for text, reason in (
        ("", "lacks the user's name, a certificate, an NKey seed"),
        (good[: good.index("-----BEGIN USER")], "lacks an NKey seed"),
        (good.replace("MII", "xxx"), "certificate cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(CredentialsError, match=reason):
            load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CredentialsError, match="not a text file"):
        load(path)
    with pytest.raises(CredentialsError, match="No such file"):
        load(tmp_path / "none.creds")


@pytest.mark.parametrize("host", ["edge:4222", "tls://edge", "bad host", "", "-x", "a" * 64, "a..b", "10.0.0.0/8"])
def test_hosts_that_are_none(tmp_path: Path, host: str) -> None:
    with pytest.raises(BadInputError, match="cannot be the broker's host"):
        init(tmp_path / "site", "box1", hosts=(host,))
    assert not (tmp_path / "site").exists()


def test_hosts_are_named_as_certificates_name_them(tmp_path: Path) -> None:
    made = init(tmp_path, "box1", hosts=("Edge.Example", "bücher.example", "FD00::0001", "10.0.0.7"))
    assert made.hosts[-4:] == ["edge.example", "xn--bcher-kva.example", "fd00::1", "10.0.0.7"]
    again = init(tmp_path, hosts=("EDGE.example", "[fd00::1]"))
    assert not again.renewed


def test_git_leaves_the_folder_alone(tmp_path: Path) -> None:
    init(tmp_path / "secrets", "box1")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    seen = subprocess.run(
        ["git", "-C", tmp_path, "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True
    ).stdout
    assert seen == ""


def test_credentials_that_others_may_read_are_complained_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    init(tmp_path, "box1")
    load(tmp_path / "app.creds")
    assert not [one for one in caplog.records if one.name.startswith("hams")]
    (tmp_path / "app.creds").chmod(0o644)
    load(tmp_path / "app.creds")
    assert f"every user of this machine may use the credentials {tmp_path / 'app.creds'}" in caplog.text


BROKERS = ["10.0.0.7", "box1", "box2"]


def cluster(folder: Path, *boxes: str, members: list[str] | None = None, leaves: list[str] | None = None) -> SiteReport:
    return set_up_site(folder, [], list(boxes), cluster=members, leaves=leaves, max_payload=1000)


def test_a_box_of_a_cluster_has_all_it_needs_and_nothing_of_others(tmp_path: Path) -> None:
    made = cluster(tmp_path, members=BROKERS, leaves=["box4"])
    assert (made.cluster, made.leaves) == (BROKERS, ["box4"])
    assert made.users == [*ROLES, "agent-10-0-0-7", "agent-box1", "agent-box2", "agent-box4", "leaf-box4"]
    common = {"broker/nats.conf", "broker/accounts.conf", "broker/tls.conf"}
    common |= {"broker/ca.crt", "broker/broker.crt", "broker/broker.key"}
    assert set(contents(tmp_path / "cluster" / "10.0.0.7")) == {*common, "broker/cluster.conf", "agent-10-0-0-7.creds"}
    assert set(contents(tmp_path / "leaf" / "box4")) == {*common, "broker/leaf.conf", "agent-box4.creds"}
    keys = [(tmp_path / kind / name / "broker" / "broker.key").read_bytes() for kind, name in boxes(made)]
    assert len(set(keys)) == 4
    password = re.findall('password: "(.+)"', (tmp_path / "cluster" / "box1" / "broker" / "cluster.conf").read_text())
    seed = load(tmp_path / "leaf-box4.creds").seed
    for kind, name in boxes(made):
        for path, content in contents(tmp_path / kind / name).items():
            assert (password[0].encode() in content) == (path == "broker/cluster.conf"), path
            assert (seed.encode() in content) == (path == "broker/leaf.conf"), path
            mode = (tmp_path / kind / name / path).stat().st_mode
            assert mode & 0o007 == 0 or path.endswith((".crt", *[str(p) for p in common if p.endswith(".conf")])), path
        users = (tmp_path / kind / name / "broker" / "accounts.conf").read_text()
        assert ("jetstream: enabled" in users) == (kind == "cluster")
        assert (public_key(seed) in users) == (kind == "cluster")


def boxes(made: SiteReport) -> list[tuple[str, str]]:
    return [*(("cluster", name) for name in made.cluster), *(("leaf", name) for name in made.leaves)]


def test_a_cluster_is_kept_and_grows(tmp_path: Path) -> None:
    cluster(tmp_path, members=BROKERS)
    before = contents(tmp_path)
    assert cluster(tmp_path).cluster == BROKERS
    assert contents(tmp_path) == before
    (tmp_path / "cluster" / "box1" / "broker" / "nats.conf").write_text("# mine")
    cluster(tmp_path, "box9", members=["box5"], leaves=["box4"])
    after = contents(tmp_path)
    changed = {name for name in after if name in before and after[name] != before[name]}
    kept = [f"cluster/{name}/broker" for name in BROKERS]
    assert changed == {
        "broker/accounts.conf",
        "cluster/box1/broker/nats.conf",
        *(f"{folder}/{name}" for folder in kept for name in ("accounts.conf", "cluster.conf")),
    }
    assert after["cluster/box1/broker/nats.conf"] == b"# mine"
    assert b"@box5:6222" in after["cluster/box1/broker/cluster.conf"]
    assert b"tls://box5:7422" in after["leaf/box4/broker/leaf.conf"]


def test_paths_given_once_stay(tmp_path: Path) -> None:
    set_up_site(
        tmp_path, [], [], cluster=BROKERS, broker_folder="/etc/hams/broker", store="/var/hams", max_payload=1000
    )
    before = contents(tmp_path)
    cluster(tmp_path)
    assert contents(tmp_path) == before
    assert b"/etc/nats/" not in b"".join(before.values())


@pytest.mark.parametrize(
    ("members", "leaves", "reason"),
    [
        (None, ["box4"], "a leaf needs a cluster"),
        (["box1", "box2"], None, "does not survive the loss of a broker"),
        (BROKERS, ["box1"], "are both called box1"),
        ([*BROKERS, "10-0-0-7"], None, "are both called 10-0-0-7"),
        ([*BROKERS, "tls://x"], None, "cannot be the broker's host"),
    ],
)
def test_clusters_that_are_none(tmp_path: Path, members: list[str], leaves: list[str], reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        cluster(tmp_path / "site", members=members, leaves=leaves)
    assert not (tmp_path / "site").exists()


def test_only_brokers_with_others_may_show_their_certificate_to_them(tmp_path: Path) -> None:
    cluster(tmp_path, members=BROKERS)
    for path, usages in (("broker", 1), ("cluster/box1/broker", 2)):
        found = x509.load_pem_x509_certificate((tmp_path / path / "broker.crt").read_bytes())
        assert len(list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)) == usages
