"""Three brokers and a leaf as `hams-ctl init` configures them, each on a loopback address of its own.

Each gets a copy of its box's folder and nothing else. Of the files only addresses and paths are changed: a container
has an address for itself.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nkeys
import pytest

from hams_services.ctl.system.broker import MAX_PAYLOAD, find_nats_server
from hams_services.security.folder import set_up_site
from hams_services.security.server_conf import LEAF_PORT
from hams_shared.runtime.credentials import Credentials, load
from support.wait import until_sync


def addresses(count: int) -> list[str]:
    """Loopback addresses that no other test process uses."""
    if sys.platform != "linux":
        pytest.skip("NOT TESTED: brokers with addresses of their own need Linux's 127.0.0.0/8")
    return [f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}.{number + 1}" for number in range(count)]


def make_site(folder: Path) -> list[str]:
    """What `hams-ctl init` makes for three brokers and a leaf; their addresses, the leaf's last."""
    *names, last = addresses(4)
    set_up_site(folder, [], ["box"], cluster=names, leaves=[last], max_payload=MAX_PAYLOAD)
    return [*names, last]


class Member:
    """A broker with a copy of what was `made` for its box, listening on `host`."""

    def __init__(self, made: Path, box: Path, host: str) -> None:
        shutil.copytree(made, box)
        self.box = box
        self._made = made
        self.host = host
        self.url = f"nats://{host}:4222"
        self._process: subprocess.Popen[bytes] | None = None
        for path in (box / "broker").glob("*.conf"):
            text = path.read_text().replace("0.0.0.0:", f"{host}:").replace("127.0.0.1:8222", f"{host}:8222")
            path.write_text(text.replace("/etc/nats", str(box / "broker")).replace('"/data"', f'"{box / "data"}"'))

    def change(self, file: str, pattern: str, new: str) -> None:
        """Replace what `pattern` finds in one of the broker's files."""
        path = self.box / "broker" / file
        text, found = re.subn(pattern, new, path.read_text())
        assert found, path
        path.write_text(text)

    def take_certificate(self, box: Path) -> None:
        """Show the certificate of another box's broker."""
        for name in ("broker.crt", "broker.key"):
            shutil.copy(box / "broker" / name, self.box / "broker" / name)

    def start(self) -> None:
        assert self._process is None
        with (self.box / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [str(find_nats_server()), "--config", str(self.box / "broker" / "nats.conf")], stdout=out, stderr=out
            )

    def update(self) -> None:
        """Take the users that were made since, and tell the broker, or start it."""
        shutil.copy(self._made / "broker" / "accounts.conf", self.box / "broker" / "accounts.conf")
        if self._process is None:
            self.start()
        else:
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def log(self) -> str:
        return (self.box / "out").read_text()

    def monitor(self, what: str) -> Any:
        """What its monitoring says: ``routez``, ``leafz`` …"""
        with urllib.request.urlopen(f"http://{self.host}:8222/{what}", timeout=30) as answer:
            return json.load(answer)

    def routes(self) -> set[str]:
        """Names of the brokers it has routes to."""
        return {route["remote_name"] for route in self.monitor("routez")["routes"]}

    def leaves(self) -> set[str]:
        """Names of the leaves that are connected to it."""
        return {leaf["name"] for leaf in self.monitor("leafz")["leafs"] or []}

    def answers(self) -> bool:
        try:
            return bool(self.monitor("varz"))
        except OSError:
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            return False


class TakenLeaf:
    """Who has a leaf's folder, and speaks to `hub` himself instead of by a nats-server that minds its rights."""

    def __init__(self, leaf: Member, hub: str) -> None:
        self.said = b""
        folder = leaf.box / "broker"
        key = nkeys.from_seed(bytearray(re.findall('nkey: "(.+)"', (folder / "leaf.conf").read_text())[0].encode()))
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        tls.load_cert_chain(folder / "broker.crt", folder / "broker.key")
        self._link = socket.create_connection((hub, LEAF_PORT), timeout=60)
        info = json.loads(self.until(b"\r\n", size=1).split(b" ", 1)[1])
        self._link = tls.wrap_socket(self._link, server_hostname=hub)
        signature = base64.urlsafe_b64encode(key.sign(info["nonce"].encode())).decode()
        hello = {"nkey": key.public_key.decode(), "sig": signature.rstrip("="), "name": "taken", "tls_required": True}
        self.send(f"CONNECT {json.dumps(hello)}\r\nPING\r\n")
        self.until(b"PONG")

    def __enter__(self) -> TakenLeaf:
        return self

    def __exit__(self, *exc: object) -> None:
        self._link.close()

    def send(self, text: str) -> None:
        self._link.sendall(text.encode())

    def until(self, end: bytes, size: int = 65536) -> bytes:
        """All that the hub has said, once `end` is in it."""
        while end not in self.said and (more := self._link.recv(size)):
            self.said += more
        assert end in self.said, self.said
        said, self.said = self.said, b""
        return said


class Cluster:
    """A running site with three brokers and a leaf."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.secrets = folder / "secrets"
        *names, leaf = make_site(self.secrets)
        self._folder, self._stack = folder, stack
        self.members = {name: self.add("cluster", name) for name in names}
        self.leaf = self.add("leaf", leaf)
        self.urls = ",".join(member.url for member in self.members.values())
        for member in self.all():
            member.start()
        for member in self.all():
            until_sync(member.answers, 30, member.host)

    def all(self) -> list[Member]:
        return [*self.members.values(), self.leaf]

    def add(self, kind: str, name: str, host: str = "") -> Member:
        """A broker with the folder of the box `name`, not started yet; it ends with the test."""
        number = sum(1 for _ in self._folder.glob("box-*"))
        member = Member(self.secrets / kind / name, self._folder / f"box-{number}", host or name)
        self._stack.callback(member.kill)
        return member

    def stranger(self, kind: str, name: str) -> Member:
        """A broker elsewhere with the files of the box `name`, called ``stranger``."""
        member = self.add(kind, name, addresses(5)[4])
        member.change(f"{kind}.conf", 'server_name: ".+"', 'server_name: "stranger"')
        return member

    def joined(self) -> set[str]:
        """Names of all brokers that members of the cluster let in."""
        return set().union(*(member.routes() | member.leaves() for member in self.members.values()))

    def log(self) -> str:
        return "".join(member.log() for member in self.members.values())

    def user(self, name: str) -> Credentials:
        return load(self.secrets / f"{name}.creds")

    @property
    def agent_of_leaf(self) -> str:
        """The user that is the agents of the leaf's box."""
        return f"agent-{self.leaf.host.replace('.', '-')}"
