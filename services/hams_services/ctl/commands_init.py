"""`hams-ctl init`: a site's certificate authority, the broker's files, and credentials for each role."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.broker import MAX_PAYLOAD
from hams_services.ctl.console import directly, err, out
from hams_services.ctl.options import Debug
from hams_services.security.folder import Made, make
from hams_shared.credentials import AGENT
from hams_shared.process import host_name
from hams_shared.runfile import running_broker
from hams_shared.subjects import token


def init(
    folder: Annotated[Path, typer.Option("--dir", help="Folder to make, or to add to.")] = Path("secrets"),
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address under which other boxes reach the broker; repeat for more."),
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(help="A box that brings devices, by its HAMS_HOST; repeat for more. [this one]")
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(help="A broker of a cluster, by the name or address under which others reach it; three or more."),
    ] = None,
    leaf: Annotated[
        list[str] | None,
        typer.Option(help="A box with a broker of its own that is a leaf of the cluster; by its name."),
    ] = None,
    renew_broker: Annotated[bool, typer.Option("--renew-broker", help="Make brokers' certificates anew.")] = False,
    broker_dir: Annotated[
        str, typer.Option(help="Where the broker finds its files: that of the official image's container.")
    ] = "/etc/nats",
    broker_store: Annotated[str, typer.Option(help="Where the broker keeps its data.")] = "/data",
    debug: Debug = False,
) -> None:
    """Make keys, certificates and users, so that only who has credentials gets to the broker, and only over TLS.

    Run again with --box NAME to let another box in; what is there is kept. With --cluster there is a folder for each
    of the cluster's boxes, with all that its broker needs.
    """

    def main() -> None:
        own = token(host_name())
        first = not folder.exists()
        boxes = [token(name) for name in box] if box else ([own] if first and not cluster else [])
        hosts = list(host or []) or ([socket.gethostname()] if first else [])
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
        _say(folder, made)

    directly(main, debug)


def _say(folder: Path, made: Made) -> None:
    out.print(f"[bold]{folder}[/bold] is {'made' if made.new_site else 'kept'}")
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
        out.print(f"next: hams-ctl up --secrets {folder} --host 0.0.0.0      or: docker compose up")
        out.print(f"then: export HAMS_CREDENTIALS={folder / 'admin.creds'}    and: hams-ctl deploy examples/face.yaml")
    if made.new_site:
        return
    with_folder = {f"{AGENT}{token(name)}" for name in (*made.cluster, *made.leaves)}
    for user in made.added:
        if not user.startswith(AGENT) or user in with_folder:
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
