"""The system under faults: the reliability benchmark's, with links, small disks, memory limits and clocks that jump."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import yaml

from benchmarks import motion_jpeg
from benchmarks.chaos import inside
from benchmarks.chaos.checks import Part
from benchmarks.chaos.proxy import Link
from benchmarks.reliability.rig import Rig, wait
from benchmarks.serving.cases import ROOT
from benchmarks.sizing.proc import usage
from hams_services.ctl.system.broker import MAX_PAYLOAD
from hams_services.security.folder import set_up_site
from hams_services.security.rotation import Folder
from hams_shared.bus.mailbox import PREFIX as MAILBOXES
from hams_shared.locks import lock
from hams_shared.runtime.credentials import AGENT, VARIABLE
from hams_shared.runtime.runfile import PID_FILE
from hams_shared.wire.frame_pool import FOLDER, PREFIX

sys.path.append(str(ROOT / "tests"))
from support.skew import Skew, jump  # the tests' own clock

UNITS = ("a", "b")
PARTS = ("scheduler-1", "scheduler-2", "pipeline", "agent-a", "agent-b")
SIZE = (64, 48)
"""Of frames, pixels."""
FPS = 10.0
"""Of each stream, frames/s."""
DEVICE_FPS = 120.0
STORE_MIB, CACHE_MIB, LOGS_MIB, SHM_MIB = 256, 64, 64, 128
STREAMS = {"kept": "lossless", "live": "live"}
BLOCK = 1 << 20
AGAIN_S = 0.25
"""How often parts are looked at: the first pause of `hams-ctl up`'s policy, s."""
MOST_DEAD = 16
"""Mailboxes of dead processes that may lie about: those younger than ten seconds are left."""


