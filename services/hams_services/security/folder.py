"""The folder that `hams-ctl init` makes and keeps: authority, broker's files, one credentials file per user.

    DIR/authority.key            signs the broker's certificate; stays here
    DIR/broker/                  all the broker needs, nothing secret of others: nats.conf, accounts.conf, ca.crt,
                                 broker.crt, broker.key
    DIR/{admin,scheduler,pipeline,app,dashboard,agent-BOX}.creds

Running `init` again keeps what is there and adds what is missing.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import nkeys

from hams_services.security import certificates
from hams_services.security.roles import accounts, roles
from hams_shared.credentials import Credentials, load
from hams_shared.errors import BadInputError

ALWAYS = ("localhost", "127.0.0.1", "::1", "nats")
"""Hosts that every broker's certificate is for: this machine, and the broker's name among containers."""
BOX = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?")

_NATS_CONF = """\
# Made by `hams-ctl init`, for `nats-server -c {folder}/nats.conf`, as in a container of the official image.
listen: "0.0.0.0:4222"
http: "127.0.0.1:8222"  # health only, from inside
max_payload: {max_payload}
max_pending: 256MB
write_deadline: "10s"
ping_interval: "5s"
ping_max: 3
jetstream {{
  store_dir: "{store}"
  sync_interval: always
}}
tls {{
  cert_file: "{folder}/broker.crt"
  key_file: "{folder}/broker.key"
  min_version: "1.2"
}}
include "accounts.conf"
"""


@dataclass(frozen=True)
class Made:
    """What one run of `init` did."""

    folder: Path
    hosts: list[str]
    """What the broker's certificate is for."""
    expires: datetime
    added: list[str]
    """Users that were not there before."""
    users: list[str]
    new_site: bool
    renewed: bool
    """Whether the broker has a new certificate."""


def make(
    folder: Path,
    hosts: list[str],
    boxes: list[str],
    *,
    renew: bool = False,
    broker_folder: str = "/etc/nats",
    store: str = "/data",
    max_payload: int,
    now: datetime | None = None,
) -> Made:
    """Make the folder, or add to it.

    Raises:
        BadInputError: a box's name does not fit a subject, a host is none, hosts were given for a certificate that is
            kept, a file cannot be written or is damaged.
    """
    for box in boxes:
        if not BOX.fullmatch(box):
            raise BadInputError(
                f"{box!r} cannot be a box's name", "small letters, digits, - and _, as in the box's device ids"
            )
    names = [_host(host) for host in hosts]
    now = now or datetime.now(UTC)
    try:
        return _make(folder, names, boxes, renew, broker_folder, store, max_payload, now)
    except OSError as error:
        raise BadInputError(f"cannot write {error.filename or folder}: {error.strerror}") from None
    except ValueError as error:
        raise BadInputError(f"{folder} is damaged: {error}", "move it away and run init anew") from None


def _host(text: str) -> str:
    try:
        return certificates.host_name(text)
    except ValueError:
        raise BadInputError(
            f"{text!r} cannot be the broker's host", "a name or an IP address, as edge.example: no port, no tls://"
        ) from None


def _make(
    folder: Path,
    hosts: list[str],
    boxes: list[str],
    renew: bool,
    broker_folder: str,
    store: str,
    max_payload: int,
    now: datetime,
) -> Made:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / ".gitignore").exists():
        _write(folder / ".gitignore", b"*\n", 0o644)  # a checkout is where most people run this
    broker = folder / "broker"
    broker.mkdir(mode=0o755, exist_ok=True)
    new_site = not (folder / "authority.key").exists()
    if new_site:
        key = certificates.new_key()
        _write(broker / "ca.crt", certificates.authority(key, now), 0o644)
        _write(folder / "authority.key", key, 0o600)  # last: without it the site counts as not made
    authority = (broker / "ca.crt").read_bytes()

    wanted = list(dict.fromkeys([*ALWAYS, *hosts]))
    there = (broker / "broker.crt").exists()
    if there and not renew and set(wanted) - set(certificates.hosts_of((broker / "broker.crt").read_bytes())):
        raise BadInputError(
            f"the broker's certificate in {broker} is there already, for other hosts",
            "add --renew-broker to replace it",
        )
    renewed = renew or not there
    if renewed:
        if there:
            wanted = list(dict.fromkeys([*certificates.hosts_of((broker / "broker.crt").read_bytes()), *wanted]))
        key = certificates.new_key()
        signed = certificates.broker(key, authority, (folder / "authority.key").read_bytes(), wanted, now)
        _write(broker / "broker.key", key, 0o640)
        _write(broker / "broker.crt", signed, 0o644)

    known = {path.stem.removeprefix("agent-") for path in folder.glob("agent-*.creds")}
    added = []
    entries = []
    for role in roles(sorted(known | set(boxes))):
        path = folder / f"{role.user}.creds"
        if not path.exists():
            seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()
            _write(path, Credentials(role.user, authority.decode(), seed).to_text().encode(), 0o600)
            added.append(role.user)
        entries.append((role, public_key(load(path).seed)))
    _write(broker / "accounts.conf", accounts(entries).encode(), 0o644)
    if not (broker / "nats.conf").exists():
        conf = _NATS_CONF.format(folder=broker_folder, store=store, max_payload=max_payload)
        _write(broker / "nats.conf", conf.encode(), 0o644)
    certificate = (broker / "broker.crt").read_bytes()
    return Made(
        folder,
        certificates.hosts_of(certificate),
        certificates.expires(certificate),
        added,
        [role.user for role, _ in entries],
        new_site,
        renewed,
    )


def public_key(seed: str) -> str:
    """The public half of an NKey seed; all that the broker gets to know."""
    return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())


def server_options(folder: Path, store: Path) -> str:
    """Lines for a nats-server configuration in `store` that make it use the site's certificate and users.

    Raises:
        BadInputError: `folder` is not one that `init` made.
    """
    broker = folder / "broker"
    for name in ("accounts.conf", "broker.crt", "broker.key"):
        if not (broker / name).is_file():
            raise BadInputError(f"{folder} holds no {'broker/' + name}", "make it with `hams-ctl init --dir DIR`")
    return (
        f"tls {{ cert_file: {json.dumps(str(broker / 'broker.crt'))}, "
        f'key_file: {json.dumps(str(broker / "broker.key"))}, min_version: "1.2" }}\n'
        # nats-server takes the path as relative to this file, whatever it begins with.
        f"include {json.dumps(os.path.relpath(broker / 'accounts.conf', store))}\n"
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file whole, never readable by more than `mode` says."""
    if path.exists() and path.read_bytes() == data:
        return
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
