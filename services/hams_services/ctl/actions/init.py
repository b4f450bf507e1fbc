"""What `hams-ctl init` does."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from shlex import quote

from rich.text import Text

from hams_services.ctl.console import directly, err, out
from hams_services.ctl.system.broker import MAX_PAYLOAD
from hams_services.security.folder import Made, make
from hams_shared.runtime.credentials import AGENT
from hams_shared.runtime.process import host_name
from hams_shared.runtime.runfile import running_broker
from hams_shared.wire.subjects import token


def init(
    folder: Path,
    host: list[str],
    box: list[str],
    cluster: list[str] | None,
    leaf: list[str] | None,
    renew_broker: bool,
    broker_dir: str,
    broker_store: str,
    debug: bool,
) -> None:
    """Make `folder`, or add to it."""

    def main() -> None:
        own = token(host_name())
        first = not folder.exists()
        boxes = [token(name) for name in box] if box else ([own] if first and not cluster else [])
        hosts = host or ([socket.gethostname()] if first else [])
        made = make(
            folder.absolute(),
            hosts,
            boxes,
            cluster=cluster,
            leaves=leaf,
            renew=renew_broker,
            broker_folder=broker_dir,
            store=broker_store,
            max_payload=MAX_PAYLOAD,
        )
        _say(folder, made, own)

    directly(main, debug)


def _say(folder: Path, made: Made, own: str) -> None:
    out.print(Text.assemble((str(folder), "bold"), f" is {'made' if made.new_site else 'kept'}"))
    out.print(f"  broker's certificate: for {', '.join(made.hosts)}; until {made.expires:%Y-%m-%d}")
    for user in made.users:
        out.print(f"  {folder / f'{user}.creds'}{' (new)' if user in made.added and not made.new_site else ''}")
    if made.new_site:
        out.print(f"keep {folder / 'authority.key'} safe: who has it can pose as your broker")
    for kind, names in (("cluster", made.cluster), ("leaf", made.leaves)):
        for name in names:
            out.print(f"next: copy {folder / kind / name} to {name} as the folder secrets, and nothing else; there:")
            out.print(f"      HAMS_BIND=ADDRESS docker compose -f deploy/nats-{kind}.yml up -d")
    if made.new_site and not made.cluster:
        if f"{AGENT}{own}" not in made.users:  # `up` on this box brings its devices
            out.print(f"next: hams-ctl init --dir {quote(str(folder))} --box {own}")
            out.print(f"      so that this box, {own}, may bring devices too: `hams-ctl up` needs that")
        out.print(f"next: hams-ctl up --secrets {quote(str(folder))} --host 0.0.0.0      or: docker compose up")
        out.print(f"then: export HAMS_CREDENTIALS={folder / 'admin.creds'}    and: hams-ctl deploy examples/face.yaml")
    if made.new_site:
        return
    with_folder = {f"{AGENT}{token(name)}" for name in (*made.cluster, *made.leaves)}
    for user in made.added:
        if not user.startswith(AGENT) or user in with_folder:
            continue
        if user == f"{AGENT}{own}":
            out.print(f"next: hams-ctl up --secrets {quote(str(folder))} --host 0.0.0.0      (this box is {own})")
            continue
        out.print(f"next: copy {folder / f'{user}.creds'} to {user.removeprefix(AGENT)} and nowhere else; there:")
        out.print(f"      hams-ctl join --nats tls://BROKER:4222 --credentials {user}.creds")
    if made.cluster:
        err.print("brokers that run: give each box its folder again, and restart one after the other, leaves last")
        return
    if made.added:
        _reload()
    if made.renewed:
        err.print("restart the broker, or send it a SIGHUP: it reads its certificate only then")


def _reload() -> None:
    """Tell the broker of a running `hams-ctl up` to read its users again."""
    pid = running_broker()
    if pid is None:
        err.print("let a running broker read its new users: docker compose kill -s HUP nats, or kill -HUP PID")
        return
    os.kill(pid, signal.SIGHUP)
    out.print("the running broker has been told")
