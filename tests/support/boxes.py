"""A second box: a network namespace at the end of a wire. Needs root, iproute2 and /dev/net/tun."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hams_services.ctl.system.broker import MAX_PAYLOAD
from hams_services.security.folder import set_up_site
from hams_shared.runtime.credentials import VARIABLE
from support.up import ROOT, Up
from support.wire import CLEAR, CUT, Way, Wire

_SHM = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "sh"]
"""Another box shares no memory with the first."""


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20)


def require_namespaces() -> None:
    """Skip, and say so, where no network namespace can be made."""
    missing = [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"NOT TESTED: two boxes need {', '.join(missing)} (apt install iproute2)")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("NOT TESTED: two boxes need /dev/net/tun")
    name = f"hams-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"NOT TESTED: two boxes need root to make network namespaces: {made.stderr.strip()}")
    _run("ip", "netns", "delete", name)


class FarBox:
    """Box 2. Box 1 is the namespace the test runs in; `near_address` is where it is reached from box 2."""

    def __init__(self, folder: Path) -> None:
        number = os.getpid() % 250
        self._folder = folder
        self._name = f"hams-far-{os.getpid()}"
        self._near, self._far = f"hn{os.getpid()}"[:15], f"hf{os.getpid()}"[:15]
        self.near_address, self._far_address = f"10.213.{number}.1", f"10.213.{number}.2"
        self._agents: list[subprocess.Popen[bytes]] = []
        self.wire: Wire | None = None
        self.secrets = folder / "secrets"
        """What `hams-ctl init` made for both boxes."""

    def __enter__(self) -> FarBox:
        set_up_site(self.secrets, [self.near_address], ["box", "far"], max_payload=MAX_PAYLOAD)
        _run("ip", "netns", "add", self._name)
        try:
            self.wire = Wire(self._near, self._far)
            _run("ip", "link", "set", self._far, "netns", self._name)
            _run("ip", "address", "add", f"{self.near_address}/24", "dev", self._near)
            _run("ip", "link", "set", self._near, "up")
            self._inside("ip", "address", "add", f"{self._far_address}/24", "dev", self._far)
            self._inside("ip", "link", "set", self._far, "up")
            self._inside("ip", "link", "set", "lo", "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            for agent in self._agents:
                agent.send_signal(signal.SIGTERM)
            for agent in self._agents:
                try:
                    agent.wait(30)
                except subprocess.TimeoutExpired:
                    agent.kill()
                    agent.wait(10)
        finally:
            self._remove()

    def _remove(self) -> None:
        if self.wire is not None:
            self.wire.close()  # the devices go with it
        subprocess.run(["ip", "netns", "delete", self._name], capture_output=True)

    def _inside(self, *argv: str) -> None:
        _run("ip", "netns", "exec", self._name, *argv)

    def link(self, to_far: Way = CLEAR, to_near: Way = CLEAR) -> None:
        """How the wire treats packets from now on."""
        assert self.wire is not None
        self.wire.ways = (to_far, to_near)

    def cut(self) -> None:
        """Nothing passes, and nobody is told."""
        self.link(CUT, CUT)

    def heal(self) -> None:
        """The link is as it was."""
        self.link()

    def join(self, up: Up, device: str) -> subprocess.Popen[bytes]:
        """Have box 2 join with one device, under the name and the rights that its credentials give it."""
        url = f"tls://{self.near_address}:{up.url.rsplit(':', 1)[1]}"
        argv = [sys.executable, "-m", "hams_services.ctl", "join", "--nats", url, "--device", device]
        env = {**up.env, "HAMS_HOME": str(self._folder / "far"), VARIABLE: str(self.secrets / "agent-far.creds")}
        del env["HAMS_HOST"]
        with (self._folder / "far.log").open("ab") as log:
            agent = subprocess.Popen(
                ["ip", "netns", "exec", self._name, *_SHM, *argv], env=env, cwd=ROOT, stderr=log, stdout=log
            )
        self._agents.append(agent)
        return agent

    def log(self) -> str:
        logs = [self._folder / "far.log", *(self._folder / "far" / "logs").glob("*.log")]
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in logs)