class ChaosRig(Rig):
    """Broker, two schedulers, pipeline and two agents in `folder`, each part behind a link of its own.

    With `secured`, all by TLS, and each part by the credentials of its role.
    """

    def __init__(self, folder: Path, seed: int, secured: bool = False) -> None:
        self.abilities = abilities()
        self.site = site(folder / "site") if secured else None
        self._disks = {"store": folder / "nats", "cache": folder / "cache", "logs": folder / "logs", "shm": FOLDER}
        if "mounts" in self.abilities:
            for name, mib in (("store", STORE_MIB), ("cache", CACHE_MIB), ("logs", LOGS_MIB), ("shm", SHM_MIB)):
                inside.small_disk(self._disks[name], mib)
        self.folder = folder
        secrets = self.site.path if self.site is not None else None
        super().__init__(folder, secrets=secrets, devices={name: self._profile(name) for name in UNITS})
        self._argv["broker"] = [
            *(sys.executable, "-m", "benchmarks.chaos.broker", str(folder / "nats"), str(self.port)),
            *([str(secrets)] if secrets is not None else ()),
        ]
        self.logs = self._disks["logs"]
        self.hosts = {"a": "box", "b": "box"}
        if "mounts" in self.abilities:  # b is far: it shares no memory, so its frames travel by broker and link
            self.hosts["b"] = "far"
            self.env_of["agent-b"] = {"HAMS_HOST": "far"}
            self._argv["agent-b"] = [*inside.OWN_MEMORY, *self._argv["agent-b"]]
        if self.site is not None:
            for name in PARTS:
                creds = str(self.site.creds(self.user(name)))
                self.env_of[name] = self.env_of.get(name, {}) | {VARIABLE: creds}
        for place in (self.logs, self._disks["cache"]):
            place.mkdir(parents=True, exist_ok=True)
        self.env |= {"HAMS_CACHE": str(self._disks["cache"])}
        self.down: set[str] = set()
        """Parts that a fault keeps down; any other that ends is started again, as `hams-ctl up` does."""
        self.exits: list[tuple[str, int]] = []
        """Parts that ended by themselves, and how, since someone emptied it."""
        self.links = {name: Link(self.port, seed + number) for number, name in enumerate(PARTS)}
        self.cgroups = {name: inside.Cgroup() for name in PARTS if name.startswith("agent")}
        self._skew = Skew(folder) if "clock" in self.abilities else None

    def _profile(self, name: str) -> str:
        path = Path(self.profile(name, DEVICE_FPS).removeprefix("emulated:"))
        profile = yaml.safe_load(path.read_text())
        ways = {"hang": {}, "fail": {"rate": 0.5}, "nan": {}, "abort": {"at": "inference"}}
        faults = {way: more | {"while_exists": str(self.flag(way, name))} for way, more in ways.items()}
        there = self.flag("gone", name)
        there.touch()
        path.write_text(yaml.safe_dump(profile | faults | {"device_file": str(there)}))
        return f"emulated:{path}"

    def user(self, part: str) -> str:
        """By whose credentials a part is known to the broker."""
        kind, _, unit = part.partition("-")
        return f"{AGENT}{self.hosts[unit]}" if kind == "agent" else kind.removesuffix("s")

    def flag(self, way: str, unit: str) -> Path:
        """The file that says whether a unit fails in that way; that of `gone` says that it is there."""
        return self.folder / f"{way}-{unit}"

    async def begin(self) -> dict[str, float]:
        """Start all parts; return how long each took to be there, s, started one by one."""
        for name, link in self.links.items():
            await link.open()
            url = f"nats://127.0.0.1:{link.port}"
            self._argv[name] = [url if word == self.url else word for word in self._argv[name]]
            if self._skew is not None:
                self.env_of[name] = self.env_of.get(name, {}) | self._skew.jumping(self._clock(name))
        self.start("broker")
        took = {}
        for name in PARTS:
            begun = time.monotonic()
            await asyncio.to_thread(self.start, name)
            ready = "serves" if name.startswith("agent") else "is ready"
            log = self.logs / f"{name}.log"
            await asyncio.to_thread(wait, lambda log=log, ready=ready: ready in log.read_text(), 60, f"{name} is ready")
            took[name] = time.monotonic() - begun
        return took

    async def keep(self) -> None:
        """Start parts again that end by themselves, until cancelled."""
        while True:
            await asyncio.sleep(AGAIN_S)
            for name, part in list(self.parts.items()):
                if part.poll() is not None and name not in self.down:
                    self.exits.append((name, part.returncode))
                    await asyncio.to_thread(self.start, name)

    def _clock(self, name: str) -> Path:
        return self.folder / f"clock-{name}"

    def start(self, name: str) -> None:
        super().start(name)
        if name in self.cgroups and "memory" in self.abilities:
            with suppress(OSError):
                self.cgroups[name].add(self.parts[name].pid)

    def signal(self, name: str, number: int) -> None:
        """Send a part's process a signal; the broker's is nats-server, which `hams-ctl up`'s own code watches."""
        with suppress(OSError, ValueError):
            os.kill(self.server_pid if name == "broker" else self.parts[name].pid, number)

    @property
    def server_pid(self) -> int:
        """Process id of nats-server."""
        return int((self._disks["store"] / PID_FILE).read_text())

    def until_listening(self) -> None:
        """Wait until nats-server takes connections."""
        wait(self._listens, 60, "the broker listens")

    async def end(self, logs: Path | None = None) -> None:
        """Stop all parts and links; copy the parts' logs to `logs`."""
        for way in ("hang", "fail", "nan", "abort"):
            for unit in UNITS:
                self.flag(way, unit).unlink(missing_ok=True)
        for part in self.parts.values():
            with suppress(ProcessLookupError):
                part.send_signal(signal.SIGCONT)
        self.signal("broker", signal.SIGCONT)
        await asyncio.to_thread(self.__exit__)
        for link in self.links.values():
            await link.close()
        for group in self.cgroups.values():
            group.close()
        if logs is not None:
            shutil.copytree(self.logs, logs, dirs_exist_ok=True)
            shutil.copy(self._disks["store"] / "nats-server.log", logs)
        if "mounts" in self.abilities:
            for place in self._disks.values():
                await asyncio.to_thread(inside.unmount, place)

    def groups(self) -> tuple[Path, Path]:
        """The group that is served all the time, with a stream that loses nothing and a live one; and another."""
        main, other = self.folder / "grey.yaml", self.folder / "other.yaml"
        spec = yaml.safe_load(self.group_file().read_text())
        video = self.folder / "small.avi"  # small, since frames of the far agent pass through a proxy in Python
        pictures = (np.full((SIZE[1], SIZE[0], 3), number * 4, np.uint8) for number in range(60))
        motion_jpeg.write(video, pictures, SIZE)
        played = {"source": str(video), "fps": FPS, "loop": True}
        streams = {name: played | {"mode": mode} for name, mode in STREAMS.items()}
        main.write_text(yaml.safe_dump(spec | {"results": {"keep": "1h"}, "strategy": "hfs", "streams": streams}))
        other.write_text(yaml.safe_dump(spec | {
            "name": "other", "strategy": "hfs", "streams": {"s": played | {"mode": "live", "fps": 5.0}}
        }))  # fmt: skip
        return main, other

    def move_clock(self, name: str, hours: float) -> None:
        """Let a part's clock jump."""
        jump(self._clock(name), hours)

    @contextmanager
    def full(self, disk: str) -> Iterator[None]:
        """Fill a disk to its last byte."""
        path = self._disks[disk] / "chaos-filler"
        try:
            with path.open("wb", buffering=0) as file, suppress(OSError):
                for size in (BLOCK, 4096, 1):
                    with suppress(OSError):
                        while file.write(bytes(size)):
                            pass
            yield
        finally:
            path.unlink(missing_ok=True)

    def part(self, name: str) -> Part:
        """What a part's process holds."""
        proc = Path(f"/proc/{self.server_pid if name == 'broker' else self.parts[name].pid}")
        memory_mib = round(usage(int(proc.name)).memory_mib, 1)
        return Part(memory_mib, len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir())))

    def orphans(self) -> list[str]:
        """Processes that no part has any more, by their command."""
        ours = {part.pid for part in self.parts.values()}
        found = []
        for proc in Path("/proc").iterdir():
            if not proc.name.isdigit() or int(proc.name) in ours or int(proc.name) == os.getpid():
                continue
            with suppress(OSError, IndexError):
                fields = (proc / "stat").read_text().rsplit(")", 1)[1].split()
                words = (proc / "cmdline").read_bytes().decode().replace("\0", " ")
                if int(fields[1]) == os.getpid() and fields[0] != "Z" and "hams_" in words:
                    found.append(f"{proc.name}: {words[:120]}")
        return found


