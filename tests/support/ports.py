"""Ports for servers of tests: below those that the system gives to connections, which may take a free one meanwhile."""

from __future__ import annotations

import random
import socket

PORTS = range(15_000, 32_000)
"""Linux gives connections 32768 to 60999."""


def free_port(beside: int = 0) -> int:
    """A TCP port on the loopback that nobody has, as have not the `beside` next ones."""
    for _ in range(100):
        first = random.choice(PORTS)
        if all(map(_is_free, range(first, first + beside + 1))):
            return first
    raise AssertionError("no free port")


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
