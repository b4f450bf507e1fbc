"""Each kind of fault as something that lasts for a while: what is done at its begin and at its end."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import nkeys

from benchmarks.chaos.faults import Fault
from benchmarks.chaos.observer import Observer
from benchmarks.chaos.proxy import CLEAR, Weather
from benchmarks.chaos.rig import ChaosRig
from hams_services.ctl.system import server_users
from hams_services.security.rotation import Folder
from hams_shared.bus.control import Control
from hams_shared.errors import HamsError, RefusedError
from hams_shared.runtime.credentials import load
from hams_shared.wire.messages.group import GroupRecord

DELAY_S, LOSS, REORDER_S = (0.02, 0.13), 0.1, 0.05
JUMP_H = 48.0
HOG = "import sys\nheld=[]\nwhile True: held.append(bytearray(b'x')*(4<<20))\n"
MORE_MIB = 24
OOM_S = 10.0
ROTATED_S = 30.0
MARKED_S = 2.0
"""How long a part may take to change to another key, s."""


class Actors:
    """Carries faults out on a system."""

    def __init__(self, rig: ChaosRig, observer: Observer, records: dict[str, GroupRecord]) -> None:
        self._rig = rig
        self._observer = observer
        self._records = records
        self._ways: dict[str, Callable[[Fault, str], AbstractAsyncContextManager[None]]] = {
            "kill": self._killed, "stop": self._stopped, "half-open": self._linked, "cut": self._linked,
            "delay": self._linked, "loss": self._linked, "reorder": self._linked, "clock-jump": self._moved,
            "store-full": self._full, "disk-full": self._full, "shm-full": self._full, "out-of-memory": self._starved,
            "slow-consumer": self._consumer, "stopped-consumer": self._consumer,
            "hang": self._ill, "fail": self._ill, "nan": self._ill, "abort": self._ill, "gone": self._ill,
            "deploy-change": self._changed, "deploy-other": self._other,
            "revoke": self._revoked, "rotate": self._rotated,
        }  # fmt: skip

    async def carry_out(self, fault: Fault) -> tuple[float, float]:
        """Return when the fault began and when its cause was gone, s, monotonic."""
        way = fault.kind if fault.kind in self._ways else fault.kind.split("-")[0]
        target = await self._named(fault.target)
        async with self._ways[way](fault, target):
            begun = time.monotonic()
            await asyncio.sleep(fault.seconds)
        return begun, time.monotonic()

    async def _named(self, target: str) -> str:
        """Return the part that is meant; where nobody leads, the first scheduler counts as the leader."""
        if target in ("serving", "spare"):
            serves = "agent-b" if self._observer.device.endswith(".b") else "agent-a"
            other = {"agent-a": "agent-b", "agent-b": "agent-a"}
            return serves if target == "serving" else other[serves]
        if target not in ("leader", "standby"):
            return target
        view = await self._observer.view()
        pid = view.leader.pid if view is not None and view.leader is not None else 0
        leads = next((name for name, part in self._rig.parts.items() if part.pid == pid), "scheduler-1")
        other = {"scheduler-1": "scheduler-2", "scheduler-2": "scheduler-1"}
        return leads if target == "leader" else other[leads]

    @asynccontextmanager
    async def _killed(self, fault: Fault, target: str) -> AsyncIterator[None]:
        if target == "broker":  # it is started again by its own supervisor
            self._rig.signal(target, signal.SIGKILL)
            yield
            await asyncio.to_thread(self._rig.until_listening)
            return
        async with self._down(target):
            self._rig.kill(target)
            yield

    @asynccontextmanager
    async def _down(self, target: str) -> AsyncIterator[None]:
        """Nobody starts it again meanwhile."""
        self._rig.down.add(target)
        try:
            yield
        finally:
            if self._rig.parts[target].poll() is not None:
                await asyncio.to_thread(self._rig.start, target)
            self._rig.down.discard(target)

    @asynccontextmanager
    async def _stopped(self, fault: Fault, target: str) -> AsyncIterator[None]:
        self._rig.signal(target, signal.SIGSTOP)
        try:
            yield
        finally:
            self._rig.signal(target, signal.SIGCONT)

    @asynccontextmanager
    async def _linked(self, fault: Fault, target: str) -> AsyncIterator[None]:
        delay = DELAY_S[0] + DELAY_S[1] * fault.value
        weather = {
            "half-open": Weather(open=False),
            "cut": Weather(refuses=True),
            "delay": Weather(delay_s=delay),
            "loss": Weather(loss=LOSS),
            "reorder": Weather(jitter_s=REORDER_S),
        }[fault.kind]
        self._rig.links[target].set(weather)
        try:
            yield
        finally:
            self._rig.links[target].set(CLEAR)

    @asynccontextmanager
    async def _moved(self, fault: Fault, target: str) -> AsyncIterator[None]:
        self._rig.move_clock(target, (2 * fault.value - 1) * JUMP_H)
        yield  # it stays so

    @asynccontextmanager
    async def _full(self, fault: Fault, target: str) -> AsyncIterator[None]:
        with self._rig.full(target):
            yield

    @asynccontextmanager
    async def _starved(self, fault: Fault, target: str) -> AsyncIterator[None]:
        """A process in the same group takes memory until the kernel kills the part, which it is told to prefer."""
        part, group = self._rig.parts[target], self._rig.cgroups[target]
        async with self._down(target):
            with suppress(OSError):
                await asyncio.to_thread(Path(f"/proc/{part.pid}/oom_score_adj").write_text, "1000")
                group.limit(MORE_MIB)
            hog = await asyncio.create_subprocess_exec(sys.executable, "-c", HOG, stderr=subprocess.DEVNULL)
            try:
                group.add(hog.pid)
                with suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(part.wait, OOM_S)
            finally:
                with suppress(ProcessLookupError):
                    hog.kill()
                await hog.wait()
                group.limit(None)
            yield

    @asynccontextmanager
    async def _consumer(self, fault: Fault, target: str) -> AsyncIterator[None]:
        """A client that subscribes to everything, pictures included, and hardly reads."""
        with await asyncio.to_thread(self._greedy) as link:
            reading = asyncio.create_task(_sip(link)) if fault.kind == "slow-consumer" else None
            try:
                yield
            finally:
                if reading is not None:
                    reading.cancel()
                    await asyncio.wait([reading])

    @asynccontextmanager
    async def _ill(self, fault: Fault, target: str) -> AsyncIterator[None]:
        """A device falls ill and recovers; an operator ends the quarantine that may follow."""
        unit = target.removeprefix("agent-")
        flag = self._rig.flag(fault.kind, unit)
        (flag.unlink if fault.kind == "gone" else flag.touch)()
        try:
            yield
        finally:
            (flag.touch if fault.kind == "gone" else flag.unlink)()
            await self._resume(f"{self._rig.hosts[unit]}.emulated.{unit}", MARKED_S if fault.kind == "abort" else 0.0)

    async def _resume(self, device: str, seconds: float) -> None:
        """As an operator does, for so long: a process that aborted has its fault recorded when it is back."""
        end = time.monotonic() + seconds
        while True:
            with suppress(HamsError):
                await Control(self._observer.hams.bus).resume(device)
            if time.monotonic() >= end:
                return
            await asyncio.sleep(0.25)

    @asynccontextmanager
    async def _changed(self, fault: Fault, target: str) -> AsyncIterator[None]:
        record = self._records[target]
        spec = record.spec.model_copy(update={"priority": 1 + round(9 * fault.value)})
        self._records[target] = record.model_copy(update={"spec": spec, "deployed_at": time.time()})
        await self._deploy(self._records[target])
        yield

    @asynccontextmanager
    async def _other(self, fault: Fault, target: str) -> AsyncIterator[None]:
        control = Control(self._observer.hams.bus)
        await self._deploy(self._records[target].model_copy(update={"deployed_at": time.time()}))
        try:
            yield
        finally:
            await control.undeploy(target)

    def _greedy(self) -> socket.socket:
        """Return the connection of a client that subscribes to everything."""
        link = socket.create_connection(("127.0.0.1", self._rig.port), timeout=5)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        options: dict[str, object] = {"verbose": False}
        if self._rig.site is not None:
            admin = load(self._rig.site.creds("admin"))
            nonce = json.loads(link.recv(4096).split(b" ", 1)[1])["nonce"]  # of INFO, which comes before TLS
            link = admin.tls().wrap_socket(link, server_hostname="127.0.0.1")
            pair = nkeys.from_seed(admin.seed.encode())
            signature = base64.urlsafe_b64encode(pair.sign(nonce.encode())).rstrip(b"=").decode()
            options |= {"nkey": pair.public_key.decode(), "sig": signature}
        link.sendall(f"CONNECT {json.dumps(options)}\r\nSUB hams.> 1\r\nSUB $KV.> 2\r\nPING\r\n".encode())
        link.setblocking(False)
        return link

    def _secured(self, target: str) -> tuple[Folder, str]:
        assert self._rig.site is not None
        return self._rig.site, self._rig.user(target)

    @asynccontextmanager
    async def _revoked(self, fault: Fault, target: str) -> AsyncIterator[None]:
        """As `hams-ctl credentials revoke` does, then `add`: the part reads its new key by itself."""
        site, user = self._secured(target)
        await asyncio.to_thread(site.revoke, user, time.time())
        try:
            await server_users.reload(self._rig.url, site)
            yield
        finally:
            await asyncio.to_thread(site.add, user)
            await server_users.reload(self._rig.url, site)

    @asynccontextmanager
    async def _rotated(self, fault: Fault, target: str) -> AsyncIterator[None]:
        """As `hams-ctl credentials rotate` does."""
        site, user = self._secured(target)
        await asyncio.to_thread(site.begin, user)
        await server_users.reload(self._rig.url, site)
        await asyncio.to_thread(site.switch, user)
        left = await server_users.until_unused(self._rig.url, site, user, ROTATED_S)
        if left:
            raise RefusedError(f"after {ROTATED_S:g} s the old key is still used by {', '.join(left)}")
        await asyncio.to_thread(site.finish, user)
        await server_users.reload(self._rig.url, site)
        yield

    async def _deploy(self, record: GroupRecord) -> None:
        await Control(self._observer.hams.bus).deploy(record)


async def _sip(link: socket.socket) -> None:
    while True:
        with suppress(BlockingIOError, ssl.SSLWantReadError, ConnectionError):
            link.recv(100)
        await asyncio.sleep(0.1)
