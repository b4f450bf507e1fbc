"""What a confined child process tries."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path


def tries(read: list[str], write: list[str]) -> dict[str, str]:
    """Return what became of each try: ``yes``, or the error's name."""
    found: dict[str, str] = {}

    def attempt(name: str, what: Callable[[], object]) -> None:
        try:
            what()
            found[name] = "yes"
        except OSError as error:
            found[name] = type(error).__name__

    for path in read:
        attempt(f"read {path}", Path(path).read_bytes)
    for path in write:
        attempt(f"write {path}", lambda path=path: Path(path).write_bytes(b"x"))
    for family in ("AF_INET", "AF_INET6"):
        for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
            attempt(f"{family} {kind}", lambda a=family, b=kind: socket.socket(getattr(socket, a), getattr(socket, b)))
    attempt("socketpair", socket.socketpair)
    attempt("signal", lambda: os.kill(os.getppid(), 0))
    attempt("list", lambda: os.listdir(Path.home()))
    return found


def environment(names: list[str]) -> list[str | None]:
    """Return variables of this process."""
    return [os.environ.get(name) for name in names]
