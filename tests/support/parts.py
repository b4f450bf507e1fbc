"""A whole system as plain processes, so that a test may start, stop and replace each part by itself.

The broker is a test's own; each part gets an environment of its own on top of the common one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from support.up import ROOT, Up

MODULES = {"scheduler": "hams_scheduler", "pipeline": "hams_services.pipeline", "agent": "hams_agents"}


class Parts(Up):
    """`Up` whose parts nobody supervises. Those that still run at the end are stopped, agents first."""

    def __init__(self, home: Path, url: str) -> None:
        super().__init__(home)
        self.env["HAMS_NATS_URL"] = self._url = url
        self._parts: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Parts:
        (self.home / "logs").mkdir(parents=True)
        return self

    def __exit__(self, *exc: object) -> None:
        codes = {name: self.end(name) for name in sorted(self._parts)}  # all of them, before any is complained of
        for name, code in codes.items():
            assert code == 0 or any(exc), f"{name} ended with {code}\n{self.log(name)}"

    @property
    def url(self) -> str:
        return self._url

    def start(self, name: str, *options: str, **env: str) -> subprocess.Popen[bytes]:
        """Start the part that `name` begins with: ``agent-old``, ``scheduler-2``."""
        argv = [sys.executable, "-m", MODULES[name.split("-")[0]], *options]
        with self._path(name).open("ab") as log:
            part = subprocess.Popen(argv, env={**self.env, **env}, cwd=ROOT, stdout=log, stderr=log)
        self._parts[name] = part
        return part

    def end(self, name: str, number: int = signal.SIGTERM, timeout: float = 120) -> int:
        """Signal a part, wait for its end, return its exit code."""
        part = self._parts.pop(name)
        part.send_signal(number)
        try:
            return part.wait(timeout)
        except subprocess.TimeoutExpired:
            part.kill()
            part.wait(10)
            raise

    def log(self, name: str) -> str:
        return self._path(name).read_text()

    def _path(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def until_devices(self, **states: str) -> None:
        """Wait until exactly these units are there, in these states."""
        self.json_when(lambda found: {d["record"]["host"]: d["state"] for d in found} == states, "devices")
