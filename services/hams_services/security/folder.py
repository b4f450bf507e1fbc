"""The folder that `hams-ctl init` creates and extends: authority, brokers' files, one credentials file per user.

    DIR/authority.key            signs the brokers' certificates; stays here
    DIR/broker/                  all that a broker alone needs, nothing secret of others: nats.conf, accounts.conf,
                                 ca.crt, broker.crt, broker.key
    DIR/cluster/NAME/            for a box with a broker of a cluster: broker/, as above with tls.conf and
                                 cluster.conf, and the credentials of its agents
    DIR/leaf/NAME/               the same for a box whose broker is a leaf of the cluster, with leaf.conf
    DIR/{admin,scheduler,pipeline,optimizer,app,dashboard,agent-BOX,leaf-NAME}.creds
    DIR/{app-NAME,dashboard-NAME}.creds   further applications, each with a key of its own
    DIR/system.creds             by which `hams-ctl credentials` asks the brokers to read their users again
    DIR/credentials.json         old keys that are still accepted, and users that are revoked (keyring.py)

Running `init` again keeps what is there and adds what is missing. A leaf that is revoked has no folder any more; `init`
makes a new one when it is named again.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import nkeys

from hams_services.security import certificates, server_conf
from hams_services.security.keyring import SYSTEM, Keyring
from hams_services.security.roles import LEAF, NAMED, Role, accounts, leaf_accounts, roles
from hams_shared.errors import BadInputError
from hams_shared.runtime.credentials import AGENT, Credentials, load
from hams_shared.runtime.files import write
from hams_shared.wire.subjects import token

ALWAYS = ("localhost", "127.0.0.1", "::1", "nats")
"""Hosts that every broker's certificate is for: this machine, and the broker's name among containers."""
BOX = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?")

KINDS = ("cluster", "leaf")
"""Folders with one folder for each broker's box."""
LEAST = 3
"""Fewest brokers of a cluster: brokers decide by majority, so two do not survive the loss of one."""


@dataclass(frozen=True)
class SiteReport:
    """The result of one run of `init`."""

    hosts: list[str]
    """The names and addresses in the broker's certificate."""
    expires: datetime
    """When that certificate does."""
    added: list[str]
    """New users."""
    users: list[str]
    new_site: bool
    renewed: bool
    """Whether the broker has a new certificate."""
    cluster: list[str]
    """Brokers of the cluster; none: there is no cluster."""
    leaves: list[str]


def set_up_site(
    folder: Path,
    hosts: list[str],
    boxes: list[str],
    *,
    cluster: list[str] | None = None,
    leaves: list[str] | None = None,
    renew: bool = False,
    broker_folder: str = "/etc/nats",
    store: str = "/data",
    max_payload: int,
    now: datetime | None = None,
) -> SiteReport:
    """Create the folder, or add to it. `cluster` and `leaves` are further boxes with brokers, by the name or address
    under which the others reach them. A leaf that is revoked is left out unless it is among `leaves`.

    Raises:
        BadInputError: a box's name does not fit a subject, a host is not a name or address, hosts were given for a
            certificate that is kept, a cluster is too small, a file cannot be written or is damaged.
    """
    names = [_host(host) for host in hosts]
    ring = keyring(folder)
    brokers = {
        kind: sorted({*_kept_boxes(folder / kind, ring), *map(_host, given or [])})
        for kind, given in zip(KINDS, (cluster, leaves), strict=True)
    }
    _check_cluster(brokers["cluster"], brokers["leaf"])
    boxes = [*boxes, *(token(name) for kind in KINDS for name in brokers[kind])]
    for box in boxes:
        if not BOX.fullmatch(box):
            raise BadInputError(
                f"{box!r} cannot be a box's name", "small letters, digits, - and _, as in the box's device ids"
            )
    place = server_conf.Place(broker_folder, store, max_payload)
    try:
        return _set_up(folder, names, boxes, brokers, renew, place, now or datetime.now(UTC))
    except OSError as error:
        raise BadInputError(f"cannot write {error.filename or folder}: {error.strerror}") from None
    except ValueError as error:
        raise BadInputError(f"{folder} is damaged: {error}", "move it away and run init again") from None


def _host(text: str) -> str:
    try:
        return certificates.host_name(text)
    except ValueError:
        raise BadInputError(
            f"{text!r} cannot be the broker's host", "a name or an IP address, as edge.example: no port, no tls://"
        ) from None


def leaf_user(name: str) -> str:
    """Return the user that the broker of leaf `name` (a host's name or address) is."""
    return f"{LEAF}{token(name)}"