def site(folder: Path) -> Folder:
    """Make a folder of credentials as `hams-ctl init` does, for the boxes of all agents."""
    set_up_site(folder, [], ["box", "far"], max_payload=MAX_PAYLOAD)
    return Folder(folder, MAX_PAYLOAD)


def abandoned() -> list[str]:
    """Shared memory whose owner has died; of mailboxes, which the next process that opens one deletes, beyond some."""
    found = []
    dead = [path.name for path in FOLDER.glob(f"{MAILBOXES}*") if _is_dead(path)]
    found += dead if len(dead) > MOST_DEAD else []
    for path in FOLDER.glob(f"{PREFIX}*"):
        with suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if lock(fd):
                    found.append(path.name)
            finally:
                os.close(fd)
    return found


def _is_dead(mailbox: Path) -> bool:
    """Whether nobody listens on a mailbox."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        return link.connect_ex(str(mailbox)) == errno.ECONNREFUSED


def abilities() -> frozenset[str]:
    """What this machine can do, as the kinds of faults need it."""
    found = set()
    if inside.is_inside():
        found.add("mounts")
    group = inside.Cgroup()
    if group.path is not None:
        found.add("memory")
        group.close()
    if shutil.which("cc") or shutil.which("gcc"):
        found.add("clock")
    return frozenset(found)
