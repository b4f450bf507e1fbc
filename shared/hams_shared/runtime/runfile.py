"""The file in the state folder that names a running `hams-ctl up`.

After a power cut the file is still there, and its process number may be another process's. So it also holds the
kernel's boot id and the start time of the process; without ``/proc`` the number alone counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hams_shared.errors import RefusedError
from hams_shared.runtime.files import write
from hams_shared.runtime.process import state_folder


def _path() -> Path:
    return state_folder() / "up.json"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _boot() -> str:
    """Return the id of the kernel's boot; empty: not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks since its boot; empty: not known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # field 22; the name, field 2, may hold anything


def _is_broker(pid: int) -> bool:
    """Whether the process is a nats-server; True where that is not known."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip() == "nats-server"
    except OSError:
        return True


def _same(then: object, now: str) -> bool:
    """Whether a noted fact still holds; one that was not noted, or is not known now, does not count."""
    return not then or not now or then == now


PID_FILE = "nats-server.pid"
"""In the store of a broker of `hams-ctl up`; the broker writes it at each of its starts."""


@dataclass(frozen=True)
class Found:
    """The content of the file: a running `hams-ctl up`."""

    pid: int
    url: str
    credentials: Path | None
    """Of an admin, where the broker asks for any."""
    store: Path | None = None
    """Where its own broker keeps what it stores."""


def running() -> Found | None:
    """The `hams-ctl up` that runs on this machine, if one does."""
    try:
        content = json.loads(_path().read_text(encoding="utf-8"))
        credentials, store = content.get("credentials"), content.get("store")
        found = Found(
            int(content["pid"]),
            str(content["url"]),
            Path(str(credentials)) if credentials else None,
            Path(str(store)) if store else None,
        )
        boot, started = content.get("boot"), content.get("started")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    same = _same(boot, _boot()) and _same(started, _started(found.pid))
    return found if same and _alive(found.pid) else None


def running_broker() -> int | None:
    """Process of the broker of the `hams-ctl up` that runs on this machine, if one does."""
    found = running()
    if found is None or found.store is None:
        return None
    try:
        pid = int((found.store / PID_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if _alive(pid) and _is_broker(pid) else None


def refuse_second() -> None:
    """Raise RefusedError when another `hams-ctl up` uses this state folder."""
    found = running()
    if found is not None and found.pid != os.getpid():
        raise RefusedError(
            f"hams-ctl up or join runs already (process {found.pid}, broker {found.url})",
            "stop it first, or set HAMS_HOME to another folder for a second one",
        )


@contextmanager
def announced(url: str, credentials: Path | None = None, store: Path | None = None) -> Iterator[None]:
    """Let other hams-ctl find the broker at `url`, the admin's credentials for it, and its store, while the block runs.

    Raises:
        OSError: the state folder cannot be written.
    """
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "pid": os.getpid(),
        "boot": _boot(),
        "started": _started(os.getpid()),
        "url": url,
        "credentials": str(credentials) if credentials else None,
        "store": str(store) if store else None,
    }
    write(path, json.dumps(content).encode(), 0o600)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
