"""What `hams-ctl init` does."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from shlex import quote

from rich.text import Text

from hams_services.ctl.console import err, out, run_sync
from hams_services.ctl.system.audit_file import tell
from hams_services.ctl.system.broker import MAX_PAYLOAD
from hams_services.security.folder import SiteReport, set_up_site
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
    """Create `folder`, or add to it."""

    def main() -> None:
        own = token(host_name())
        first = not folder.exists()
        boxes = [token(name) for name in box] if box else ([own] if first and not cluster else [])
        hosts = host or ([socket.gethostname()] if first else [])
        site = set_up_site(
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
        _report(folder, site, own)
        changed = [*site.added, *(["the broker's certificate"] if site.renewed else [])]
        if changed:
            tell("credentials", str(folder), f"made: {', '.join(changed)}")

    run_sync(main, debug)


def _report(folder: Path, site: SiteReport, own: str) -> None:
    out.print(Text.assemble((str(folder), "bold"), f" is {'created' if site.new_site else 'kept'}"))
    out.print(f"  broker's certificate: for {', '.join(site.hosts)}; until {site.expires:%Y-%m-%d}")
    for user in site.users:
        out.print(f"  {folder / f'{user}.creds'}{' (new)' if user in site.added and not site.new_site else ''}")
    if site.new_site:
        out.print(f"keep {folder / 'authority.key'} safe: whoever has it can pose as your broker")
    for kind, names in (("cluster", site.cluster), ("leaf", site.leaves)):
        for name in names:
            out.print(
                f"next: copy {folder / kind / name} to {name} as the folder secrets, and nothing else; on that box:"
            )
            out.print(f"      HAMS_BIND=ADDRESS docker compose -f deploy/nats-{kind}.yml up -d")
    if site.new_site and not site.cluster:
        if f"{AGENT}{own}" not in site.users:  # `up` on this box brings its devices
            out.print(f"next: hams-ctl init --dir {quote(str(folder))} --box {own}")
            out.print(f"      credentials for this box's own devices ({own}): `hams-ctl up` needs them")
        out.print(f"next: hams-ctl up --secrets {quote(str(folder))} --host 0.0.0.0      or: docker compose up")
        out.print(f"then: export HAMS_CREDENTIALS={folder / 'admin.creds'}    and: hams-ctl deploy examples/face.yaml")
    if site.new_site:
        return
    with_folder = {f"{AGENT}{token(name)}" for name in (*site.cluster, *site.leaves)}
    for user in site.added:
        if not user.startswith(AGENT) or user in with_folder:
            continue
        if user == f"{AGENT}{own}":
            out.print(f"next: hams-ctl up --secrets {quote(str(folder))} --host 0.0.0.0      (this box is {own})")
            continue
        out.print(f"next: copy {folder / f'{user}.creds'} to {user.removeprefix(AGENT)} and nowhere else; on that box:")
        out.print(f"      hams-ctl join --nats tls://BROKER:4222 --credentials {user}.creds")
    if site.cluster:
        err.print("if brokers run: copy each box's folder again, then restart one broker after the other, leaves last")
        return
    if site.added:
        _reload()
    if site.renewed:
        err.print("restart the broker or send it SIGHUP: only then does it read its new certificate")


def _reload() -> None:
    """Make the broker of a running `hams-ctl up` read its users again."""
    pid = running_broker()
    if pid is None:
        err.print("a running broker reads its new users after: docker compose kill -s HUP nats, or kill -HUP PID")
        return
    os.kill(pid, signal.SIGHUP)
    out.print("the running broker reads its new users")
