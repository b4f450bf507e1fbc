"""Ports for servers of tests: below those that the system gives to connections, which may take a free one meanwhile."""

from __future__ import annotations

import os
import random
import socket

PORTS = range(15_000, 32_000)
"""Linux gives connections 32768 to 60999."""


def free_port(beside: int = 0, *, host: str = "127.0.0.1", udp: bool = False) -> int:
    """A port on `host`, of TCP or UDP, that nobody has, as have not the `beside` next ones."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    mine = _of_this_worker()
    for _ in range(100):
        first = random.choice(mine[: len(mine) - beside])
        if all(_is_free(host, port, kind) for port in range(first, first + beside + 1)):
            return first
    raise AssertionError("no free port")


def _of_this_worker() -> range:
    """Workers of pytest-xdist look for ports at the same time: each has a part of them to itself."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % count  # a new one counts on
    size = len(PORTS) // count
    return PORTS[number * size : (number + 1) * size]


def _is_free(host: str, port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as one:
        try:
            one.bind((host, port))
        except OSError:
            return False
        return True


def has_ipv6() -> bool:
    """Whether a server may listen on the loopback of IPv6."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