def _boxes_of(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _kept_boxes(folder: Path, ring: Keyring) -> list[str]:
    """Return the boxes with a folder in `folder`, without leaves that are revoked."""
    boxes = _boxes_of(folder)
    return boxes if folder.name != "leaf" else [name for name in boxes if leaf_user(name) not in ring.revoked]


def _with_leaves(folder: Path, leaves: list[str]) -> Keyring:
    """Return the keyring in which `leaves` may have keys; delete the folders of leaves that were revoked before."""
    ring = kept = keyring(folder)
    for name in _boxes_of(folder / "leaf"):
        if leaf_user(name) in ring.revoked:  # its files hold a key that is refused, and one of a box that may be lost
            shutil.rmtree(folder / "leaf" / name, ignore_errors=True)
    for name in leaves:
        kept = kept.with_again(leaf_user(name))
    if kept != ring:
        write_keyring(folder, kept)
    return kept


def _check_cluster(cluster: list[str], leaves: list[str]) -> None:
    if leaves and not cluster:
        raise BadInputError("a leaf needs a cluster to connect to", "add --cluster HOST for each of its brokers")
    if 0 < len(cluster) < LEAST:
        raise BadInputError(
            f"a cluster of {len(cluster)} does not survive the loss of a broker",
            f"give at least {LEAST}: --cluster box1 --cluster box2 --cluster box3",
        )
    for one, other in combinations([*cluster, *leaves], 2):
        if token(one) == token(other):
            raise BadInputError(
                f"{one} and {other} are both called {token(one)} as a box",
                "a box has one broker, in the cluster or as a leaf; give each box a name of its own",
            )


def _set_up(
    folder: Path,
    hosts: list[str],
    boxes: list[str],
    brokers: dict[str, list[str]],
    renew: bool,
    place: server_conf.Place,
    now: datetime,
) -> SiteReport:
    authority, new_site = _authority(folder, now)
    broker = folder / "broker"
    renewed = _certify(broker, authority, [*ALWAYS, *hosts], renew=renew)
    known = {path.stem.removeprefix(AGENT) for path in folder.glob(f"{AGENT}*.creds")}
    named = [path.stem for prefix in NAMED for path in sorted(folder.glob(f"{prefix}*.creds"))]
    users = _Users(folder, authority, _with_leaves(folder, brokers["leaf"]))
    entries, added = users.of(roles(sorted(known | set(boxes)), map(token, brokers["leaf"]), named))
    system = users.keys(SYSTEM)
    _write(broker / "accounts.conf", accounts(entries, system).encode(), 0o644)
    _write_once(broker / "nats.conf", server_conf.alone(place))
    for name in brokers["cluster"]:
        own = server_conf.cluster_conf(name, brokers["cluster"], authority.derived("cluster"))
        _box(folder, "cluster", name, authority, renew, place, accounts(entries, system), own)
    for name in brokers["leaf"]:
        own = server_conf.leaf_conf(name, brokers["cluster"], load(folder / f"{leaf_user(name)}.creds").seed)
        _box(folder, "leaf", name, authority, renew, place, leaf_accounts(entries, system), own)
    certificate = (broker / "broker.crt").read_bytes()
    return SiteReport(
        hosts=certificates.hosts_of(certificate),
        expires=certificates.expires(certificate),
        added=added,
        users=list(dict.fromkeys(role.user for role, _ in entries)),
        new_site=new_site,
        renewed=renewed,
        cluster=brokers["cluster"],
        leaves=brokers["leaf"],
    )


def _authority(folder: Path, now: datetime) -> tuple[_Authority, bool]:
    """Return the site's authority, made where there is none, and whether it is new."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / ".gitignore").exists():
        _write(folder / ".gitignore", b"*\n", 0o644)  # most people run this in a checkout
    broker = folder / "broker"
    broker.mkdir(mode=0o755, exist_ok=True)
    new = not (folder / "authority.key").exists()
    if new:
        key = certificates.new_key()
        _write(broker / "ca.crt", certificates.authority(key, now), 0o644)
        _write(folder / "authority.key", key, 0o600)  # last: a site without it counts as not set up
    return _Authority((broker / "ca.crt").read_bytes(), (folder / "authority.key").read_bytes(), now), new


@dataclass(frozen=True)
class _Users:
    """The users' credentials files and keys."""

    folder: Path
    authority: _Authority
    ring: Keyring

    def of(self, wanted: list[Role]) -> tuple[list[tuple[Role, str]], list[str]]:
        """Return each role with each public key that the broker accepts for it, and the new users."""
        valid = [role for role in wanted if role.user not in self.ring.revoked]
        added = [role.user for role in valid if not (self.folder / f"{role.user}.creds").exists()]
        return [(role, key) for role in valid for key in self.keys(role.user)], added

    def keys(self, user: str) -> list[str]:
        """Return the public keys of `user`, who gets one if it has none: the present one first."""
        path = self.folder / f"{user}.creds"
        if not path.exists():
            write_new(path, user, self.authority.certificate.decode())
        following = [path.with_suffix(NEXT)] if path.with_suffix(NEXT).exists() else []
        keys = [public_key(load(one).seed) for one in (path, *following)]
        return list(dict.fromkeys((*keys, *self.ring.old.get(user, ()))))


NEXT = ".creds.next"
"""Suffix of the credentials that will replace a user's."""


def write_new(path: Path, user: str, authority: str) -> None:
    """Write credentials of `user` with a new key."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()
    _write(path, Credentials(user, authority, seed).to_text().encode(), 0o600)


def keyring(folder: Path) -> Keyring:
    """Return what `folder` holds of old and revoked keys. Raises BadInputError: the file is damaged or unreadable."""
    path = folder / KEYRING
    try:
        return Keyring.model_validate_json(path.read_bytes()) if path.exists() else Keyring()
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise BadInputError(f"{path} is damaged", "restore it from a backup; without it revoked users return") from None


def write_keyring(folder: Path, ring: Keyring) -> None:
    """Replace what `folder` holds of old and revoked keys."""
    write(folder / KEYRING, ring.model_dump_json(indent=1).encode(), 0o600)


KEYRING = "credentials.json"
"""The file of old and revoked keys."""


def _box(
    folder: Path,
    kind: str,
    name: str,
    authority: _Authority,
    renew: bool,
    place: server_conf.Place,
    users: str,
    own: str,
) -> None:
    """Write the files of box `name`: its broker's, with `own` for this broker alone, and its agents' credentials."""
    box = folder / kind / name
    broker = box / "broker"
    broker.mkdir(mode=0o755, parents=True, exist_ok=True)
    _certify(broker, authority, [*ALWAYS, name], renew=renew, mutual=True)
    _write(broker / "ca.crt", authority.certificate, 0o644)
    _write(broker / "accounts.conf", users.encode(), 0o644)
    _write(broker / f"{kind}.conf", own.encode(), 0o640)
    _write_once(broker / "tls.conf", server_conf.mutual_tls(place))
    _write_once(broker / "nats.conf", server_conf.member(place) if kind == "cluster" else server_conf.leaf(place))
    agents = f"{AGENT}{token(name)}.creds"
    if (folder / agents).exists():
        _write(box / agents, (folder / agents).read_bytes(), 0o600)
    else:
        (box / agents).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Authority:
    certificate: bytes
    key: bytes
    now: datetime

    def derived(self, purpose: str) -> str:
        """Return a secret derived from the authority's key: always the same for one purpose."""
        return hmac.new(self.key, purpose.encode(), "sha256").hexdigest()


def _certify(broker: Path, authority: _Authority, hosts: list[str], *, renew: bool, mutual: bool = False) -> bool:
    """Write a certificate for `hosts` into `broker`, unless one is there that fits its key; return whether it was.

    With `mutual` the broker also presents it when it connects to other brokers.
    """
    path = broker / "broker.crt"
    there = certificates.hosts_of(path.read_bytes()) if path.exists() else []
    if there and not renew and _is_pair(broker):
        if set(hosts) - set(there):
            raise BadInputError(
                f"there is already a certificate for other hosts in {broker}",
                "add --renew-broker to replace it",
            )
        return False
    wanted = dict.fromkeys([*there, *hosts])
    key = certificates.new_key()
    signed = certificates.broker(key, authority.certificate, authority.key, wanted, authority.now, mutual)
    _write(broker / "broker.key", key, 0o640)
    _write(path, signed, 0o644)
    return True


def _is_pair(broker: Path) -> bool:
    """Return whether the broker's key is that of its certificate, or cannot be read here.

    A renewal that is killed may leave the new key with the old certificate. Then the broker does not start.
    """
    try:
        return certificates.is_pair((broker / "broker.crt").read_bytes(), (broker / "broker.key").read_bytes())
    except (OSError, ValueError, TypeError):
        return True


def public_key(seed: str) -> str:
    """Return the public half of an NKey seed; the broker gets only this."""
    return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())


def server_options(folder: Path, store: Path) -> str:
    """Return lines for a nats-server configuration in `store`: the site's certificate and users.

    Raises:
        BadInputError: `init` did not create `folder`.
    """
    broker = folder / "broker"
    for name in ("accounts.conf", "broker.crt", "broker.key"):
        if not (broker / name).is_file():
            raise BadInputError(f"{folder} holds no {'broker/' + name}", "create it with `hams-ctl init --dir DIR`")
    return (
        f"tls {{ cert_file: {json.dumps(str(broker / 'broker.crt'))}, "
        f'key_file: {json.dumps(str(broker / "broker.key"))}, min_version: "1.2", handshake_first: auto }}\n'
        # nats-server takes the path as relative to this file, whatever it begins with.
        f"include {json.dumps(os.path.relpath(broker / 'accounts.conf', store))}\n"
    )


def _write_once(path: Path, text: str) -> None:
    """Write a file unless there is one: people may edit it."""
    if not path.exists():
        _write(path, text.encode(), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file in one step unless it holds `data`; only users whom `mode` and the umask allow can read it."""
    if not path.exists() or path.read_bytes() != data:
        umask = os.umask(0o077)  # it can only be read by setting it
        os.umask(umask)
        write(path, data, mode & ~umask)
