"""A wire between two network namespaces that can be cut, delayed and made lossy, packet by packet.

Two TUN devices and a thread that carries packets between them. It does what `tc netem` does, and works also where the
kernel has no netem (many virtual machines: "Specified qdisc kind is unknown").
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time
from dataclasses import dataclass

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
QUEUE = 4000
"""Packets one direction holds; what comes beyond is dropped, as in a router."""


@dataclass(frozen=True)
class Way:
    """How one direction treats packets."""

    delay_s: float = 0.0
    loss: float = 0.0
    """0–1."""


CLEAR = Way()
CUT = Way(loss=1.0)


def _tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd


class Wire:
    """Carries packets between the devices `near` and `far` until closed; `ways` is (near to far, far to near)."""

    def __init__(self, near: str, far: str, seed: int = 7) -> None:
        self.ways = (CLEAR, CLEAR)
        self._fds = (_tun(near), _tun(far))
        self._random = random.Random(seed)
        self._held: tuple[list[tuple[float, int, bytes]], ...] = ([], [])
        self._count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        for fd in self._fds:
            os.close(fd)

    def _run(self) -> None:
        while not self._stop.is_set():
            due = [held[0][0] for held in self._held if held]
            wait = min(max(min(due) - time.monotonic(), 0.0), 0.1) if due else 0.1
            readable, _, _ = select.select(self._fds, [], [], wait)
            for fd in readable:
                self._take(self._fds.index(fd))
            now = time.monotonic()
            for side, held in enumerate(self._held):
                while held and held[0][0] <= now:
                    self._give(1 - side, heapq.heappop(held)[2])

    def _take(self, side: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(self._fds[side], 65536)
            except OSError:  # no more, or the device is down
                return
            way, held = self.ways[side], self._held[side]
            if self._random.random() < way.loss or len(held) >= QUEUE:
                continue
            if way.delay_s:
                self._count += 1
                heapq.heappush(held, (time.monotonic() + way.delay_s, self._count, packet))
            else:
                self._give(1 - side, packet)

    def _give(self, side: int, packet: bytes) -> None:
        try:
            os.write(self._fds[side], packet)
        except OSError:  # its device is down or full: lost, as on any wire
            return
